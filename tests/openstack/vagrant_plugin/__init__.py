"""A provider `openstack` of Vagrant for tests, and machines of it; strict_openstack.rb tells what it is."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
LIMIT_S = 300.0

Machines = Mapping[str, Mapping[str, Any]]


def load_line() -> str:
    """What VAGRANT_HOME/Vagrantfile has to say so that every Vagrant of that home knows the provider."""
    return f"require {json.dumps(str(HERE / 'strict_openstack.rb'))}\n"


@dataclass(frozen=True)
class Bench:
    """A home of Vagrant that knows the provider, and a directory with machines, both below `root`."""

    root: Path

    def set_up(self, machines: Machines) -> None:
        for place in (self.home, self.work):
            place.mkdir(parents=True, exist_ok=True)
        (self.home / "Vagrantfile").write_text(load_line())
        shutil.copyfile(HERE / "Vagrantfile", self.work / "Vagrantfile")
        (self.work / "machines.json").write_text(json.dumps(machines))

    def vagrant(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """What it said and its exit status."""
        return subprocess.run(
            ["vagrant", *arguments], cwd=self.work, env=self._env(), stdin=subprocess.DEVNULL, capture_output=True,
            text=True, check=False, timeout=LIMIT_S,
        )  # fmt: skip

    def id_file(self, machine: str) -> Path:
        """Where Vagrant remembers which server a machine is."""
        return self.work / ".vagrant/machines" / machine / "openstack/id"

    @property
    def home(self) -> Path:
        return self.root / "home"

    @property
    def work(self) -> Path:
        return self.root / "work"

    def _env(self) -> Mapping[str, str]:
        return {
            "HOME": str(self.root),
            "LC_ALL": "C.UTF-8",
            "PATH": os.environ["PATH"],
            "VAGRANT_CHECKPOINT_DISABLE": "1",
            "VAGRANT_DEFAULT_PROVIDER": "openstack",
            "VAGRANT_HOME": str(self.home),
            "VAGRANT_NO_COLOR": "1",
        }
