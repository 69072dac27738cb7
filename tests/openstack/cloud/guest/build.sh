#!/bin/bash
# build.sh DIRECTORY: make root.qcow2, vmlinuz and initrd of a small Debian there, unless they were made from these files.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
cd "$1"
key=$(cat "$here"/* | sha256sum | cut -c1-16)
[ "$(cat made 2> /dev/null)" != "$key" ] || exit 0
rm -rf made rootfs initrd.d
mmdebstrap --variant=minbase \
  --include=openssh-server,iproute2,iputils-ping,busybox-static,jq,procps,python3,curl,linux-image-cloud-amd64 \
  --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
  --dpkgopt='path-exclude=/usr/share/man/*' \
  --customize-hook='rm -rf "$1"/var/cache/apt/* "$1"/var/lib/apt/lists/*' bookworm rootfs
cp rootfs/boot/vmlinuz-* vmlinuz
version=$(ls rootfs/lib/modules)
mkdir -p initrd.d/{bin,proc,sys,dev,new,lib/modules}
cp rootfs/bin/busybox initrd.d/bin/busybox
ln -s busybox initrd.d/bin/sh
number=0
for module in $(for name in virtio_pci virtio_blk virtio_net virtio_scsi sr_mod isofs ext4 virtio_rng; do
  modprobe -d "$PWD/rootfs" -S "$version" --show-depends $name 2> /dev/null || true
done | awk '$1 == "insmod" && !seen[$2]++ {print $2}'); do
  number=$((number + 1))
  cp "$module" "initrd.d/lib/modules/$(printf %02d $number)-$(basename "$module")"
done
install -m 755 "$here/initrd.sh" initrd.d/init
(cd initrd.d && find . | cpio -o -H newc --quiet | gzip -6) > initrd
rm -rf rootfs/lib/modules/* rootfs/boot/* rootfs/etc/ssh/ssh_host_* rootfs/etc/mtab rootfs/sbin/init
install -m 755 "$here/init.sh" rootfs/sbin/init
install -m 755 "$here/udhcpc.sh" rootfs/etc/udhcpc.sh
rm -f root.ext4
truncate -s 900M root.ext4
mke2fs -q -t ext4 -O ^has_journal,^metadata_csum -m 0 -d rootfs root.ext4
qemu-img convert -c -O qcow2 root.ext4 root.qcow2
rm -rf root.ext4 rootfs initrd.d
echo "$key" > made
