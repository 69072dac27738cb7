"""The configuration files, as templates in `etc` whose `$words` are filled in."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from string import Template

from tests.openstack.cloud.state import HERE, HOST, PASSWORD, REGION, State

#: Files of the control plane and where each lies below `State.etc`: some services read a directory.
PLANE = {
    "keystone.conf": "keystone",
    "glance-api.conf": "glance",
    "placement.conf": "placement",
    "nova.conf": "nova",
    "neutron.conf": "neutron",
    "rabbitmq.conf": "",
}
SERVICES = ("nova", "neutron", "glance", "placement")


def words(state: State) -> dict[str, str]:
    """What the templates may say."""
    common = {
        "run": str(state.run),
        "logs": str(state.logs),
        "venv": str(state.venv),
        "db": database_url(state),
        "queue": f"rabbit://os:{PASSWORD}@{HOST}:{state.ports.rabbitmq}/",
        "glance": state.url("glance"),
        "rabbitmq": str(state.ports.rabbitmq),
        "password": PASSWORD,
        "ovs": str(state.run / "ovs"),
    }
    return {**common, **{f"auth_{service}": _auth(state, service) for service in SERVICES}}


def database_url(state: State) -> str:
    return f"mysql+pymysql://os:{PASSWORD}@{HOST}:{state.ports.mariadb}"


def _auth(state: State, user: str) -> str:
    lines = {
        "auth_type": "password",
        "auth_url": f"{state.url('keystone')}/v3",
        "www_authenticate_uri": f"{state.url('keystone')}/v3",
        "username": user,
        "password": PASSWORD,
        "project_name": "service",
        "user_domain_name": "Default",
        "project_domain_name": "Default",
        "region_name": REGION,
        "service_token_roles": "service",
        "service_token_roles_required": "true",
    }
    return "\n".join(f"{name} = {value}" for name, value in lines.items())


def render(name: str, to: Path, known: Mapping[str, str]) -> Path:
    """Write one file; KeyError names a word that nobody knows."""
    to.parent.mkdir(parents=True, exist_ok=True)
    to.write_text(Template((HERE / "etc" / name).read_text()).substitute(known))
    return to


def write_plane(state: State) -> None:
    """All files of the control plane."""
    known = words(state)
    for name, place in PLANE.items():
        render(name, state.etc / place / name, known)
    paste = state.etc / "nova/api-paste.ini"
    paste.write_bytes((state.venv / "etc/nova/api-paste.ini").read_bytes())
