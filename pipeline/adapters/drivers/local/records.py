"""What the helper writes down before it makes anything: who owns it, and how to recognise it after a crash."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pipeline.adapters.drivers.local.image import SHIFT
from pipeline.adapters.drivers.local.process import boot_id

RUN = Path("/run/greenroom")


@dataclass(frozen=True)
class EnvironmentRecord:
    """An environment: `subnet` is `10.211.7` for 10.211.7.0/24, `addresses` the last part of each node's address.

    A node keeps its address for the life of the environment, also when it is made again.
    `networked` says that the network was finished.
    """

    deployment: str
    environment_id: str
    ends_at: float
    subnet: str
    link: str
    addresses: dict[str, int] = field(default_factory=dict)
    networked: bool = False
    boot: str = field(default_factory=boot_id)

    def address(self, node: str) -> str:
        return f"{self.subnet}.{self.addresses[node]}"


@dataclass(frozen=True)
class NodeRecord:
    """A node: `state` is `building`, `active` or `error`; `pid` and `started` name its first process.

    `machine` is the one of the inventory that placement put it on, of those that this machine poses as.
    """

    deployment: str
    environment_id: str
    name: str
    ends_at: float
    role: str
    image: str
    memory_mib: int
    address: str
    throttled: bool
    state: str = "building"
    pid: int = 0
    started: int = 0
    fault: str = ""
    boot: str = field(default_factory=boot_id)
    machine: str = ""


class Records:
    """The records of one deployment: `STATE/deployments/DEPLOYMENT/ENVIRONMENT/nodes/NODE`."""

    def __init__(self, state: Path, deployment: str) -> None:
        self.state = state
        self.deployment = deployment
        self.home = state / "deployments" / deployment
        self.runc_root = RUN / deployment / "runc"

    def prepare(self) -> None:
        """Make the directories; a node's root must be able to pass them, and nobody else."""
        for place in (self.state, self.state / "deployments"):
            place.mkdir(mode=0o711, parents=True, exist_ok=True)
        self.home.mkdir(exist_ok=True)
        _for_nodes(self.home)
        self.runc_root.mkdir(mode=0o700, parents=True, exist_ok=True)

    def environment_place(self, environment_id: str) -> Path:
        return self.home / environment_id

    def node_place(self, environment_id: str, node: str) -> Path:
        return self.home / environment_id / "nodes" / node

    def environment_ids(self) -> list[str]:
        return _names(self.home)

    def node_names(self, environment_id: str) -> list[str]:
        return _names(self.environment_place(environment_id) / "nodes")

    def environment(self, environment_id: str) -> EnvironmentRecord | None:
        said = _read(self.environment_place(environment_id) / "environment.json")
        with contextlib.suppress(TypeError):  # another version of Greenroom wrote it
            return EnvironmentRecord(**said)
        return None

    def node(self, environment_id: str, node: str) -> NodeRecord | None:
        said = _read(self.node_place(environment_id, node) / "node.json")
        with contextlib.suppress(TypeError):  # another version of Greenroom wrote it
            return NodeRecord(**said)
        return None

    def nodes(self) -> list[NodeRecord]:
        """All nodes of the deployment that have a readable record."""
        found = (self.node(place, name) for place in self.environment_ids() for name in self.node_names(place))
        return [record for record in found if record is not None]

    def save_environment(self, record: EnvironmentRecord) -> None:
        place = self.environment_place(record.environment_id)
        (place / "nodes").mkdir(parents=True, exist_ok=True)
        _for_nodes(place)
        _for_nodes(place / "nodes")
        _write(place / "environment.json", asdict(record))

    def save_node(self, record: NodeRecord) -> None:
        place = self.node_place(record.environment_id, record.name)
        place.mkdir(exist_ok=True)
        _for_nodes(place)
        _write(place / "node.json", asdict(record))


def _for_nodes(place: Path) -> None:
    """Let a node's root pass: an ordinary user must not reach setuid programs that a node's root made."""
    os.chown(place, 0, SHIFT)
    place.chmod(0o710)


def _names(place: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in os.scandir(place) if entry.is_dir(follow_symlinks=False))
    except FileNotFoundError:
        return []


def _read(path: Path) -> dict[str, Any]:
    """Read a record; empty when there is none or a crash of the machine cut it short."""
    try:
        said = json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return {}
    return said if isinstance(said, dict) else {}


def _write(path: Path, said: dict[str, object]) -> None:
    """Replace a record whole; a reader sees the old or the new one."""
    fresh = path.with_name(path.name + ".new")
    fresh.write_text(json.dumps(said))
    fresh.replace(path)
