"""Documents as an earlier version wrote them, before quotas and notices: they load, and what they began goes on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pipeline.domain.environments import EnvironmentState
from pipeline.domain.inventory import Load, MachineState
from pipeline.domain.projects import Quota
from pipeline.domain.runs import Verdict
from pipeline.envs.books import ENVIRONMENTS, INVENTORIES, LOADS, MACHINES, PROJECTS, RUNS, TRIGGERS, Kind
from pipeline.ports.stores import Document
from tests.scenarios.world import World

KINDS: Mapping[str, Kind[Any]] = {
    kind.name: kind for kind in (ENVIRONMENTS, INVENTORIES, LOADS, MACHINES, PROJECTS, RUNS, TRIGGERS)
}
#: Written at commit 55ef926 by a `World` with keys and secrets left out.
OLD: Mapping[str, list[dict[str, Any]]] = json.loads((Path(__file__).parent / "old_documents.json").read_text())
E = EnvironmentState


def named(kind: str, body: Mapping[str, Any]) -> str:
    if kind == MACHINES.name:
        return f"{body['provider']}.{body['machine']['name']}"
    return str(body.get("id") or body.get("name") or "cloud")


@pytest.fixture
def world(tmp_path: Path) -> World:
    """What was there goes on under this version."""
    world = World(str(tmp_path), max_nodes=5)
    world.program(r"\./(migrate|check)", lambda _: 0)
    for kind, bodies in OLD.items():
        for body in bodies:
            id = named(kind, body)
            world.books.commit(KINDS[kind].put(id, KINDS[kind].value(Document(kind, id, 1, json.dumps(body))), 0))
    return world


@pytest.mark.parametrize("kind", OLD)
def test_they_load_and_keep_all_that_they_say(kind: str) -> None:
    for body in OLD[kind]:
        value = KINDS[kind].value(Document(kind, "any", 1, json.dumps(body)))
        again = json.loads(json.dumps(KINDS[kind].body(value)))
        assert lost(body, again) == []


def lost(old: Any, new: Any, where: str = "") -> list[str]:
    """What of an old document is not in a new one."""
    if isinstance(old, dict):
        gone = [f"{where}.{key}" for key in old if key not in new]
        return gone + [one for key in old if key in new for one in lost(old[key], new[key], f"{where}.{key}")]
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        if all(isinstance(one, str) for one in old):
            return [] if sorted(old) == sorted(new) else [where]
        return [one for was, is_ in zip(old, new, strict=True) for one in lost(was, is_, where)]
    return [] if old == new else [f"{where}: {old} is {new}"]


def test_what_is_new_is_not_there(world: World) -> None:
    environments = world.all_environments()
    assert [one.state for one in environments] == [E.REQUESTED, E.BUILDING]
    for one in environments:
        assert (one.notice, one.nomination, one.preempted, one.avoid, one.wait) == (None, None, 0, (), None)
    machine = world.inventories.view("cloud").inventory.machine("m1")
    assert (machine.state, machine.back_at, machine.probation) == (MachineState.QUARANTINED, None, False)
    project = world.books.projects.get("shop").value
    assert (project.quota, project.rules, project.weight) == (Quota(), (), 1.0)


def test_what_they_began_goes_on_to_its_end(world: World) -> None:
    world.clock.sleep(10)
    for _ in range(20):
        world.inventories.report_loads("cloud", {name: Load(world.clock.now(), {"vcpu": 0.1}) for name in ("m1", "m2")})
        world.advance(5)
    waits, built = world.all_environments()
    assert built.state is E.DESTROYED
    assert "waits, position 1" in waits.reason
    assert [run.verdict for run in world.all_runs() if run.environment_id == built.id] != [None]
    waiting = next(run for run in world.all_runs() if run.environment_id == waits.id)
    world.control.cancel(waiting.id)
    world.advance(5)
    assert world.books.runs.get(waiting.id).value.verdict is Verdict.CANCELLED
    assert world.cloud.nodes == {}
