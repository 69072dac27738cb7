"""Where the test cloud keeps what, and on which ports it answers."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
#: Everybody's password: the cloud listens on loopback alone, and holds nothing.
PASSWORD = "ostack"
HOST = "127.0.0.1"
REGION = "RegionOne"


@dataclass(frozen=True)
class Ports:
    """Each service's port, counted from a base."""

    base: int = 26000

    def __getattr__(self, name: str) -> int:
        if name not in ORDER:
            raise AttributeError(name)
        return self.base + ORDER.index(name)


ORDER = ("keystone", "glance", "placement", "neutron", "nova", "mariadb", "rabbitmq", "epmd", "distribution")


@dataclass(frozen=True)
class State:
    """`root` is kept between two clouds: programs, images and empty schemas; `run` belongs to the one that stands."""

    root: Path
    ports: Ports

    @property
    def venv(self) -> Path:
        return self.root / "venv"

    @property
    def python(self) -> Path:
        return self.venv / "bin/python"

    @property
    def cache(self) -> Path:
        return self.root / "cache"

    @property
    def guest(self) -> Path:
        return self.cache / "guest"

    @property
    def run(self) -> Path:
        return self.root / "run"

    @property
    def etc(self) -> Path:
        return self.run / "etc"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def clouds(self) -> Path:
        """The `clouds.yaml`, there when the cloud is."""
        return self.run / "clouds.yaml"

    @property
    def hypervisor_mark(self) -> Path:
        """There when the real hypervisor is."""
        return self.run / "real-1"

    def url(self, service: str) -> str:
        return f"http://{HOST}:{getattr(self.ports, service)}"


def of_environment() -> State:
    """`$GREENROOM_OPENSTACK_STATE`, else below the user's cache; ports from `$GREENROOM_OPENSTACK_PORTS` on."""
    root = os.environ.get("GREENROOM_OPENSTACK_STATE") or Path.home() / ".cache/greenroom-openstack"
    base = int(os.environ.get("GREENROOM_OPENSTACK_PORTS") or Ports.base)
    return State(Path(root).resolve(), Ports(base))
