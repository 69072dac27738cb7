"""vagrant-lxc: a container's name is its mark, `greenroom.DEPLOYMENT.ENVIRONMENT.NODE`."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipeline.adapters.drivers.vagrant.commands import run
from pipeline.adapters.drivers.vagrant.lxc import box
from pipeline.adapters.drivers.vagrant.lxc.limits import limits
from pipeline.adapters.drivers.vagrant.lxc.seed import plant
from pipeline.adapters.drivers.vagrant.network import Bridge, Network, assigned, hardware_address
from pipeline.adapters.drivers.vagrant.place import Place
from pipeline.adapters.drivers.vagrant.provider import AddBox, Found
from pipeline.adapters.drivers.vagrant.seed import files, hosts
from pipeline.adapters.drivers.vagrant.terms import Image, Terms
from pipeline.adapters.drivers.vagrant.this_machine import AS_ROOT, OnThisMachine, admit, lacking
from pipeline.domain.errors import PermanentError, TransientError
from pipeline.ports.drivers import Capabilities, EnvironmentRequest, NodeRequest

#: Where LXC keeps containers, unless its own settings say otherwise; vagrant-lxc goes by these, too.
CONTAINERS = Path("/var/lib/lxc")
CONTROL_GROUPS = Path("/sys/fs/cgroup")
#: Programs that are needed, and Debian's packages of them.
PROGRAMS = {
    "vagrant": "vagrant", "lxc-start": "lxc", "sudo": "sudo", "bsdtar": "libarchive-tools",
    "ip": "iproute2", "nft": "nftables",
}  # fmt: skip
_NAME = re.compile(r"greenroom\.([a-z0-9-]{1,63})\.([a-z0-9][a-z0-9-]{0,62})\.([a-z0-9][a-z0-9-]{0,62})")
_ADDRESS = re.compile(r"^lxc\.net\.0\.ipv4\.address\s*=\s*([0-9.]+)/", re.MULTILINE)


class Lxc(OnThisMachine):
    """`Provider` for containers on this machine."""

    name = "lxc"

    def __init__(self, deployment: str, terms: Terms, add_box: AddBox) -> None:
        self._deployment = deployment
        self._terms = terms
        self._add_box = add_box
        self._network = Network(deployment, terms.addresses)

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(images=tuple(self._terms.images()))

    def missing(self) -> Sequence[str]:
        found = lacking(PROGRAMS, "lxc", "vagrant-lxc")
        if os.geteuid() != 0:
            found.append(f"containers are made by root: {AS_ROOT}")
        if not self._terms.images():
            found.append("there is no node image on this machine: `make setup` builds one")
        return found

    def admit(self, request: EnvironmentRequest, nodes: Sequence[NodeRequest]) -> None:  # noqa: ARG002  # the same for all projects
        admit(nodes, self._terms.images())

    def found(self) -> Sequence[Found]:
        running = frozenset(run(["lxc-ls", "--running", "-1"]).split())
        return [self._seen(match, match[0] in running) for match in self._ours()]

    def _ours(self) -> list[re.Match[str]]:
        try:
            names = [place.name for place in CONTAINERS.iterdir()] if CONTAINERS.is_dir() else []
        except PermissionError as error:
            raise PermanentError(f"{CONTAINERS} may not be read: {AS_ROOT}") from error
        matches = (_NAME.fullmatch(name) for name in names)
        return [match for match in matches if match and match[1] == self._deployment]

    def _seen(self, match: re.Match[str], running: bool) -> Found:
        return Found(match[2], match[3], match[0], running, _address(CONTAINERS / match[0]))

    def environments(self) -> Mapping[str, float]:
        return {one.environment_id: one.ends_at for one in self._network.bridges() if one.environment_id}

    def mark_end(self, environment_id: str, ends_at: float) -> None:
        self._network.mark_end(environment_id, ends_at)

    def prepare(
        self, place: Place, request: EnvironmentRequest, nodes: Sequence[NodeRequest], standing: Sequence[Found]
    ) -> Mapping[str, Mapping[str, Any]]:
        images = self._terms.images()
        boxes = {name: self._box(place, name, images[name]) for name in {node.image for node in nodes}}
        bridge = self._network.ensure(request.environment_id, request.ends_at)
        there = {one.node: one.address for one in standing if one.address}
        addresses = assigned(bridge.subnet, tuple(there.values()), [node.name for node in nodes])
        hosts_file, keys = hosts({**there, **addresses}), (request.authorized_key, *request.login_keys)
        machines = {}
        for node in nodes:
            seed, reasons = place.path / "seeds" / node.name, _log(place, node.name)
            plant(seed, files(node, hosts_file, keys), images[node.image].first_id)
            reasons.unlink(missing_ok=True)  # what an earlier try said is no reason any more
            container = self._container(request.environment_id, node.name)
            wired = self._wired(bridge, addresses[node.name])
            config = [*wired, _copied(seed, container), *limits(node.resources), *_logged(reasons)]
            machines[node.name] = {"box": boxes[node.image], "container": container, "config": config}
        return machines

    def known(self, found: Found) -> Mapping[str, Any]:
        return {"box": "greenroom", "container": found.id, "config": []}

    def reason(self, place: Place, found: Found) -> str:
        return reason_in(_log(place, found.node))

    def remove(self, found: Found) -> None:
        try:
            run(["lxc-destroy", "--force", "--name", found.id])
        except TransientError:
            if found.id in run(["lxc-ls", "--running", "-1"]).split():
                raise
        # What lxc-create did not finish, LXC does not know as a container.
        shutil.rmtree(CONTAINERS / found.id, ignore_errors=True)
        if (CONTAINERS / found.id).exists():
            raise TransientError(f"container {found.id} does not go; see {CONTAINERS / found.id}")

    def release(self, environment_id: str, nodes: Sequence[str] | None) -> None:
        if nodes is not None:
            return
        self._network.release(environment_id)
        remove_groups(self._container(environment_id, "*"))

    def _container(self, environment_id: str, node: str) -> str:
        return f"greenroom.{self._deployment}.{environment_id}.{node}"

    def _box(self, place: Place, image_name: str, image: Image) -> str:
        files = box.contents(self._terms.templates, image)
        name = box.name_of(image_name, files)
        file = place.path / f"{image_name}.box"
        box.pack(file, files)
        self._add_box(place, name, file)
        file.unlink()
        return name

    def _wired(self, bridge: Bridge, address: str) -> list[tuple[str, str]]:
        said = {
            "type": "veth", "link": bridge.link, "veth.pair": self._network.new_link(), "flags": "up",
            "ipv4.address": f"{address}/24", "ipv4.gateway": f"{bridge.subnet}.1", "hwaddr": hardware_address(address),
        }  # fmt: skip
        return [(f"net.0.{key}", value) for key, value in said.items()]


def _copied(seed: Path, container: str) -> tuple[str, str]:
    """The command that puts a node's files into the layer of its own."""
    return "hook.pre-start", shlex.join(["/bin/cp", "--archive", f"{seed}/.", f"{CONTAINERS / container}/delta0/"])


def _log(place: Place, node: str) -> Path:
    """Where LXC writes what fails; vagrant-lxc does not pass it on."""
    return place.path / f"{node}.lxc"


def _logged(file: Path) -> list[tuple[str, str]]:
    return [("log.level", "ERROR"), ("log.file", str(file))]


def reason_in(file: Path) -> str:
    """The first error in a log of LXC, without its time and its place in the source: later ones follow from it."""
    if not file.exists():
        return ""
    lines = file.read_text(errors="replace").splitlines()
    return next((line.split(" - ", 2)[-1] for line in lines if " ERROR " in line), "")


def remove_groups(containers: str) -> None:
    """Remove what LXC forgot of the control groups of containers, by a pattern of their names; one in use stays."""
    for group in CONTROL_GROUPS.glob(f"**/lxc.*.{containers}"):
        with suppress(OSError):
            group.rmdir()


def _address(container: Path) -> str | None:
    """The address that a container was given; none while it is being made."""
    try:
        match = _ADDRESS.search((container / "config").read_text())
    except OSError:
        return None
    return match[1] if match else None
