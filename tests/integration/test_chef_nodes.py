"""Converging real nodes: the client comes as a package, and the shipped cookbooks keep what their suites promise.

The real client is `$GREENROOM_CHEF_PACKAGE` (a .deb or tar archive), or that of this machine where one is on the PATH.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.adapters.configurators.chef import ChefConfigurator, ChefPackage, pack_local_client
from pipeline.adapters.transports.openssh import OpenSshTransport
from pipeline.domain.blueprint import ConfigureSpec
from pipeline.domain.errors import PermanentError
from pipeline.domain.resources import SIZES
from pipeline.ports.common import Limits
from pipeline.ports.configurators import ConvergeRequest, ConvergeResult
from pipeline.ports.transports import Connection, EnvironmentAccess, NodeAccess
from tests.plugins.local_nodes import LocalNodes, need_image

ROOT = Path(__file__).parents[2]
COOKBOOKS = ROOT / "chef-cookbooks"
SAMPLE = ROOT / "pipeline" / "demo" / "sample"
STANDIN = ROOT / "tests" / "standins" / "chef_client"
LIMITS = Limits(total_s=100, silence_s=60)
RUN_LISTS = {"web": "webapp", "db": "database"}

pytestmark = pytest.mark.local


@dataclass(frozen=True)
class Fleet:
    """The nodes of one environment, and how to reach them."""

    access: EnvironmentAccess
    connection: Connection
    ssh_config: Path

    def converge(self, configurator: ChefConfigurator) -> dict[str, ConvergeResult]:
        """Converge all nodes at once."""
        with ThreadPoolExecutor() as pool:
            results = pool.map(lambda node: self._converge(configurator, node), self.access.nodes)
            return dict(zip((node.name for node in self.access.nodes), results, strict=True))

    def deploy(self) -> None:
        """Put the sample application in place, database first."""
        for node in (*self.access.of_role("db"), *self.access.of_role("web")):
            self.connection.put(node.name, str(SAMPLE), "/srv/shop/releases/one", limits=LIMITS)
            self.run(node.name, "ln -sfn releases/one /srv/shop/current && /srv/shop/current/bin/restart " + node.role)

    def run(self, node: str, command: str) -> str:
        output = bytearray()
        status = self.connection.run(node, command, limits=LIMITS, output=output.extend)
        assert status == 0, output.decode()
        return output.decode()

    def verify(self, suite: Path, roles: tuple[str, ...]) -> None:
        """Run a testinfra suite over the nodes of these roles."""
        hosts = ",".join(f"ssh://{node.name}" for role in roles for node in self.access.of_role(role))
        argv = [
            sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", "/dev/null",
            f"--rootdir={suite}", f"--hosts={hosts}", f"--ssh-config={self.ssh_config}", str(suite),
        ]  # fmt: skip
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=100)
        print(done.stdout)  # noqa: T201 - shown by pytest when the test fails
        assert done.returncode == 0, done.stdout + done.stderr

    def _converge(self, configurator: ChefConfigurator, node: NodeAccess) -> ConvergeResult:
        request = ConvergeRequest(
            self.access.environment_id, "shop", node, self.access.nodes, str(SAMPLE), ConfigureSpec(),
            (f"recipe[{RUN_LISTS[node.role]}]",), attributes={"shop": {"port": 8080}},
        )  # fmt: skip
        output = bytearray()
        try:
            return configurator.converge(self.connection, request, limits=LIMITS, output=output.extend)
        finally:
            print(output.decode())  # noqa: T201 - shown by pytest when the test fails


@pytest.fixture(params=["debian-12", "debian-12-systemd"])
def fleet(request: pytest.FixtureRequest, local_nodes: LocalNodes, tmp_path: Path) -> Iterator[Fleet]:
    need_image(local_nodes.driver, request.param)
    with local_nodes.environment("web-0", "db-0", image=request.param, resources=SIZES["small"]) as access:
        transport = OpenSshTransport(str(tmp_path / "ssh"))
        transport.command_line(access, "web-0", str(tmp_path / "login"))
        with transport.connect(access) as connection:
            yield Fleet(access, connection, tmp_path / "login" / "config")
        transport.close(access.environment_id)


@pytest.fixture(scope="session")
def client(tmp_path_factory: pytest.TempPathFactory) -> ChefPackage:
    """A real client as a package; skips where there is none."""
    if location := os.environ.get("GREENROOM_CHEF_PACKAGE"):
        return ChefPackage(location)
    package = pack_local_client(str(tmp_path_factory.mktemp("client")))
    if package is None:
        pytest.skip("no Chef or Cinc client: set GREENROOM_CHEF_PACKAGE, or install one on this machine")
    return package


@pytest.fixture
def standin(tmp_path: Path) -> ChefPackage:
    """The stand-in as a package, with the `json` that Debian's smallest Python has not."""
    path = tmp_path / "chef.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        archive.add(Path(json.__file__).parent, arcname="opt/chef/lib/json")
        _add(archive, "opt/chef/lib/uuid.py", b"def uuid4():\n    return 'a-run'\n")
        _add(archive, "opt/chef/lib/standin.py", STANDIN.read_bytes())
        start = b'#!/bin/sh\nPYTHONPATH=/opt/chef/lib exec python3 /opt/chef/lib/standin.py "$@"\n'
        _add(archive, "opt/chef/bin/chef-client", start, mode=0o755)
    return ChefPackage(str(path))


def _add(archive: tarfile.TarFile, name: str, content: bytes, mode: int = 0o644) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(content), mode
    archive.addfile(info, io.BytesIO(content))


def test_a_client_is_installed_where_there_is_none(fleet: Fleet, standin: ChefPackage) -> None:
    first = fleet.converge(ChefConfigurator(standin, shipped=str(COOKBOOKS)))
    second = fleet.converge(ChefConfigurator(None, shipped=str(COOKBOOKS)))
    assert all(result.updated for result in first.values())
    assert not any(result.updated for result in second.values())


def test_a_package_that_is_not_what_it_should_be_is_refused(fleet: Fleet, standin: ChefPackage) -> None:
    package = ChefPackage(standin.location, sha256="0" * 64)
    with pytest.raises(PermanentError, match=r"chef.tar.gz could not be installed on node (web|db)-0"):
        fleet.converge(ChefConfigurator(package, shipped=str(COOKBOOKS)))


@pytest.mark.chef
def test_cookbooks_with_a_real_client(fleet: Fleet, client: ChefPackage) -> None:
    """Twice, the second time nothing is updated; the suites pass before and after a deployment."""
    configurator = ChefConfigurator(client, shipped=str(COOKBOOKS))
    first, second = fleet.converge(configurator), fleet.converge(configurator)
    assert all(result.updated for result in first.values())
    assert {name: result.updated for name, result in second.items()} == {"web-0": (), "db-0": ()}
    _verify_cookbooks(fleet)
    fleet.deploy()
    fleet.verify(SAMPLE / "tests" / "infra", ("web", "db"))
    _verify_cookbooks(fleet)


def _verify_cookbooks(fleet: Fleet) -> None:
    for name, roles in {"greenroom_base": ("web", "db"), "webapp": ("web",), "database": ("db",)}.items():
        fleet.verify(COOKBOOKS / name / "tests", roles)
