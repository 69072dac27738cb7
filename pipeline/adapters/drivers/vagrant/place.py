"""The directory of one environment: its Vagrantfile, what is to be in it, and what Vagrant knows of its machines."""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Machines = Mapping[str, Mapping[str, Any]]
#: Names the nodes that are made just now.
MAKING = "making"


@dataclass(frozen=True)
class Place:
    """`path` need not exist yet; `provider` is the one that Vagrant is told of."""

    path: Path
    provider: str

    @property
    def environment_id(self) -> str:
        return self.path.name

    def exists(self) -> bool:
        return self.path.is_dir()

    def open(self, templates: Path) -> None:
        """Make the directory, with the templates as they are now."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        for template in (templates / "Vagrantfile", templates / self.provider / "provider.rb"):
            shutil.copyfile(template, self.path / template.name)

    def ends_at(self) -> float:
        """When the environment's lease ends (epoch seconds); 0 when that is not to be read."""
        return float(self._said().get("ends_at", 0.0))

    def owner(self) -> str:
        """The run that it was made for; empty when there was none, or that is not to be read."""
        return str(self._said().get("owner", ""))

    def machines(self) -> Machines:
        """What is to be there, by node, as the provider's piece of the Vagrantfile reads it."""
        machines: Machines = self._said().get("machines", {})
        return machines

    def write(self, ends_at: float, owner: str, machines: Machines) -> None:
        """Say what is to be there; a reader sees the old or the new."""
        fresh = self.path / "environment.json.new"
        fresh.write_text(json.dumps({"ends_at": ends_at, "owner": owner, "machines": machines}, indent=1))
        fresh.replace(self.path / "environment.json")

    def tell(self, ids: Mapping[str, str]) -> None:
        """Let Vagrant know these machines by their ids, and no other: it believes what it finds here.

        A machine whose making was interrupted is unknown to it though it exists, and one that was removed behind its
        back makes it fail for all.
        """
        known = self.path / ".vagrant/machines"
        for old in known.glob("*"):
            if old.name not in ids:
                shutil.rmtree(old)
        for node, id in ids.items():
            place = known / node / self.provider
            place.mkdir(parents=True, exist_ok=True)
            (place / "id").write_text(id)

    def forget(self, nodes: Collection[str]) -> None:
        """These nodes are not to be there any more."""
        left = {node: machine for node, machine in self.machines().items() if node not in nodes}
        self.write(self.ends_at(), self.owner(), left)

    @contextmanager
    def making(self, nodes: Sequence[str]) -> Iterator[None]:
        """These nodes are made meanwhile; killed in it, it stays said until somebody says that it is over."""
        (self.path / MAKING).write_text("\n".join(nodes))
        try:
            yield
        finally:
            self.made()

    def made(self) -> None:
        """Nothing is made any more."""
        (self.path / MAKING).unlink(missing_ok=True)

    def being_made(self) -> Sequence[str]:
        """The nodes that somebody makes, or made when it was killed."""
        try:
            return (self.path / MAKING).read_text().split()
        except FileNotFoundError:
            return ()

    def remove(self) -> None:
        if self.exists():
            shutil.rmtree(self.path)

    def _said(self) -> dict[str, Any]:
        """What was written; nothing where that never came to its end."""
        try:
            said = json.loads((self.path / "environment.json").read_text())
        except (FileNotFoundError, ValueError):
            return {}
        return said if isinstance(said, dict) else {}
