"""The Chef configurator against the strict stand-in client: reruns, failures, licences, what recipes see."""

from __future__ import annotations

import hashlib
import os
import shutil
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from pipeline.adapters.configurators.chef import ChefConfigurator, ChefPackage
from pipeline.adapters.configurators.chef.configurator import MAX_RERUNS
from pipeline.domain.blueprint import ConfigureSpec
from pipeline.domain.errors import PermanentError, StageFailed
from pipeline.ports.common import Limits
from pipeline.ports.configurators import ConvergeRequest, ConvergeResult
from pipeline.ports.transports import NodeAccess
from tests.standins.shell_connection import ShellConnection

STANDIN = Path(__file__).parent.parent / "standins" / "chef_client"
NODES = (NodeAccess("web-0", "web", "10.0.0.2", 22, "root", ""), NodeAccess("db-0", "db", "10.0.0.9", 22, "root", ""))


@dataclass
class Bench:
    """One node with the stand-in; `output` keeps all that was printed."""

    root: Path
    configurator: ChefConfigurator
    connection: ShellConnection
    request: ConvergeRequest
    output: bytearray

    def converge(self, **standin: Any) -> ConvergeResult:
        request = replace(self.request, attributes={"standin": standin})
        limits = Limits(total_s=60, silence_s=60)
        return self.configurator.converge(self.connection, request, limits=limits, output=self.output.extend)

    def runs(self) -> int:
        return sum("--local-mode" in command for command in self.connection.ran)


def converging(root: Path, package: ChefPackage | None = None) -> ChefConfigurator:
    """Knows the stand-in only, whatever this machine has."""
    directory, candidates = str(root / "chef"), [str(root / "bin" / "chef-client")]
    return ChefConfigurator(lambda: package, shipped=str(root / "none"), directory=directory, candidates=candidates)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    (tmp_path / "bin").mkdir()
    shutil.copy(STANDIN, tmp_path / "bin" / "chef-client")
    recipes = tmp_path / "source" / "chef-cookbooks" / "web" / "recipes"
    recipes.mkdir(parents=True)
    (recipes / "default.rb").touch()
    (recipes.parent / "metadata.rb").write_text("name 'web'\n")
    source = str(tmp_path / "source")
    request = ConvergeRequest("env-1", "shop", NODES[0], NODES, source, ConfigureSpec(), ("recipe[web]",))
    connection = ShellConnection({"web-0": ("env",)}, f"{tmp_path}/bin:{os.defpath}:{os.environ['PATH']}")
    return Bench(tmp_path, converging(tmp_path), connection, request, bytearray())


@pytest.mark.parametrize(
    ("status", "why"), [(35, b"a reboot now"), (37, b"a reboot"), (213, b"after upgrading itself")]
)
def test_a_client_that_asks_for_it_is_run_again(bench: Bench, status: int, why: bytes) -> None:
    result = bench.converge(exits=[status])
    assert bench.runs() == 2
    assert why in bench.output
    assert [resource.status for resource in result.resources] == ["updated", "unchanged"]


def test_a_client_that_never_stops_asking_fails(bench: Bench) -> None:
    with pytest.raises(StageFailed, match=r"web-0 asked for a reboot now .*nodes are not rebooted"):
        bench.converge(exits=[35] * 10)
    assert bench.runs() == MAX_RERUNS + 1


def test_a_failed_resource_is_named_with_its_line_and_message(bench: Bench) -> None:
    with pytest.raises(
        StageFailed, match=r"execute\[standin\]: cookbooks/standin/recipes/default.rb:3: RuntimeError: no disk"
    ):
        bench.converge(fail="no disk")


def test_exit_status_0_without_a_result_is_an_error(bench: Bench) -> None:
    with pytest.raises(PermanentError, match="exit status 0 but wrote no result"):
        bench.converge(silent=True)


def test_a_recipe_that_is_never_done_is_seen_by_the_second_converge(bench: Bench) -> None:
    bench.converge(restless=2)
    assert [resource.name for resource in bench.converge(restless=2).updated] == ["restless 0", "restless 1"]


def test_recipes_find_other_nodes_and_their_own(bench: Bench) -> None:
    bench.converge(search="role:db")
    bench.converge(search="role:web")
    assert b"search: 10.0.0.9\n" in bench.output
    assert b"search: 10.0.0.2\n" in bench.output


def test_what_the_client_learned_of_the_node_is_kept_and_old_cookbooks_are_not(bench: Bench) -> None:
    bench.converge()
    (bench.root / "chef/cookbooks/old").mkdir()
    bench.converge()
    assert '"platform": "debian"' in (bench.root / "chef/nodes/web-0.json").read_text()
    assert not (bench.root / "chef/cookbooks/old").exists()


def test_attributes_are_for_root_alone(bench: Bench) -> None:
    bench.converge()
    assert (bench.root / "chef").stat().st_mode & 0o777 == 0o700


def test_without_a_client_or_a_package_the_next_step_is_said(bench: Bench) -> None:
    (bench.root / "bin/chef-client").unlink()
    reason = bench.configurator.available(bench.connection, bench.request)
    assert reason is not None
    assert "configure a .deb or tar archive" in reason
    with pytest.raises(PermanentError, match=r"web-0 has no cinc-client or chef-client.*with: script"):
        bench.converge()


def test_a_recipe_that_is_not_in_the_cookbook_fails(bench: Bench) -> None:
    bench.request = replace(bench.request, run_list=("recipe[web::tls]",))
    with pytest.raises(StageFailed, match="could not find recipe tls for cookbook web"):
        bench.converge()


DPKG = """#!/bin/sh
[ $# = 2 ] && [ "$1" = -i ] || { echo "stand-in: dpkg $*"; exit 2; }
tar -xf "$2" -C "$(dirname "$0")"
"""


@pytest.fixture
def deb(bench: Bench) -> Path:
    """A package with the stand-in, for a node that has none; its dpkg unpacks it beside itself."""
    client = bench.root / "bin" / "chef-client"
    path = bench.root / "www" / "cinc_18.deb"
    path.parent.mkdir()
    with tarfile.open(path, "w") as archive:
        archive.add(client, arcname="chef-client")
    client.unlink()
    (bench.root / "bin" / "dpkg").write_text(DPKG)
    (bench.root / "bin" / "dpkg").chmod(0o755)
    return path


@pytest.fixture
def url(deb: Path) -> Iterator[str]:
    """The package on a web server of this machine."""
    handler = partial(SimpleHTTPRequestHandler, directory=str(deb.parent))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/{deb.name}"
        server.shutdown()
        thread.join()


def use(bench: Bench, package: ChefPackage) -> None:
    bench.configurator = converging(bench.root, package)


def test_a_local_package_is_installed_once(bench: Bench, deb: Path) -> None:
    use(bench, ChefPackage(str(deb)))
    assert bench.configurator.available(bench.connection, bench.request) is None
    bench.converge()
    bench.converge()
    assert sum("dpkg -i" in command for command in bench.connection.ran) == 1
    assert not (bench.root / "chef" / "package").exists()


def test_a_package_is_downloaded_by_the_node_and_its_url_is_in_no_command(bench: Bench, deb: Path, url: str) -> None:
    use(bench, ChefPackage(f"{url}?token=hunter2", hashlib.sha256(deb.read_bytes()).hexdigest()))
    assert bench.converge().updated
    assert not any("hunter2" in command for command in bench.connection.ran)
    assert b"hunter2" not in bench.output


def test_a_package_with_another_sum_is_not_installed(bench: Bench, url: str) -> None:
    use(bench, ChefPackage(url, "0" * 64))
    with pytest.raises(PermanentError, match=r"cinc_18.deb could not be installed on node web-0"):
        bench.converge()
    assert not (bench.root / "bin" / "chef-client").exists()


def test_a_package_that_cannot_be_downloaded_is_named(bench: Bench, url: str) -> None:
    use(bench, ChefPackage(url.replace("cinc_18", "cinc_19")))
    with pytest.raises(PermanentError, match=r"could not download the Chef package cinc_19.deb \(curl: 22\)"):
        bench.converge()


def test_a_package_without_a_client_is_refused(bench: Bench, deb: Path) -> None:
    with tarfile.open(deb, "w") as archive:
        archive.add(STANDIN, arcname="readme")
    use(bench, ChefPackage(str(deb)))
    with pytest.raises(PermanentError, match=r"cinc_18.deb left no chef-client or cinc-client on web-0"):
        bench.converge()
