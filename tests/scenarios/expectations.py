"""What a scenario expects, and what must hold in every scenario.

`runs`: in order of their making: `verdict`, `state`, `reason` (a part of it), `stages` (name to state), `attempts`
(name to the states of all attempts), `tests` (counts), `superseded_by` (number of a run), `logs` (log to a part of it)
and `artifacts` (name to content). `environments`: their states, in order. `faults`: environments' faults (parts).
`triggers`: `state`, and `reason` (a part). `statuses`: what the forge took, as `STATE RUN-NUMBER`. `noticed`: which
environments were told to go, by number. `reasons`: environments' reasons (parts). `machines`: name to its state, `on
probation` and the reason (parts). `networks`: what the cloud was asked for last, name to `cidr` or `shared`. `wiring`:
the same by node: `networks` (name to address), `open`, `virtual_address`, `floating`, `server`. `audit`: targets of
quarantines and returns. `breakers`: kind of call to its state. `made`: nodes ever made. `servers`: nodes in the cloud
(default 0 when nothing is held or runs). `broken_jobs`: errors that jobs ended with.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

from pipeline.domain.environments import QUOTA_STATES, Environment, EnvironmentState
from pipeline.domain.environments import TRANSITIONS as ENVIRONMENT_TRANSITIONS
from pipeline.domain.runs import RUN_TRANSITIONS, AttemptState, Run, RunState, StageState
from pipeline.envs.calls import Breakers
from pipeline.ports.drivers import EnvironmentRequest, NodeRequest
from pipeline.ports.stores import Event
from tests.scenarios.world import World

Expected = Mapping[str, Any]
A = AttemptState
ENDED = frozenset(AttemptState) - {A.QUEUED, A.RUNNING, A.WAITING}
#: Besides these, a run that never began goes straight to its end, and one that gives back held nodes to its finish.
ATTEMPT_TRANSITIONS: Mapping[AttemptState, frozenset[AttemptState]] = {
    A.QUEUED: frozenset({A.RUNNING, A.CANCELLED, A.LOST}),
    A.RUNNING: ENDED | {A.WAITING},
    A.WAITING: frozenset({A.RUNNING, A.CANCELLED}),
}


def check(world: World, expected: Expected) -> None:
    """Everything the scenario says and everything that always holds."""
    unknown = expected.keys() - _CHECKS.keys() - {"servers", "broken_jobs"}
    assert not unknown, f"nothing is known to check {unknown}"
    for name, value in expected.items():
        if name in _CHECKS:
            _CHECKS[name](world, value)
    assert [error.code for error in world.broken] == expected.get("broken_jobs", [])
    _check_servers(world, expected.get("servers"))
    check_histories(world)


def check_histories(world: World) -> None:
    """What runs and environments went through is something that can be gone through."""
    for run in world.all_runs():
        _check_run_always(world, run)
    for environment in world.all_environments():
        _check_environment_events(world, environment)


def _runs(world: World, expected: list[Expected]) -> None:
    runs = world.all_runs()
    assert len(runs) == len(expected), [f"{run.id}: {run.verdict}: {run.reason}" for run in runs]
    for run, wanted in zip(runs, expected, strict=True):
        _run(world, run, wanted)


def _run(world: World, run: Run, wanted: Expected) -> None:
    stages = {stage.name.value: stage.state.value for stage in run.stages}
    said = f"{run.id}: {run.state}, {run.verdict}: {run.reason}; {stages}"
    for key, value in wanted.items():
        match key:
            case "reason":
                assert value in run.reason, said
            case "stages":
                assert {name: stages[name] for name in value} == value, said
            case "attempts":
                assert {name: _attempts(run, name) for name in value} == value, said
            case "superseded_by":
                assert run.superseded_by == world.all_runs()[value - 1].id, said
            case "tests":
                assert {name: getattr(run.tests, name) for name in value} == value
            case "logs" | "artifacts":
                _files(world, run, wanted)
            case _:
                assert getattr(run, key) == value, said


def _files(world: World, run: Run, wanted: Expected) -> None:
    for name, part in wanted.get("logs", {}).items():
        assert part in world.logs.read(run.id, name, 0, 1 << 20).decode(), name
    if "artifacts" in wanted:
        kept = {file.name: _artifact(world, run, file.name) for file in world.logs.artifacts(run.id)}
        assert kept == wanted["artifacts"]


def _artifact(world: World, run: Run, name: str) -> str:
    return b"".join(world.logs.open_artifact(run.id, name)).decode()


def _attempts(run: Run, name: str) -> list[str]:
    stage = next(stage for stage in run.stages if stage.name == name)
    return [attempt.state.value for attempt in stage.attempts]


def _environments(world: World, expected: list[str]) -> None:
    assert [environment.state.value for environment in world.all_environments()] == expected


def _faults(world: World, expected: list[str]) -> None:
    for environment, part in zip(world.all_environments(), expected, strict=True):
        assert part in environment.fault
        assert bool(part) == bool(environment.fault)


def _reasons(world: World, expected: list[str]) -> None:
    for environment, part in zip(world.all_environments(), expected, strict=True):
        assert part in environment.reason


def _triggers(world: World, expected: list[Expected]) -> None:
    records = [loaded.value for loaded in world.books.triggers.in_index("triggers")]
    assert len(records) == len(expected)
    for record, wanted in zip(records, expected, strict=True):
        assert record.state == wanted["state"], record.reason
        assert wanted.get("reason", "") in record.reason


def _statuses(world: World, expected: list[str]) -> None:
    numbers = {run.id: number for number, run in enumerate(world.all_runs(), start=1)}
    taken = [f"{status.state} {numbers[status.url.rpartition('/')[2]]}" for status in world.forge.reported]
    assert taken == expected
    assert all(len(status.description) <= 140 for status in world.forge.reported)


def _noticed(world: World, expected: list[int]) -> None:
    told = enumerate(world.all_environments(), start=1)
    assert [number for number, environment in told if environment.notice is not None] == expected


def _machines(world: World, expected: Mapping[str, str]) -> None:
    inventory = world.inventories.view("cloud").inventory
    for name, part in expected.items():
        machine = inventory.machine(name)
        said = f"{machine.state}{' on probation' if machine.probation else ''}: {machine.state_reason}"
        assert said.startswith(part if " on probation" in part else f"{part}{'' if ':' in part else ':'}"), said


def _networks(world: World, expected: Mapping[str, str]) -> None:
    request = _asked_last(world)
    assert request.project == world.all_environments()[-1].project
    assert {one.name: one.cidr or one.shared for one in request.networks} == expected


def _wiring(world: World, expected: Mapping[str, Expected]) -> None:
    assert {node.name: _wires(node) for node in _asked_last(world).nodes} == expected


def _asked_last(world: World) -> EnvironmentRequest:
    return world.cloud.requests[world.all_environments()[-1].id]


def _wires(node: NodeRequest) -> Expected:
    """What is not usual of a node."""
    told = {
        "networks": {one.network: one.address for one in node.wiring.attachments},
        "open": [str(one) for one in node.wiring.openings],
        "virtual_address": node.wiring.virtual_address,
        "floating": node.wiring.floating,
        "server": {name: value for name, value in vars(node.custom).items() if value},
    }
    return {name: value for name, value in told.items() if value}


def _audit(world: World, expected: list[str]) -> None:
    events = world.store.events("audit")
    assert [event.data["target"] for event in events if event.type == "audit.quarantine"] == expected
    assert all(event.data["why"] for event in events)


def _breakers(world: World, expected: Mapping[str, str]) -> None:
    for call, breaker in Breakers(world.books, world.clock).of("cloud").items():
        assert breaker.state.value in expected.get(call, "closed").split(" or "), breaker


def _made(world: World, expected: int) -> None:
    assert world.cloud.made == expected


_CHECKS: Mapping[str, Callable[[World, Any], None]] = {
    "runs": _runs,
    "environments": _environments,
    "faults": _faults,
    "noticed": _noticed,
    "reasons": _reasons,
    "triggers": _triggers,
    "statuses": _statuses,
    "machines": _machines,
    "networks": _networks,
    "wiring": _wiring,
    "audit": _audit,
    "breakers": _breakers,
    "made": _made,
}


def _check_servers(world: World, expected: int | None) -> None:
    """Whatever exists is wanted by somebody: nothing is left when all is over."""
    if expected is not None:
        assert len(world.cloud.nodes) == expected, world.cloud.nodes
        return
    known = {environment.id for environment in world.all_environments() if environment.state in QUOTA_STATES}
    assert {id for id, _ in world.cloud.nodes} <= known
    if all(run.state is RunState.FINISHED for run in world.all_runs()):
        held = {e.id for e in world.all_environments() if e.state in {EnvironmentState.HELD, EnvironmentState.ADOPTED}}
        assert {id for id, _ in world.cloud.nodes} <= held
        assert known <= held


def _check_run_always(world: World, run: Run) -> None:
    open_attempts = [attempt for stage in run.stages for attempt in stage.attempts if attempt.open]
    assert len(open_attempts) <= 1
    if run.state is RunState.FINISHED:
        assert run.verdict is not None
        assert not open_attempts
        assert all(stage.state not in {StageState.PENDING, StageState.RUNNING} for stage in run.stages)
    _check_run_events([event for event in world.store.events(run.id) if event.type.startswith("run.")], run)
    _check_attempt_events([event for event in world.store.events(run.id) if event.type.startswith("attempt.")])


def _check_run_events(events: list[Event], run: Run) -> None:
    states = [RunState(event.type.removeprefix("run.")) for event in events]
    laps = states.count(RunState.PENDING)
    assert laps <= 1 + run.preempted, f"{run.id}: only preemption makes it wait again: {states}"
    told = states[-1 - states[::-1].index(RunState.PENDING) :] if laps else states
    assert len(set(told)) == len(told), f"{run.id}: a transition was told twice: {states}"
    assert told == sorted(told, key=list(RunState).index)
    assert states[-1] is run.state
    for before, after in pairwise(states):
        gives_back = run.rerun_of and before is RunState.PENDING and after is RunState.FINISHING
        assert after in RUN_TRANSITIONS[before] or gives_back


def _check_attempt_events(events: list[Event]) -> None:
    told: defaultdict[tuple[str, int], list[AttemptState]] = defaultdict(list)
    for event in events:
        told[event.data["stage"], event.data["attempt"]].append(AttemptState(event.data["state"]))
    for key, states in told.items():
        assert states[0] is A.QUEUED, key
        for before, after in pairwise(states):
            assert after in ATTEMPT_TRANSITIONS[before], (key, states)


def _check_environment_events(world: World, environment: Environment) -> None:
    events = [event for event in world.store.events(environment.id) if event.type.startswith("environment.")]
    states = [EnvironmentState(event.type.removeprefix("environment.")) for event in events]
    assert states[-1] is environment.state
    for before, after in pairwise(states):
        assert after in ENVIRONMENT_TRANSITIONS[before] or after is before, states
