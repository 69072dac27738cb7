"""What becomes of the time of an environment that somebody asked for: begun, extended, held, protected, warned of."""

from __future__ import annotations

from dataclasses import replace

from pipeline.domain.contracts import Contract
from pipeline.domain.durations import format_duration
from pipeline.domain.environments import Environment, EnvironmentState, hold
from pipeline.domain.errors import InvalidTransition, UserError
from pipeline.domain.moments import to_the_second
from pipeline.domain.projects import Project
from pipeline.domain.qos import QosClass

#: In these its time runs.
LIVING = frozenset({EnvironmentState.LEASED, EnvironmentState.HELD})


def contract_of(environment: Environment) -> Contract:
    """The contract; InvalidTransition for an environment of a run or of nobody."""
    if environment.contract is None:
        whose = f"run {environment.owner}" if environment.owner else "nobody"
        raise InvalidTransition(f"environment {environment.id} was asked for by {whose}: it has no time of its own")
    return environment.contract


def granted(project: Project, wanted_s: float | None) -> float:
    """The time to live that a request gets, in seconds; UserError beyond the project's maximum, with both figures."""
    ttl_s = min(project.ttl_s, project.most_ttl_s) if wanted_s is None else wanted_s
    if ttl_s > project.most_ttl_s:
        raise UserError(
            f"a time to live of {format_duration(ttl_s)} is wanted; project {project.name} allows "
            f"{format_duration(project.most_ttl_s)}: ask for less, or let an operator raise its `most_ttl`"
        )
    return ttl_s


def extended(environment: Environment, by_s: float) -> Environment:
    """Let it live longer by so many seconds; it never ends earlier than before, and its state stays."""
    contract = _living(environment)
    end = environment.ends_at + by_s
    _check_end(environment, contract, end, f"longer by {format_duration(by_s)}")
    return replace(environment, ends_at=end)


def kept(environment: Environment, for_s: float, now: float, reason: str) -> Environment:
    """Hold it for so many seconds from now at least: it is not taken back for somebody else, nor given up earlier."""
    contract = _living(environment)
    end = max(environment.ends_at, now + for_s)
    _check_end(environment, contract, end, f"held for {format_duration(for_s)}")
    return hold(environment, end, now, reason)


def protect(environment: Environment, reason: str) -> Environment:
    """Let nothing but its owner end it, its time included; without a reason it is protected no more."""
    _living(environment)
    return replace(environment, protected=reason)


def warned(environment: Environment) -> Environment:
    """Its end was warned of; another end is warned of again."""
    return replace(environment, contract=replace(contract_of(environment), warned=environment.ends_at))


def warning_due(environment: Environment) -> float | None:
    """When its end is to be warned of; None when it is not."""
    contract = environment.contract
    if contract is None or environment.state not in LIVING or environment.protected:
        return None
    return None if contract.warned == environment.ends_at else environment.ends_at - contract.warns_s


def begun(environment: Environment, now: float) -> Environment:
    """Its nodes are in service: its time to live begins. Without a run nothing else is to be done on them."""
    contract = environment.contract
    if contract is None:
        return environment
    starts = replace(contract, began_at=now, ready_at=0.0 if environment.owner else now)
    return replace(environment, contract=starts, ends_at=now + contract.ttl_s)


def may_end(environment: Environment) -> list[str]:
    """What may end it before its time, in words."""
    found = ["it is given back, or an operator destroys it, giving a reason"]
    if environment.owner and environment.contract is not None and not environment.contract.ready_at:
        found.append(f"run {environment.owner}, which prepares it, fails or is cancelled")
    if environment.contract is not None and environment.contract.pull:
        found.append("its pull request is closed, or an environment of a newer commit takes its place")
    if _may_be_preempted(environment):
        found.append("somebody else needs its room: all its nodes are best-effort, and it would get notice")
    if environment.state not in LIVING:
        found.append("its nodes cannot be built")
    return found


def _may_be_preempted(environment: Environment) -> bool:
    firm = environment.state is EnvironmentState.HELD or bool(environment.protected)
    return not firm and all(node.qos.qos_class is QosClass.BEST_EFFORT for node in environment.nodes)


def ready(environment: Environment, now: float) -> Environment:
    """It was configured and deployed."""
    contract = contract_of(environment)
    return replace(environment, contract=replace(contract, ready_at=contract.ready_at or now))


def _living(environment: Environment) -> Contract:
    contract = contract_of(environment)
    if environment.state not in LIVING:
        raise InvalidTransition(
            f"environment {environment.id} is {environment.state}: its time can be changed while it is leased or held"
        )
    return contract


def _check_end(environment: Environment, contract: Contract, end: float, what: str) -> None:
    if end > contract.last_end:
        raise UserError(
            f"environment {environment.id} {what} would end at {to_the_second(end)}; its project lets it live for "
            f"{format_duration(contract.most_s)}, until {to_the_second(contract.last_end)}: ask for at most "
            f"{format_duration(max(0.0, contract.last_end - environment.ends_at))} more, or for a new environment"
        )
