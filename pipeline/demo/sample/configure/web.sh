#!/bin/sh
# Prepares a node for the role web as the cookbook webapp does, for nodes without a Chef client.
set -eu

keep() { # FILE MODE, content on stdin: written only when it differs
  cat > "$1.new"
  chmod "$2" "$1.new"
  if [ -e "$1" ] && cmp -s "$1" "$1.new"; then
    rm "$1.new"
    echo "greenroom: unchanged $1"
  else
    mv "$1.new" "$1"
    echo "greenroom: updated $1"
  fi
}

directory() { # PATH OWNER MODE
  if [ "$(stat -c '%U %a' "$1" 2> /dev/null)" = "$2 $3" ]; then
    echo "greenroom: unchanged $1"
  else
    mkdir -p "$1"
    chown "$2:$2" "$1"
    chmod "$3" "$1"
    echo "greenroom: updated $1"
  fi
}

if id -u shop > /dev/null 2>&1; then
  echo "greenroom: unchanged user shop"
else
  useradd --system --user-group --home-dir /srv/shop --no-create-home --shell /usr/sbin/nologin shop
  echo "greenroom: updated user shop"
fi

directory /srv/shop root 755
directory /etc/shop root 755
directory /var/log/shop shop 755
directory /usr/local/lib/greenroom root 755

database=$(while read -r _ role address; do [ "$role" != db ] || { echo "$address"; break; }; done < "$GREENROOM_HOSTS")
keep /etc/shop/web.conf 644 << END
port = ${GREENROOM_ATTR_SHOP_PORT:-8080}
database_host = ${database:-127.0.0.1}
database_port = ${GREENROOM_ATTR_SHOP_DATABASE_PORT:-7000}
END

keep /usr/local/lib/greenroom/supervise 755 << 'END'
#!/bin/sh
# Runs a command again whenever it ends, and ends it when told to end.
trap 'kill "$child" 2>/dev/null; wait "$child"; exit 0' TERM INT
while :; do
  "$@" &
  child=$!
  wait "$child"
  sleep 1
done
END

keep /usr/local/sbin/shop-web 755 << 'END'
#!/bin/sh
# Controls shop-web; start-stop-daemon detaches it from the caller.
pidfile=/run/shop-web.pid
start() {
  start-stop-daemon --start --oknodo --quiet --background --make-pidfile --pidfile "$pidfile" \
    --chuid shop --chdir /srv/shop/current --output /var/log/shop/web.log \
    --startas /usr/local/lib/greenroom/supervise -- /srv/shop/current/bin/web
}
stop() {
  start-stop-daemon --stop --oknodo --quiet --retry TERM/10/KILL/5 --remove-pidfile --pidfile "$pidfile"
}
case "$1" in
  start) start ;;
  stop) stop ;;
  restart) stop && start ;;
  status) start-stop-daemon --status --pidfile "$pidfile" ;;
  *) echo "usage: $0 start|stop|restart|status" >&2; exit 2 ;;
esac
END
