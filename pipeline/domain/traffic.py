"""What a router is told of an environment, and what it says of the traffic there."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, replace

from pipeline.domain.errors import UserError

#: RFC 1123: labels of letters, digits and inner dashes, in small letters as routers compare them.
_HOST = re.compile(r"(?=.{1,253}\Z)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)+", re.ASCII)
#: What of a URL needs no quoting in anybody's configuration.
_PATH = re.compile(r"/[A-Za-z0-9._~/?&=+-]{0,200}", re.ASCII)
MOST_PORT = 65535
TLS_PORT = 443


@dataclass(frozen=True)
class Door:
    """Where an environment answers requests: every node of `role` at `port`, well while `path` is answered."""

    role: str
    port: int
    path: str = "/"


@dataclass(frozen=True)
class Target:
    """One server that answers requests; `address` is an IP address."""

    address: str
    port: int


@dataclass(frozen=True)
class Backend:
    """What answers for an environment; no target: nothing does now. `host` is its own name, empty: it has none.

    `health` is the path that answers 2xx or 3xx while a target is well. `sticky`: a visitor stays with one target.
    """

    environment: str
    targets: tuple[Target, ...]
    host: str = ""
    health: str = "/"
    sticky: bool = False


@dataclass(frozen=True)
class Reading:
    """Of one environment: requests and connections that are open now; answers since it was registered, errors (5xx,
    those of the router in its place included) among them; targets, and how many of them are up.
    """

    sessions: int
    answers: int
    errors: int
    up: int
    targets: int


def same(one: Backend | None, other: Backend) -> bool:
    """Whether requests end the same, whatever the order in which targets are named."""
    return one is not None and replace(one, targets=()) == replace(other, targets=()) and _set(one) == _set(other)


def _set(backend: Backend) -> frozenset[Target]:
    return frozenset(backend.targets)


def url_of(host: str, bind: str, tls_bind: str = "") -> str:
    """How a browser reaches a host behind a router that listens there (HOST:PORT each): by TLS where it can."""
    scheme, at, usual = ("https", tls_bind, "443") if tls_bind else ("http", bind, "80")
    port = at.rpartition(":")[2]
    return f"{scheme}://{host}/" if port == usual else f"{scheme}://{host}:{port}/"


def url_at(host: str, port: int) -> str:
    """The same where the nodes themselves answer at a port of the host: by TLS at the port that is for that."""
    return url_of(host, "", f":{port}") if port == TLS_PORT else url_of(host, f":{port}")


def checked_host(text: str) -> str:
    """A name that a router can compare with what requests ask for; UserError."""
    host = text.lower()
    if not _HOST.fullmatch(host):
        raise UserError(f"{text[:80]!r} is no host name; say one such as shop.test.example")
    return host


def checked_backend(backend: Backend) -> Backend:
    """What may stand in a router's configuration; UserError names what may not."""
    if backend.host:
        checked_host(backend.host)
    check_path(backend.health)
    for target in backend.targets:
        ipaddress.ip_address(target.address)
        check_port(target.port)
    return backend


def check_path(path: str) -> None:
    """UserError when it is no path of a URL."""
    if not _PATH.fullmatch(path):
        raise UserError(f"{path[:80]!r} is no path to look at; say one such as /health")


def check_port(port: int) -> None:
    """UserError when it is no TCP port."""
    if not 1 <= port <= MOST_PORT:
        raise UserError(f"{port} is no port; say one from 1 to {MOST_PORT}")
