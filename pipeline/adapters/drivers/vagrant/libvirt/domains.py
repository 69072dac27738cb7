"""The domains and files of one deployment at libvirt, which `virsh` is asked for.

A domain's name is its mark, `greenroom.DEPLOYMENT.ENVIRONMENT.NODE`, and its title its address. Its files are in a
storage pool of the deployment's own, under the same name.
"""

from __future__ import annotations

import json
import re
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.adapters.drivers.vagrant.commands import run
from pipeline.domain.errors import TransientError

#: Kinds of a node's files: the layer of its own above the image's disk, and its initial root.
LAYER, INITIAL_ROOT = ".img", ".initrd"
#: Where the storage pools of all deployments are.
POOLS = "libvirt"
_IDS = uuid.UUID("6f9ab8b0-43a2-4d0c-9d3e-2f6c1b8f6f0e")
_LINE = re.compile(
    r"\s*(?:-|\d+)\s+(\S+)\s+(running|idle|paused|in shutdown|shut off|crashed|pmsuspended|no state)\s*(\S*)"
)
VOLUME = """\
<volume>
  <name>{name}</name>
  <capacity unit='GiB'>{size}</capacity>
  <target><format type='qcow2'/></target>
  <backingStore><path>{below}</path><format type='raw'/></backingStore>
</volume>
"""


def pool_of(state: Path, deployment: str) -> Path:
    """The directory of a deployment's storage pool."""
    return state / POOLS / deployment


def disks_below(state: Path) -> Iterator[Path]:
    """The disks that layers lie directly above, in the storage pools of all deployments.

    Their domains need not run. TransientError where a layer cannot be read.
    """
    for layer in (state / POOLS).glob(f"*/*{LAYER}"):
        try:
            told = run(["qemu-img", "info", "--force-share", "--output=json", str(layer)])
        except TransientError:
            if layer.exists():
                raise
            continue  # it went meanwhile
        below = json.loads(told).get("full-backing-filename")
        if below:
            yield Path(below)


@dataclass(frozen=True)
class Domain:
    """`address` is empty where it is not known."""

    running: bool
    address: str = ""


@dataclass(frozen=True)
class Domains:
    """`uri` is where libvirt answers; `pool` is the directory of the deployment's storage pool."""

    deployment: str
    uri: str
    pool: Path

    @property
    def pool_name(self) -> str:
        return f"greenroom-{self.deployment}"

    @property
    def prefix(self) -> str:
        return f"greenroom.{self.deployment}."

    def name(self, environment_id: str, node: str) -> str:
        return f"{self.prefix}{environment_id}.{node}"

    def id(self, environment_id: str, node: str) -> str:
        """The id of a domain, by which Vagrant knows it, also of one that is not there yet."""
        return str(uuid.uuid5(_IDS, self.name(environment_id, node)))

    def file(self, environment_id: str, node: str, kind: str) -> Path:
        return self.pool / (self.name(environment_id, node) + kind)

    def found(self) -> Mapping[tuple[str, str], Domain]:
        """All of this deployment by environment and node; one of which there are only files does not run."""
        listed = {name: Domain(state == "running", address) for name, state, address in self._listed()}
        names = {**dict.fromkeys(self._filed(), Domain(running=False)), **listed}
        ours = {
            name.removeprefix(self.prefix): domain for name, domain in names.items() if name.startswith(self.prefix)
        }
        return {
            (name.split(".")[0], name.split(".")[1]): domain for name, domain in ours.items() if name.count(".") == 1
        }

    def _listed(self) -> Iterator[tuple[str, str, str]]:
        for line in self.virsh("list", "--all", "--title").splitlines():
            match = _LINE.fullmatch(line)
            if match is not None:
                yield match[1], match[2], match[3]

    def _filed(self) -> Iterator[str]:
        for file in self.pool.iterdir() if self.pool.is_dir() else ():
            if file.suffix in (LAYER, INITIAL_ROOT):
                yield file.stem

    def ensure_pool(self) -> None:
        """Make the storage pool unless it is there."""
        if self.pool_name not in self.virsh("pool-list", "--name").split():
            self.pool.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
            self.pool.mkdir(mode=0o711, exist_ok=True)
            self.virsh("pool-create-as", self.pool_name, "dir", "--target", str(self.pool))

    def ensure_layer(self, volume: str, below: Path, size_gib: int) -> None:
        """Let the storage pool have an empty layer of a name above a raw disk."""
        if volume not in self._volumes():
            told = VOLUME.format(name=volume, size=size_gib, below=below)
            run(self._argv("vol-create", self.pool_name, "/dev/stdin"), told)

    def remove_pool(self) -> None:
        """Remove the storage pool, with the boxes' layers, which are made again."""
        if self.pool_name in self.virsh("pool-list", "--name").split():
            self.virsh("pool-destroy", self.pool_name)
        shutil.rmtree(self.pool, ignore_errors=True)

    def state(self, environment_id: str, node: str) -> str:
        """The state of a domain and how it came into it, in libvirt's words; empty where there is none."""
        try:
            return self.virsh("domstate", "--reason", self.id(environment_id, node)).strip()
        except TransientError:
            return ""

    def remove(self, environment_id: str, node: str) -> None:
        """Remove a domain and its files; one that is gone is no error."""
        id = self.id(environment_id, node)
        if id in self.virsh("list", "--uuid").split():
            self.virsh("destroy", id)
        if id in self.virsh("list", "--all", "--uuid").split():
            self.virsh("undefine", id, "--managed-save", "--snapshots-metadata")
        for kind in (LAYER, INITIAL_ROOT):
            self._remove_file(self.file(environment_id, node, kind))

    def _remove_file(self, file: Path) -> None:
        """A storage pool that knows a file must be told: vagrant-libvirt fails at one that is listed and not there."""
        if file.name in self._volumes():
            self.virsh("vol-delete", "--pool", self.pool_name, file.name)
        file.unlink(missing_ok=True)

    def _volumes(self) -> Sequence[str]:
        """Names of the files that the storage pool knows."""
        if self.pool_name not in self.virsh("pool-list", "--name").split():
            return ()
        return self.virsh("vol-list", self.pool_name).split()

    def virsh(self, *words: str) -> str:
        """What virsh says; TransientError when it fails."""
        return run(self._argv(*words))

    def _argv(self, *words: str) -> list[str]:
        return ["virsh", "--quiet", "--connect", self.uri, *words]
