#!/bin/sh
# Finds the root disk. virtio_net without checksum and segmentation offload: the switch, which is no kernel, does neither.
box=/bin/busybox
$box mount -t proc p /proc
$box mount -t sysfs s /sys
$box mount -t devtmpfs d /dev
for module in /lib/modules/*.ko; do
  case $module in
    *virtio_net*) $box insmod "$module" csum=0 gso=0 ;;
    *) $box insmod "$module" ;;
  esac
done
for _ in 1 2 3 4 5 6 7 8 9 10; do
  [ -b /dev/vda ] && break
  $box sleep 0.1
done
$box mount -t ext4 -o noatime /dev/vda /new
$box mount --move /dev /new/dev
$box umount /sys /proc
exec $box switch_root /new /sbin/init
