"""Converging real nodes: the client comes as a package, and the shipped cookbooks keep what their suites promise.

So do the scripts of the sample application, for nodes without a client.

The real client is `$GREENROOM_CHEF_PACKAGE` (a .deb or tar archive), or that of this machine where one is on the PATH.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from pipeline.adapters.configurators.chef import ChefConfigurator, ChefPackage, pack_local_client
from pipeline.adapters.configurators.script import ScriptConfigurator
from pipeline.adapters.transports.openssh import OpenSshTransport
from pipeline.domain.blueprint import ConfigureSpec
from pipeline.domain.errors import PermanentError
from pipeline.domain.resources import SIZES
from pipeline.ports.common import Limits
from pipeline.ports.configurators import Configurator, ConvergeRequest, ConvergeResult
from pipeline.ports.transports import Connection, EnvironmentAccess, NodeAccess
from tests.plugins.local_nodes import LocalNodes, eventually, need_image

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
    place: Path

    def converge(self, configurator: Configurator) -> dict[str, ConvergeResult]:
        """Converge all nodes at once."""
        with ThreadPoolExecutor() as pool:
            results = pool.map(lambda node: self._converge(configurator, node), self.access.nodes)
            return dict(zip((node.name for node in self.access.nodes), results, strict=True))

    def deploy(self, release: str = "one", source: Path = SAMPLE) -> None:
        """Put the sample application in place, database first, and wait until it answers."""
        for node in (*self.access.of_role("db"), *self.access.of_role("web")):
            self.connection.put(node.name, str(source), f"/srv/shop/releases/{release}", limits=LIMITS)
            restart = f"/srv/shop/current/bin/restart {node.role}"
            self.run(node.name, f"ln -sfn releases/{release} /srv/shop/current && {restart}")
        for node in self.access.of_role("web"):
            eventually(partial(self.healthy, node.name), f"{node.name} is healthy")

    def healthy(self, node: str) -> bool:
        ask = "curl -fsS --max-time 5 http://127.0.0.1:8080/health"
        return self.connection.run(node, ask, limits=LIMITS, output=lambda _: None) == 0

    def run(self, node: str, command: str) -> str:
        output = bytearray()
        status = self.connection.run(node, command, limits=LIMITS, output=output.extend)
        assert status == 0, output.decode()
        return output.decode()

    def verify(self, *suites: Path, roles: tuple[str, ...]) -> None:
        """Expect testinfra suites to pass on the nodes of these roles."""
        status, said = self.judge(*suites, roles=roles)
        assert status == 0, said

    def judge(self, *suites: Path, roles: tuple[str, ...]) -> tuple[int, str]:
        """Run testinfra suites through the connections that are open already; exit status and output."""
        hosts = ",".join(f"ssh://{node.name}" for role in roles for node in self.access.of_role(role))
        argv = [
            sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", "/dev/null",
            "--import-mode=importlib", f"--rootdir={ROOT}",
            f"--hosts={hosts}", "--ssh-config=config", *map(str, suites),
        ]  # fmt: skip
        done = subprocess.run(argv, cwd=self.place, capture_output=True, text=True, check=False, timeout=200)
        return done.returncode, done.stdout + done.stderr

    def _converge(self, configurator: Configurator, node: NodeAccess) -> ConvergeResult:
        request = ConvergeRequest(
            self.access.environment_id, "shop", node, self.access.nodes, str(SAMPLE), ConfigureSpec(),
            (f"recipe[{RUN_LISTS[node.role]}]",), f"configure/{node.role}.sh",
            attributes={"shop": {"port": 8080}},
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
        with transport.connect(access) as connection:
            yield Fleet(access, connection, tmp_path / "ssh" / access.environment_id)
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
        archive.add(Path(json.__file__).parent, arcname="opt/standin/lib/json")
        _add(archive, "opt/standin/lib/uuid.py", b"def uuid4():\n    return 'a-run'\n")
        _add(archive, "opt/standin/lib/standin.py", STANDIN.read_bytes())
        start = b'#!/bin/sh\nPYTHONPATH=/opt/standin/lib exec python3 /opt/standin/lib/standin.py "$@"\n'
        _add(archive, "opt/standin/bin/chef-client", start, mode=0o755)
    return ChefPackage(str(path))


def _add(archive: tarfile.TarFile, name: str, content: bytes, mode: int = 0o644) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(content), mode
    archive.addfile(info, io.BytesIO(content))


def standing_in(package: ChefPackage | None) -> ChefConfigurator:
    """Knows the stand-in only: the image may have a client."""
    return ChefConfigurator(lambda: package, shipped=str(COOKBOOKS), candidates=["/opt/standin/bin/chef-client"])


def test_a_client_is_installed_where_there_is_none(fleet: Fleet, standin: ChefPackage) -> None:
    first = fleet.converge(standing_in(standin))
    second = fleet.converge(standing_in(None))
    assert all(result.updated for result in first.values())
    assert not any(result.updated for result in second.values())


def test_a_package_that_is_not_what_it_should_be_is_refused(fleet: Fleet, standin: ChefPackage) -> None:
    package = ChefPackage(standin.location, sha256="0" * 64)
    with pytest.raises(PermanentError, match=r"chef.tar.gz could not be installed on node (web|db)-0"):
        fleet.converge(standing_in(package))


@pytest.mark.chef
@pytest.mark.timeout(400)
def test_cookbooks_with_a_real_client(fleet: Fleet, client: ChefPackage) -> None:
    """Twice, the second time nothing is updated; the suites pass before and after a deployment."""
    configurator = ChefConfigurator(lambda: client, shipped=str(COOKBOOKS))
    first, second = fleet.converge(configurator), fleet.converge(configurator)
    assert all(result.updated for result in first.values())
    assert {name: result.updated for name, result in second.items()} == {"web-0": (), "db-0": ()}
    base, web, db = (COOKBOOKS / name / "tests" for name in ("greenroom_base", "webapp", "database"))
    fleet.verify(base, web, roles=("web",))
    fleet.verify(base, db, roles=("db",))
    fleet.deploy()
    fleet.verify(SAMPLE / "tests" / "infra", roles=("web", "db"))
    fleet.verify(web, roles=("web",))
    fleet.verify(db, roles=("db",))


def test_scripts_prepare_the_sample_as_well(fleet: Fleet, tmp_path: Path) -> None:
    """Twice, the second time nothing is updated; the documented mistake breaks one test and nothing else."""
    first, second = fleet.converge(ScriptConfigurator()), fleet.converge(ScriptConfigurator())
    assert all(result.updated for result in first.values())
    assert {name: result.updated for name, result in second.items()} == {"web-0": (), "db-0": ()}
    fleet.deploy()
    fleet.run("web-0", "cd /srv/shop/current && ./bin/e2e /tmp/report.xml")
    fleet.verify(SAMPLE / "tests" / "infra", roles=("web", "db"))
    fleet.deploy("two", broken_sample(tmp_path / "broken"))
    status, said = fleet.judge(SAMPLE / "tests" / "infra", roles=("web", "db"))
    assert status == 1
    assert "1 failed" in said
    assert "test_prices_have_two_decimals" in said


def broken_sample(target: Path) -> Path:
    """The sample with the change that its README describes."""
    good, bad = (line.strip() for line in (SAMPLE / "README.md").read_text().splitlines() if line.startswith("    "))
    shutil.copytree(SAMPLE, target)
    web = target / "app" / "web.py"
    assert web.read_text().count(good) == 1
    web.write_text(web.read_text().replace(good, bad))
    return target
