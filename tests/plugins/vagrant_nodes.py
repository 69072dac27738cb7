"""Real nodes of vagrant-lxc for tests: a deployment of its own for each test session, of which nothing is left."""

from __future__ import annotations

import contextlib
import os
import secrets
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.adapters.drivers.local.image import SHIFT, images
from pipeline.adapters.drivers.vagrant.driver import VagrantDriver
from pipeline.adapters.drivers.vagrant.lxc.provider import CONTAINERS, PROGRAMS
from pipeline.adapters.drivers.vagrant.network import Network
from pipeline.adapters.drivers.vagrant.terms import ADDRESSES, Image, Terms
from pipeline.adapters.drivers.vagrant.this_machine import lacking
from tests.plugins.local_nodes import IMAGE, ROOT, image_state

LINKS = Path("/sys/class/net")


def why_not() -> str | None:
    """Say why this machine can have no nodes of vagrant-lxc; None when it can."""
    missing = lacking(PROGRAMS, "lxc", "vagrant-lxc")
    if missing:
        return f"nodes of vagrant-lxc need more, which `make setup-vagrant` brings: {'; '.join(missing)}"
    if os.geteuid() != 0:
        return "nodes of vagrant-lxc need root"
    if IMAGE not in images(image_state()):
        return f"there is no image {IMAGE}: run make setup"
    return None


def images_here() -> Mapping[str, Image]:
    return {name: Image(image.root, SHIFT) for name, image in images(image_state()).items() if not image.systemd}


@dataclass(frozen=True)
class VagrantNodes:
    """Makes drivers of one deployment, or of strangers to it, whose files are below `home`."""

    home: Path
    deployment: str

    def driver(
        self,
        suffix: str = "",
        *,
        images: Callable[[], Mapping[str, Image]] | None = None,
        up_s: float = 240.0,
        destroy_s: float = 120.0,
    ) -> VagrantDriver:
        told = Terms(ROOT / "vagrant", images or images_here, ADDRESSES, up_s, destroy_s)
        return VagrantDriver(self.deployment + suffix, told, self.home / f"home{suffix}", self.heard)

    @contextlib.contextmanager
    def heard(self, owner: str) -> Iterator[Callable[[bytes], None]]:
        """Let a file below `home` hear what Vagrant says for a run."""
        with (self.home / f"heard-{owner}").open("ab") as file:

            def say(piece: bytes) -> None:
                file.write(piece)
                file.flush()

            yield say

    def traces(self) -> list[str]:
        """What is there of the deployment on this machine."""
        prefix = Network(self.deployment, ADDRESSES).prefix
        links = [link.name for link in LINKS.iterdir() if link.name.startswith(prefix)]
        return links + [place.name for place in CONTAINERS.iterdir() if self.deployment in place.name]


@pytest.fixture(scope="session")
def vagrant_nodes() -> Iterator[VagrantNodes]:
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    with tempfile.TemporaryDirectory(prefix="greenroom-vagrant-") as home:
        nodes = VagrantNodes(Path(home), f"test{secrets.token_hex(4)}")
        yield nodes
        assert nodes.traces() == []
