"""The port of configurators, kept by the twin, the script configurator and the Chef configurator."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from pipeline.adapters.configurators.chef import ChefConfigurator
from pipeline.adapters.configurators.memory import MemoryConfigurator
from pipeline.adapters.configurators.script import ScriptConfigurator
from pipeline.domain.blueprint import ConfigureSpec
from pipeline.domain.errors import StageFailed
from pipeline.ports.common import Limits
from pipeline.ports.configurators import Configurator, ConvergeRequest, ConvergeResult
from pipeline.ports.transports import NodeAccess
from tests.standins.shell_connection import ShellConnection

LIMITS = Limits(total_s=60, silence_s=60)
NODES = tuple(
    NodeAccess(name, name[:-2], f"10.0.0.{i}", 22, "root", "") for i, name in enumerate(("web-0", "web-1", "db-0"))
)
STANDIN = Path(__file__).parent.parent / "standins" / "chef_client"

SCRIPT = """#!/bin/sh
echo "configuring $GREENROOM_NODE"
if [ -e "$GREENROOM_ATTR_MARK" ]; then echo "greenroom: unchanged mark"; else
touch "$GREENROOM_ATTR_MARK" && echo "greenroom: updated mark"; fi
"""


@dataclass(frozen=True)
class Subject:
    """A configurator with a request that is good, and what makes the product under test bad."""

    configurator: Configurator
    request: ConvergeRequest
    spoil: Callable[[ConvergeRequest], ConvergeRequest]
    other: ConvergeRequest
    connection: ShellConnection

    def converge(self, request: ConvergeRequest | None = None) -> tuple[ConvergeResult, bytes]:
        output = bytearray()
        result = self.configurator.converge(
            self.connection, request or self.request, limits=LIMITS, output=output.extend
        )
        return result, bytes(output)


def basis(tmp_path: Path) -> ConvergeRequest:
    source = tmp_path / "source"
    source.mkdir()
    attributes = {"mark": str(tmp_path / "mark")}
    return ConvergeRequest("env-1", "shop", NODES[0], NODES, str(source), ConfigureSpec(), attributes=attributes)


def connection(tmp_path: Path) -> ShellConnection:
    """Nodes without a home of their own: what they keep lies in this directory."""
    return ShellConnection({node.name: ("env",) for node in NODES}, f"{tmp_path}/bin:{os.environ['PATH']}")


def memory(tmp_path: Path) -> Subject:
    twin = MemoryConfigurator("script")
    request = replace(basis(tmp_path), script="web.sh")

    def spoil(request: ConvergeRequest) -> ConvergeRequest:
        twin.failures[request.node.name] = StageFailed(f"script failed on node {request.node.name}")
        return request

    return Subject(twin, request, spoil, replace(request, script=None, run_list=("recipe[web]",)), connection(tmp_path))


def script(tmp_path: Path) -> Subject:
    request = replace(basis(tmp_path), script="web.sh")
    (Path(request.source) / "web.sh").write_text(SCRIPT)
    (Path(request.source) / "bad.sh").write_text("#!/bin/sh\nexit 7\n")
    return Subject(
        ScriptConfigurator(str(tmp_path / "script")),
        request,
        lambda request: replace(request, script="bad.sh"),
        replace(request, script=None, run_list=("recipe[web]",)),
        connection(tmp_path),
    )


def chef(tmp_path: Path) -> Subject:
    (tmp_path / "bin").mkdir()
    shutil.copy(STANDIN, tmp_path / "bin" / "chef-client")
    request = replace(basis(tmp_path), run_list=("recipe[web]",))
    recipes = Path(request.source) / "chef-cookbooks" / "web" / "recipes"
    recipes.mkdir(parents=True)
    (recipes / "default.rb").touch()
    (recipes.parent / "metadata.rb").write_text("name 'web'\n")
    return Subject(
        ChefConfigurator(
            lambda: None,
            shipped=str(tmp_path / "none"),
            directory=str(tmp_path / "chef"),
            candidates=[str(tmp_path / "bin" / "chef-client")],
        ),
        request,
        lambda request: replace(request, attributes={"standin": {"fail": "it broke"}}),
        replace(request, script="web.sh", run_list=()),
        connection(tmp_path),
    )


@pytest.fixture(params=[memory, script, chef], ids=lambda make: make.__name__)
def subject(request: pytest.FixtureRequest, tmp_path: Path) -> Subject:
    made: Subject = request.param(tmp_path)
    return made


def test_it_is_called_as_the_blueprint_calls_it(subject: Subject) -> None:
    assert subject.configurator.name in ("chef", "script")


def test_it_is_available_where_it_can_work(subject: Subject) -> None:
    assert subject.configurator.available(subject.connection, subject.request) is None


def test_the_second_converge_updates_nothing(subject: Subject) -> None:
    first, _ = subject.converge()
    second, _ = subject.converge()
    assert len(first.updated) == 1
    assert second.resources
    assert second.updated == ()


def test_output_is_live(subject: Subject) -> None:
    _, output = subject.converge()
    assert b"web-0" in output


def test_a_role_that_asks_for_nothing_is_done(subject: Subject) -> None:
    nothing = replace(subject.request, script=None, run_list=())
    assert subject.configurator.available(subject.connection, nothing) is None
    assert subject.converge(nothing)[0] == ConvergeResult()


def test_a_role_for_the_other_configurator_is_refused_with_a_reason(subject: Subject) -> None:
    reason = subject.configurator.available(subject.connection, subject.other)
    assert reason is not None
    assert "web" in reason
    with pytest.raises(StageFailed, match="web"):
        subject.converge(subject.other)


def test_a_bad_product_fails_and_names_the_node(subject: Subject) -> None:
    with pytest.raises(StageFailed, match="web-0"):
        subject.converge(subject.spoil(subject.request))
