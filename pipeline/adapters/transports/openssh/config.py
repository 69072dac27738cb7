"""What ssh is told: a configuration of our own, exactly the given host keys, nothing of the machine's or the user's."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

from pipeline.domain.errors import UserError
from pipeline.ports.transports import NodeAccess

#: Seconds until a login counts as not answered, and between two questions whether the node is still there (three
#: without an answer end the connection).
CONNECT_S = 10
ALIVE_S = 5
#: Seconds after which an unused kept connection ends by itself, should nobody close it.
PERSIST_S = 600

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_WORD = re.compile(r"[A-Za-z0-9_.:%-]+")
_HOST_KEY = re.compile(r"[a-z0-9@.-]+ [A-Za-z0-9+/=]+( [^\r\n]*)?")

_COMMON = f"""\
Host *
  BatchMode yes
  StrictHostKeyChecking yes
  GlobalKnownHostsFile /dev/null
  CheckHostIP no
  UpdateHostKeys no
  VerifyHostKeyDNS no
  IdentitiesOnly yes
  IdentityAgent none
  PreferredAuthentications publickey
  ForwardAgent no
  ForwardX11 no
  ClearAllForwardings yes
  ConnectTimeout {CONNECT_S}
  ServerAliveInterval {ALIVE_S}
  ServerAliveCountMax 3
  EscapeChar none
  LogLevel ERROR
"""


def checked_name(name: str) -> str:
    """A name that may be part of a path and of an ssh configuration. Errors: UserError."""
    if not _NAME.fullmatch(name):
        raise UserError(f"{name!r} is no name of a node or environment: use letters, digits, `-`, `_` and `.`")
    return name


def socket_name(node: NodeAccess) -> str:
    """Name of the control socket: another address, port, user or host key is another connection."""
    identity = f"{node.address}\n{node.port}\n{node.user}\n{node.host_public_key}"
    return f"{checked_name(node.name)}-{hashlib.sha256(identity.encode()).hexdigest()[:8]}.sock"


def known_hosts(nodes: Sequence[NodeAccess]) -> str:
    """One line a node, under its name (`HostKeyAlias`)."""
    return "".join(f"{checked_name(node.name)} {_checked(_HOST_KEY, node.host_public_key)}\n" for node in nodes)


def kept_connections(nodes: Sequence[NodeAccess]) -> str:
    """Configuration for ssh run inside the environment's directory; its paths are relative and so always short."""
    hosts = "".join(_host(node) + f"  ControlPath ./{socket_name(node)}\n" for node in nodes)
    return f"{hosts}{_COMMON}  IdentityFile ./key\n  UserKnownHostsFile ./known_hosts\n  ControlPersist {PERSIST_S}\n"


def for_a_person(nodes: Sequence[NodeAccess], directory: str) -> str:
    """Configuration that works from any directory."""
    place = directory.replace("%", "%%")
    files = f'  IdentityFile "{place}/key"\n  UserKnownHostsFile "{place}/known_hosts"\n'
    return "".join(_host(node) for node in nodes) + _COMMON + files


def _host(node: NodeAccess) -> str:
    name = checked_name(node.name)
    return (
        f"Host {name}\n  HostName {_checked(_WORD, node.address).replace('%', '%%')}\n  Port {node.port:d}\n"
        f"  User {_checked(_WORD, node.user)}\n  HostKeyAlias {name}\n"
    )


def _checked(pattern: re.Pattern[str], value: str) -> str:
    if not pattern.fullmatch(value):
        raise UserError(f"{value!r} cannot stand in an ssh configuration")
    return value
