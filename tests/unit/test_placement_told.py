"""What a person is told of a placement: the same words everywhere, in 80 columns, with an exit status."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer

from pipeline.adapters.clock import ManualClock
from pipeline.adapters.stores.memory import MemoryStore
from pipeline.api.placements import PlacementView
from pipeline.cli import render
from pipeline.cli.commands import placement
from pipeline.cli.output import FAILED, OK, REFUSED, Output
from pipeline.domain.blueprint import EnvironmentSpec, RoleSpec
from pipeline.domain.environments import EnvironmentState
from pipeline.domain.inventory import Inventory, MachineState
from pipeline.domain.placement.choices import choices
from pipeline.domain.placement.engine import decide
from pipeline.domain.placement.fleet import Fleet
from pipeline.domain.placement.model import Placed, RoleRequest
from pipeline.domain.rules import Affinity, Attribute, PlacementRules, Spread, Stance, Strategy
from pipeline.envs.books import Books
from pipeline.envs.gate import Gate
from pipeline.envs.inventories import Inventories
from pipeline.envs.placements import Trial
from pipeline.envs.preemption import Preemptions
from pipeline.envs.scheduler import Scheduler
from tests.tools.placement_applier import Case
from tests.tools.placement_by_hand import NOW, asking, on, small, web
from tests.tools.placement_instances import demand
from tests.tools.requests import ask, provider, requested
from tests.unit.test_cli_render import ENVIRONMENT, RUN

THIRD_AND_FOURTH = PlacementRules(
    (Affinity(Stance.REQUIRE, Attribute.ZONE, ("z0",)), Affinity(Stance.FORBID, Attribute.ZONE, ("z0",), "rule night"))
)


def down(inventory: Inventory) -> Inventory:
    first, *others = inventory.machines
    return replace(inventory, machines=(first.to(MachineState.QUARANTINED, 0.0, "5 of 6 builds failed"), *others))


FULL = Case(down(small(4, 2)), asking(web(2)), tuple(on(f"m{at}", 3.5) for at in range(1, 4)))
IMPOSSIBLE = Case(small(), asking(web(1, THIRD_AND_FOURTH)))
FREE = Case(small(), asking(web(2, PlacementRules(spread=Spread.MACHINE)), RoleRequest("db", 1, demand(2, 2048))))


def answer_of(case: Case) -> dict[str, Any]:
    decision = case.decide()
    why = choices(case.fleet(), case.request, decision) if isinstance(decision, Placed) else ()
    zones = {one.name: one.zone for one in case.inventory.machines}
    return PlacementView.of(Trial("lab", decision, zones, why)).model_dump(mode="json")


class Twin:
    """A client that answers one request for a placement, and no other."""

    def __init__(self, answer: dict[str, Any]) -> None:
        self.answer = answer

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        assert (path, set(body)) == ("/v1/placements", {"blueprint", "provider", "project"})
        return self.answer


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    (tmp_path / "greenroom.yml").write_text("version: 1\n")
    monkeypatch.setattr("pipeline.cli.output.PLAIN_WIDTH", 80)

    def run(case: Case) -> tuple[int, str]:
        monkeypatch.setattr("pipeline.cli.client.connect", lambda: Twin(answer_of(case)))
        with pytest.raises(typer.Exit) as ended:
            placement.place(tmp_path, explain=True)
        return ended.value.exit_code, capsys.readouterr().out

    return run


@pytest.mark.parametrize(("case", "status"), [(FREE, OK), (FULL, FAILED), (IMPOSSIBLE, REFUSED)])
def test_an_answer_fits_into_80_columns_and_has_a_status(case: Case, status: int, place: Any) -> None:
    code, said = place(case)
    assert code == status
    assert [line for line in said.splitlines() if len(line) > 80] == []


def test_a_full_fleet_says_what_each_machine_lacks_and_what_would_help(place: Any) -> None:
    _, said = place(FULL)
    assert said.startswith("Unschedulable now: it would wait.\nrole web: 0 of 2 nodes find a machine")
    assert "1 refused by state (m0): quarantined since 1970-01-01 00:00 UTC" in said
    assert "2 refused by capacity (m1, m3): at least 0.5 vCPU short" in said
    assert "1. free 0.5 vCPU on machine" in said
    assert "2. put machine m0 back in service\n" in said
    assert "`greenroom machines` lists" in said


def test_a_contradiction_says_that_waiting_is_in_vain_and_which_rules_they_are(place: Any) -> None:
    _, said = place(IMPOSSIBLE)
    flat = " ".join(said.split())
    assert flat.startswith("Infeasible: waiting would not help. role web can never be placed: require zone z0")
    assert "1. take the rule of role web back: require zone z0 (greenroom.yml)" in flat
    assert "2. take the rule of role web back: forbid zone z0 (rule night)" in flat


def test_a_place_says_what_spoke_for_it(place: Any) -> None:
    _, said = place(FREE)
    assert "node    zone   machine   points   fullness" in said
    assert "db-0" in said
    assert "  or " in said
    assert "More points are better" in said


def test_an_answer_for_programs_has_every_change_by_its_parts() -> None:
    answer = answer_of(FULL)
    assert answer["text"] == str(FULL.decide().explanation)  # type: ignore[union-attr]  # it is refused
    assert answer["rule"] == "no-room"
    (back,) = answer["remedies"][1]["steps"]
    assert back == {"change": "ReturnToService", "text": "put machine m0 back in service", "what": {"machine": "m0"}}
    assert {group["rule"] for group in answer["groups"]} == {"state", "capacity"}


def test_the_points_of_a_choice_are_those_that_decided() -> None:
    """The chosen machine has no fewer points than the other one, for one node of one role."""
    wish = Affinity(Stance.PREFER, Attribute.ZONE, ("z1",))
    for strategy in Strategy:
        request = asking(web(1, PlacementRules((wish,))), strategy=strategy)
        fleet = Fleet(small(), [on("m0", 1)])
        answer = decide(fleet, request, NOW)
        assert isinstance(answer, Placed)
        (choice,) = choices(fleet, request, answer)
        assert choice.other is not None
        assert choice.chosen.points["preferred"] == 4.0
        assert choice.chosen.total >= choice.other.total


def test_the_scheduler_and_the_run_page_tell_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    clock = ManualClock()
    books = Books(MemoryStore(clock))
    inventories = Inventories(books, clock, Gate(books, clock))
    inventories.sync("lab", down(small(1, 1)))
    account = provider("lab", clock)
    spec = EnvironmentSpec("debian-12", (RoleSpec("web", size="small"),))
    ask(books, [requested("env-1", spec, "lab", clock.now())])
    preemptions = Preemptions(books, Gate(books, clock))
    Scheduler(books, lambda _: account, inventories, preemptions, clock).reserve(None)
    environment = books.environments.get("env-1").value
    assert environment.state is EnvironmentState.REQUESTED
    assert environment.reason.startswith("waits, position 1, no estimate yet: role web: 0 of 1 nodes find a machine")
    assert environment.reason.endswith("to place it: put machine m0 back in service")
    shown = {**ENVIRONMENT, "state": "requested", "reason": environment.reason, "fault": "", "notes": []}
    shown |= {"notice": None, "position": 1}
    render.run(Output(), RUN, shown, [])
    said = capsys.readouterr().out
    assert [line for line in environment.reason.splitlines() if line not in said] == []


def test_a_reason_of_several_lines_is_whole_above_and_short_in_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    stage = {"name": "deliver", "state": "error", "reason": "no room\nto place it: wait", "attempts": [], "seconds": 1}
    render.run(Output(), {**RUN, "reason": stage["reason"], "stages": [stage]}, None, [])
    said = capsys.readouterr().out
    assert "  reason     no room\n             to place it: wait\n" in said
    assert "no room …" in said
