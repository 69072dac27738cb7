"""What is run on a registered machine, as root, by a POSIX shell; all that varies stands in variables.

`OWNER` is the deployment, `TURN` the turn, `LOGIN` the user of the service, `SERVICE` its key, `KEYS` those of a lease,
`LEASE` its mark.
"""

from __future__ import annotations

#: Where a machine keeps what it is told: its owner, the last turn, its lease, the hostname that it had.
MARKS = "/etc/greenroom"
#: The exit status of a machine that heard of a later turn.
LATE = 75

#: Read by `look`: a line each for the owner, the turn and the lease; empty where there is none.
LOOK = f"""\
for mark in owner turn lease; do echo "$(cat {MARKS}/$mark 2>/dev/null)"; done
"""

_BEGIN = f"""\
set -eu
umask 077
marks={MARKS}
mkdir -p "$marks"
exec 9>"$marks/lock"
if command -v flock >/dev/null; then flock -w 20 9; fi
heard=$(cat "$marks/turn" 2>/dev/null || echo 0)
[ "$heard" -le "$TURN" ] || exit {LATE}
echo "$TURN" >"$marks/turn"
echo "$OWNER" >"$marks/owner"
home_of() {{ getent passwd "$1" | cut -d: -f6; }}
let_in() {{
  home=$(home_of "$1")
  mkdir -p "$home/.ssh"
  printf '%s' "$2" >"$home/.ssh/keys.greenroom"
  chown "$1" "$home/.ssh" "$home/.ssh/keys.greenroom"
  mv -f "$home/.ssh/keys.greenroom" "$home/.ssh/authorized_keys"
}}
only() {{
  getent passwd | cut -d: -f6 | sort -u | while IFS= read -r home; do
    rm -f "$home/.ssh/authorized_keys2"
    case "$home" in
      "$(home_of root)" | "$(home_of "$LOGIN")") ;;
      *) rm -f "$home/.ssh/authorized_keys" ;;
    esac
  done
  if [ "$LOGIN" = root ]; then
    let_in root "$SERVICE
$1"
  else
    let_in "$LOGIN" "$SERVICE
"
    let_in root "$1"
  fi
}}
"""

#: Whole or not at all: a machine whose mark was cut short would be nobody's.
_MARK = """\
printf '%s\\n' "$LEASE" >"$marks/lease.new"
mv -f "$marks/lease.new" "$marks/lease"
"""

MARK = _BEGIN + _MARK

HAND_OVER = (
    _BEGIN
    + """\
[ -f "$marks/hostname" ] || hostname >"$marks/hostname"
"""
    + _MARK
    + """\
only "$KEYS"
hostname "$NODE" 2>/dev/null || true
"""
)

TAKE_BACK = (
    _BEGIN
    + """\
only ''
own=' 1 '
at=$$
while [ "$at" -gt 1 ]; do
  own="$own$at "
  at=$(sed 's/^.*) . \\([0-9]*\\) .*/\\1/' "/proc/$at/stat")
done
for process in /proc/[0-9]*; do
  case "$(cat "$process/comm" 2>/dev/null || true)" in
    sshd | sshd-session | sshd-auth) ;;
    *) continue ;;
  esac
  case "$own" in
    *" ${process#/proc/} "*) ;;
    *) kill -s KILL "${process#/proc/}" 2>/dev/null || true ;;
  esac
done
rm -f "$marks/lease"
if [ -f "$marks/hostname" ]; then
  hostname "$(cat "$marks/hostname")" 2>/dev/null || true
  rm -f "$marks/hostname"
fi
"""
)

FORGET = _BEGIN + 'rm -f "$marks/lease" "$marks/owner"\n'
