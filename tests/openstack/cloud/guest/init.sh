#!/bin/bash
# The first process of the test cloud's guest: what the config drive says, then sshd. It stands for cloud-init, of which
# it knows what Greenroom uses: logins and host keys of a #cloud-config in JSON, scripts, and several of them in one.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
export HOME=/root
mount -t proc p /proc
mount -t sysfs s /sys
mkdir -p /dev/pts /dev/shm
mount -t devpts d /dev/pts
mount -t tmpfs t /run
mkdir -p /run/sshd /run/config
ip link set lo up

find_drive() {
  local try device
  for try in 1 2 3 4 5 6 7 8 9 10; do
    for device in /dev/sr0 /dev/vdb /dev/sda /dev/vdc; do
      [ -b "$device" ] && mount -o ro "$device" /run/config 2> /dev/null && [ -d /run/config/openstack ] && return 0
      umount /run/config 2> /dev/null
    done
    sleep 0.2
  done
  return 1
}

dhcp() { busybox udhcpc -i "$1" -n -q -t 10 -T 1 -s /etc/udhcpc.sh; }

device_of() { # MAC
  local name
  for name in /sys/class/net/*; do
    [ "$(cat "$name/address")" = "$1" ] && basename "$name"
  done
}

prefix_of() { # NETMASK
  local bits=0 octet
  for octet in ${1//./ }; do
    while [ "$octet" -gt 0 ]; do bits=$((bits + (octet & 1))) octet=$((octet >> 1)); done
  done
  echo $bits
}

addresses() { # of one link: DEVICE ID
  jq -c --arg id "$2" '.networks[] | select(.link == $id)' "$data/network_data.json" | while read -r network; do
    case $(jq -r .type <<< "$network") in
      ipv4)
        ip addr add "$(jq -r .ip_address <<< "$network")/$(prefix_of "$(jq -r .netmask <<< "$network")")" dev "$1"
        jq -r '.routes[]? | "\(.network) \(.netmask) \(.gateway)"' <<< "$network" | while read -r net mask gateway; do
          ip route add "$net/$(prefix_of "$mask")" via "$gateway"
        done
        ;;
      ipv4_dhcp) dhcp "$1" ;;
    esac
  done
}

connect() {
  jq -r '.links[] | "\(.id) \(.ethernet_mac_address) \(.mtu // "")"' "$data/network_data.json" |
    while read -r id mac mtu; do
      device=$(device_of "$mac")
      [ -n "$device" ] || continue
      ip link set "$device" up
      [ -z "$mtu" ] || ip link set "$device" mtu "$mtu"
      addresses "$device" "$id"
    done
}

logins() { # authorized keys on standard input
  mkdir -p ~/.ssh
  cat >> ~/.ssh/authorized_keys
  chmod 700 ~/.ssh
  chmod 600 ~/.ssh/authorized_keys
}

# cloud-init's: does a thing once for each server, whose disk may have been another one's.
cat > /run/cloud-init-per << 'END'
#!/bin/sh
done=/var/lib/done/$(jq -r .uuid /run/config/openstack/latest/meta_data.json)-$2
[ ! -e "$done" ] || exit 0
mkdir -p /var/lib/done
shift 2
"$@" && : > "$done"
END
chmod 755 /run/cloud-init-per
PATH=/run:$PATH

obey() { # FILE of user data
  case $(head -n 1 "$1") in
    "#cloud-config"*)
      tail -n +2 "$1" > /run/cloud-config.json
      jq -r '.bootcmd[]? | @sh' /run/cloud-config.json > /run/bootcmd
      sh /run/bootcmd
      jq -r '.ssh_authorized_keys[]?' /run/cloud-config.json | logins
      if jq -e .ssh_keys.ed25519_private /run/cloud-config.json > /dev/null; then
        (umask 077 && jq -r .ssh_keys.ed25519_private /run/cloud-config.json > /etc/ssh/ssh_host_ed25519_key)
        jq -r .ssh_keys.ed25519_public /run/cloud-config.json > /etc/ssh/ssh_host_ed25519_key.pub
      fi
      rm /run/cloud-config.json
      ;;
    "#!"*) install -m 700 "$1" /run/script && /run/script > /var/log/user-data.log 2>&1 ;;
    [Cc]ontent-[Tt]ype*)
      mkdir -p /run/parts
      python3 -c 'import email, sys
message = email.message_from_file(open(sys.argv[1]))
parts = [part for part in message.walk() if not part.is_multipart()]
for number, part in enumerate(parts):
    open(f"/run/parts/{number:03}", "wb").write(part.get_payload(decode=True))' "$1"
      for part in /run/parts/*; do obey "$part"; done
      ;;
  esac
}

if find_drive; then
  data=/run/config/openstack/latest
  hostname "$(jq -r '.hostname // "guest"' $data/meta_data.json)"
  jq -r '.public_keys // {} | .[]' $data/meta_data.json | logins
  connect
  [ ! -e $data/user_data ] || obey $data/user_data
else
  for name in /sys/class/net/*; do
    ip link set "$(basename "$name")" up
    dhcp "$(basename "$name")"
  done
fi
[ -e /etc/ssh/ssh_host_ed25519_key ] || ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key
/usr/sbin/sshd -o UseDNS=no -o PrintMotd=no
echo "GUEST READY $(cut -d' ' -f1 /proc/uptime)"
trap 'sync; busybox poweroff -f' TERM USR2
trap 'sync; busybox reboot -f' INT
while :; do
  sleep 3600 &
  wait $!
done
