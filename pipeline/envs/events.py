"""Events: what changed between two states of an aggregate, for its own subject and for who watches the run."""

from __future__ import annotations

from pipeline.domain.acceptances import Acceptance
from pipeline.domain.environments import Environment
from pipeline.domain.runs import Run, StageRun
from pipeline.domain.scaling import Scaling
from pipeline.ports.stores import Event

#: The subject under which changes of machines are told, besides a machine's own.
MACHINE_EVENTS = "machines"


def of_run(old: Run | None, new: Run, now: float) -> list[Event]:
    """One event for the run's own change, one for each attempt and stage that changed."""
    events: list[Event] = []
    if old is None or old.state is not new.state:
        data = {"state": new.state, "verdict": new.verdict, "reason": new.reason}
        events.append(Event(new.id, f"run.{new.state}", now, data))
    before = old.stages if old is not None else new.stages
    for was, is_ in zip(before, new.stages, strict=True):
        events += _of_stage(new.id, was, is_, now)
    return events


def _of_stage(run_id: str, was: StageRun, is_: StageRun, now: float) -> list[Event]:
    events = []
    for attempt in is_.attempts:
        known = was.attempts[attempt.number - 1] if attempt.number <= len(was.attempts) else None
        if known is None or known.state is not attempt.state:
            data = {"stage": is_.name, "attempt": attempt.number, "state": attempt.state, "reason": attempt.reason}
            events.append(Event(run_id, "attempt." + attempt.state, now, data))
    if was.state is not is_.state:
        data = {"stage": is_.name, "state": is_.state, "reason": is_.reason}
        events.append(Event(run_id, "stage." + is_.state, now, data))
    return events


def of_environment(old: Environment | None, new: Environment, now: float) -> list[Event]:
    """The environment's change under its own subject and its owner's."""
    if old is not None and old.state is new.state and _same(old, new):
        return []
    data = {
        "environment": new.id,
        "state": new.state,
        "reason": new.reason,
        "fault": new.fault,
        "ends_at": new.ends_at,
        "goes_at": new.notice.at if new.notice is not None else None,
        "goes_for": new.notice.reason if new.notice is not None else "",
        "nodes": {node.name: node.address for node in new.nodes},
        "machines": {node.name: node.machine for node in new.nodes if node.machine},
    }
    kind = f"environment.{new.state}"
    subjects = [new.id] + ([new.owner] if new.owner else [])
    return [Event(subject, kind, now, data) for subject in subjects]


def node_lost(environment: Environment, name: str, why: str, now: float) -> Event:
    (node,) = environment.named({name})
    data = {"environment": environment.id, "node": name, "role": node.role, "machine": node.machine, "fault": why}
    return Event(environment.id, "environment.node-lost", now, data)


def scaling_begins(environment: Environment, scaling: Scaling, now: float) -> Event:
    """Nodes are to come or to go."""
    kind = "environment.scaling" if scaling.moves is None else "environment.moving"
    return _of_scaling(kind, environment, scaling, now)


def scaled(environment: Environment, scaling: Scaling, now: float) -> Event:
    """The change of its nodes is over; `degraded` says why it has not those that were wished, if so."""
    kind = "environment.scaled" if scaling.moves is None else "environment.moved"
    return _of_scaling(kind, environment, scaling, now)


def _of_scaling(kind: str, environment: Environment, scaling: Scaling, now: float) -> Event:
    data = {
        "environment": environment.id,
        "role": scaling.role,
        "count": scaling.count,
        "who": scaling.who,
        "why": scaling.why,
        "coming": list(scaling.coming),
        "going": list(scaling.going),
        "degraded": environment.degraded,
        "nodes": {node.name: node.address for node in environment.nodes},
        "machines": {node.name: node.machine for node in environment.nodes},
        "to": scaling.moves.to if scaling.moves is not None else "",
        "back": scaling.moves.back if scaling.moves is not None else "",
    }
    return Event(environment.id, kind, now, data)


def _same(old: Environment, new: Environment) -> bool:
    return (old.fault, old.ends_at, old.told_at, old.notice) == (new.fault, new.ends_at, new.told_at, new.notice)


def of_acceptance(acceptance: Acceptance, now: float) -> tuple[Event, ...]:
    """That it was asked for, or what its verdict is, under its own subject and that of all machines."""
    kind = "acceptance.asked" if acceptance.open else f"acceptance.{acceptance.verdict}"
    data = {
        "acceptance": acceptance.id,
        "provider": acceptance.provider,
        "machine": acceptance.machine,
        "who": acceptance.who,
        "verdict": acceptance.verdict,
        "reason": acceptance.reason,
        "measured": [str(one) for one in acceptance.measured],
    }
    return tuple(Event(subject, kind, now, data) for subject in (acceptance.id, MACHINE_EVENTS))
