"""The Chef configurator against the strict stand-in client: reruns, failures, licences, what recipes see."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.adapters.configurators.chef import ChefConfigurator
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
    configurator = ChefConfigurator(None, shipped=str(tmp_path / "none"), directory=str(tmp_path / "chef"))
    connection = ShellConnection({"web-0": ("env",)}, f"{tmp_path}/bin:{os.defpath}:{os.environ['PATH']}")
    return Bench(tmp_path, configurator, connection, request, bytearray())


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
    connection = ShellConnection({"web-0": ("env",)}, os.defpath)
    reason = bench.configurator.available(connection, bench.request)
    assert reason is not None
    assert "configure a .deb or tar archive" in reason
    bench.connection = connection
    with pytest.raises(PermanentError, match=r"web-0 has no cinc-client or chef-client.*with: script"):
        bench.converge()


def test_a_recipe_that_is_not_in_the_cookbook_fails(bench: Bench) -> None:
    bench.request = replace(bench.request, run_list=("recipe[web::tls]",))
    with pytest.raises(StageFailed, match="could not find recipe tls for cookbook web"):
        bench.converge()
