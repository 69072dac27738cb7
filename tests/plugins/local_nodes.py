"""Real nodes for tests: a node helper of its own for each test session, on a private state directory.

The image is taken from `$GREENROOM_STATE` (or /var/lib/greenroom), and built there when it is missing. The helper
runs as root: directly, or through sudo when that asks for no password.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest

from pipeline.adapters.drivers.local.driver import LocalDriver
from pipeline.adapters.keys import SshKeys
from pipeline.domain.errors import InfraError, TransientError
from pipeline.domain.qos import QosProfile
from pipeline.domain.resources import SIZES, Resources
from pipeline.ports.common import Secret
from pipeline.ports.drivers import EnvironmentRequest, NodeRequest, NodeView
from pipeline.ports.transports import EnvironmentAccess, NodeAccess

IMAGE = "debian-12"
ROOT = Path(__file__).parents[2]
PATIENCE_S = 20.0
TINY = SIZES["tiny"]


def image_state() -> Path:
    return Path(os.environ.get("GREENROOM_STATE", "/var/lib/greenroom"))


def why_not() -> str | None:
    """Say why this machine can have no local nodes; None when it can."""
    missing = [program for program in ("runc", "ip", "tc", "nft", "nsenter", "mmdebstrap") if not _has(program)]
    if missing:
        return f"local nodes need {', '.join(missing)}: run make setup"
    if os.geteuid() != 0 and subprocess.run(["sudo", "-n", "true"], capture_output=True, check=False).returncode:
        return "local nodes need root, or sudo without a password"
    return None


def _has(program: str) -> bool:
    return shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin") is not None


def as_root(argv: Sequence[str]) -> list[str]:
    return list(argv) if os.geteuid() == 0 else ["sudo", "-n", *argv]


def eventually(true: Callable[[], bool], what: str, patience_s: float = PATIENCE_S) -> None:
    """Wait until something is true; fails after the patience."""
    deadline = time.monotonic() + patience_s
    while not true():
        if time.monotonic() > deadline:
            pytest.fail(f"{what}: not within {patience_s} s")
        time.sleep(0.005)


def answers(address: str, port: int = 22) -> bool:
    """Whether a server says something at once, as sshd does."""
    try:
        with socket.create_connection((address, port), timeout=1) as connection:
            return bool(connection.recv(4))
    except OSError:
        return False


class Helper:
    """A node helper process that tests may kill and start again."""

    def __init__(self, state: Path, directory: Path, deployment: str, *options: str) -> None:
        self.state = state
        self.deployment = deployment
        self.socket_path = str(directory / "helper.sock")
        self.driver = LocalDriver(self.socket_path, deployment)
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        argv = [
            sys.executable, "-m", "pipeline.adapters.drivers.local.helper", "--socket", self.socket_path,
            "--state", str(self.state), "--image-state", str(image_state()), "--owner", str(os.getuid()),
            "--deployment", self.deployment, *self._options,
        ]  # fmt: skip
        return as_root(argv)

    def start(self) -> None:
        """Start it and wait until it answers."""
        self._process = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, cwd=ROOT)
        eventually(self.runs, "the node helper starts")

    def runs(self) -> bool:
        if self._process is None or self._process.poll() is not None:
            pytest.fail("the node helper ended; what it said is above")
        with contextlib.suppress(TransientError):
            return self.driver.ping() > 0
        return False

    def kill(self) -> None:
        """End it as a crash would."""
        assert self._process is not None
        subprocess.run(as_root(["kill", "-9", str(self.driver.ping())]), check=True)
        self._process.wait(PATIENCE_S)

    def end(self) -> None:
        """Remove all it made, then end it; its directory must be empty of nodes by then."""
        self.driver.clean()
        self.stop()
        subprocess.run(as_root(["rmdir", str(self.state / "deployments"), str(self.state)]), check=True)

    def stop(self) -> None:
        """End it in order."""
        assert self._process is not None
        self.driver.stop()
        self._process.wait(PATIENCE_S)


@contextlib.contextmanager
def running_helper(*options: str) -> Iterator[Helper]:
    """A helper with a deployment and state of its own; everything it made is gone afterwards."""
    deployment = f"test-{secrets.token_hex(4)}"
    state = Path("/var/tmp") / f"greenroom-{deployment}"  # on a disk, and the helper makes it: it must be root's
    with tempfile.TemporaryDirectory(prefix="greenroom-") as directory:
        helper = Helper(state, Path(directory), deployment, *options)
        try:
            helper.start()
            yield helper
        finally:
            helper.end()


@dataclass(frozen=True)
class Keys:
    """Key pairs for tests: one to log in with, one as every node's host key."""

    login: Secret
    login_public: str
    host: Secret
    host_public: str


@dataclass
class LocalNodes:
    """Makes environments of real nodes for tests."""

    helper: Helper
    keys: Keys
    _made: int = field(default=0)

    @property
    def driver(self) -> LocalDriver:
        return self.helper.driver

    def fresh_id(self) -> str:
        self._made += 1
        return f"env-{os.getpid()}-{self._made}"

    def request(
        self,
        names: Sequence[str],
        *,
        environment_id: str | None = None,
        image: str = IMAGE,
        resources: Resources = TINY,
        qos: QosProfile | None = None,
    ) -> EnvironmentRequest:
        """Ask for nodes called like this (`web-0` has role `web`), all alike."""
        nodes = tuple(
            NodeRequest(
                name, name.rpartition("-")[0] or name, image, resources, qos or QosProfile(), self.keys.host,
                self.keys.host_public,
            )
            for name in names
        )  # fmt: skip
        return EnvironmentRequest(
            deployment=self.helper.deployment,
            environment_id=environment_id or self.fresh_id(),
            service="shop",
            authorized_key=self.keys.login_public,
            ends_at=time.time() + 3600,
            nodes=nodes,
        )

    def views(self, environment_id: str) -> dict[str, NodeView]:
        return {view.name: view for view in self.driver.list().nodes if view.environment_id == environment_id}

    def access(self, request: EnvironmentRequest) -> EnvironmentAccess:
        """How to log in to the nodes of a request that was fulfilled."""
        views = self.views(request.environment_id)
        nodes = tuple(
            NodeAccess(
                node.name, node.role, views[node.name].address or "", views[node.name].port, "root",
                node.host_public_key,
            )
            for node in request.nodes
        )  # fmt: skip
        return EnvironmentAccess(request.environment_id, self.keys.login, nodes)

    @contextlib.contextmanager
    def environment(
        self,
        *names: str,
        image: str = IMAGE,
        resources: Resources = TINY,
        qos: QosProfile | None = None,
    ) -> Iterator[EnvironmentAccess]:
        """Nodes that answer SSH; they are gone afterwards."""
        request = self.request(names or ("web-0",), image=image, resources=resources, qos=qos)
        try:
            self.driver.create(request)
            access = self.access(request)
            for node in access.nodes:
                eventually(partial(answers, node.address), f"sshd of {node.name} answers")
            yield access
        finally:
            self.driver.destroy(request.environment_id)

    def run(self, access: EnvironmentAccess, node: str, command: str, timeout_s: float = 30) -> tuple[int, str]:
        """Run a shell command on a node with the OpenSSH client; exit status and output."""
        with tempfile.TemporaryDirectory(prefix="greenroom-test-") as place:
            key, known = Path(place) / "key", Path(place) / "known_hosts"
            key.touch(mode=0o600)
            key.write_text(access.private_key.reveal())
            known.write_text(f"{access.node(node).address} {access.node(node).host_public_key}\n")
            argv = [
                "ssh", "-F", "none", "-i", str(key), "-o", "IdentitiesOnly=yes", "-o", "StrictHostKeyChecking=yes",
                "-o", f"UserKnownHostsFile={known}", "-o", "ConnectTimeout=5", "-o", "LogLevel=ERROR",
                "-o", "BatchMode=yes", f"root@{access.node(node).address}", command,
            ]  # fmt: skip
            done = subprocess.run(
                argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                timeout=timeout_s, check=False,
            )  # fmt: skip
        return done.returncode, done.stdout


def make_keys() -> Keys:
    maker = SshKeys()
    return Keys(*maker.ed25519("test login"), *maker.ed25519("test node"))


def need_image(driver: LocalDriver, name: str) -> None:
    """Build a node image unless it is there; skips when it cannot be built here."""
    try:
        driver.build_image(name, lambda line: print(line, file=sys.stderr))  # noqa: T201 - progress of a minute's work
    except InfraError as error:
        pytest.skip(f"no node image {name}: {error}")


@pytest.fixture(scope="session")
def node_keys() -> Keys:
    return make_keys()


@pytest.fixture(scope="session")
def local_nodes(node_keys: Keys) -> Iterator[LocalNodes]:
    """Real nodes; skips where there can be none."""
    if reason := why_not():
        pytest.skip(reason)
    with running_helper() as helper:
        need_image(helper.driver, IMAGE)
        yield LocalNodes(helper, node_keys)
