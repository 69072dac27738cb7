"""HAProxy's configuration and maps as texts, of what was told to it."""

from __future__ import annotations

from importlib.resources import files
from string import Template

from pipeline.adapters.routers.haproxy.layout import Layout, Told
from pipeline.domain.errors import UserError
from pipeline.domain.traffic import Backend

#: Where a place leads that nobody has; it is disabled, so nothing is ever sent there.
NOBODY = "127.0.0.1:1"


def configuration(layout: Layout, told: Told) -> str:
    """The whole file; UserError when it would listen nowhere."""
    template = Template(files(__package__).joinpath("haproxy.cfg.tpl").read_text())
    return template.substitute(
        socket=layout.socket,
        binds="\n".join(_binds(layout)),
        routes=layout.routes,
        hosts=layout.hosts,
        backends="\n\n".join(_backend(layout, place, told.placed.get(place)) for place in layout.places),
    )


def hosts(told: Told) -> str:
    return _lines({one.host: place for place, one in told.placed.items() if one.host})


def routes(told: Told) -> str:
    places = {host: told.place_of(environment) for host, environment in told.routes.items()}
    return _lines({host: place for host, place in places.items() if place is not None})


def checks(told: Told) -> str:
    return _lines({place: one.health for place, one in told.placed.items()})


def server(number: int) -> str:
    """The name of a place for a server."""
    return f"s{number}"


def _lines(entries: dict[str, str]) -> str:
    return "".join(f"{key} {value}\n" for key, value in sorted(entries.items()))


def _binds(layout: Layout) -> list[str]:
    binds = [f"    bind {layout.bind}"] if layout.bind else []
    if layout.tls_bind and layout.certificate is not None:
        binds.append(f"    bind {layout.tls_bind} ssl crt {layout.certificate} alpn h2,http/1.1")
    if not binds:
        raise UserError("the router listens nowhere: set `bind`, or `tls_bind` with a certificate, in its settings")
    return binds


def _backend(layout: Layout, place: str, backend: Backend | None) -> str:
    sticky = place in layout.of_kind(sticky=True)
    lines = [
        f"backend {place}",
        "    http-request disable-l7-retry unless METH_GET or { method HEAD OPTIONS }",
        "    option httpchk",
        f'    http-check send meth GET uri-lf "%[be_name,map({layout.checks},/)]" ver HTTP/1.1 hdr Host greenroom',
        "    http-check expect rstatus ^[23]",
    ]
    if sticky:
        lines.append("    cookie GREENROOM insert indirect nocache httponly")
    targets = backend.targets if backend is not None else ()
    for number in range(1, layout.targets + 1):
        told = targets[number - 1] if number <= len(targets) else None
        where = f"{told.address}:{told.port}" if told else f"{NOBODY} disabled"
        lines.append(f"    server {server(number)} {where}{f' cookie {server(number)}' if sticky else ''}")
    return "\n".join(lines)
