"""Warm pools: how many environments of a template are kept ready, which of them may be handed out, and which go."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from pipeline.domain.blueprint import Blueprint, Priority
from pipeline.domain.contracts import Contract, checked_name
from pipeline.domain.durations import format_duration
from pipeline.domain.environments import Environment, EnvironmentState, planned_nodes
from pipeline.domain.errors import UserError
from pipeline.domain.leases import LIVING
from pipeline.domain.warm import MOST_SILENT, Warm

E = EnvironmentState
#: Environments of one pool.
MOST = 500
#: A pool whose environments live shorter builds all the time.
LEAST_AGE_S = 60.0
MAX_AGE_S = 8 * 3600.0
#: One that is to go by its age within so many seconds is replaced before, where `most` allows it.
RENEW_S = 60.0
#: Asked for in one round: a pool that was changed must not take a whole look of the scheduler.
ROUND = 10
#: After a failure nothing is asked for so long, in seconds: twice as long for each further one, up to the last.
BACK_OFF_S, MOST_OFF_S = 10.0, 600.0


@dataclass(frozen=True)
class Pool:
    """`ready` environments of a template are kept for requests of a project; `most` stand, those handed out included.

    `max_age_s`: so long one is kept ready. `trouble` is why nothing can be built for it, if so. Times are epoch
    seconds.
    """

    name: str
    project: str
    template: str
    ready: int
    most: int
    max_age_s: float
    created_at: float
    changed_at: float
    trouble: str = ""


def checked(pool: Pool) -> Pool:
    """The same pool; UserError names the field that cannot be meant."""
    checked_name(pool.name)
    if not 0 <= pool.ready <= MOST:
        raise UserError(f"ready: {pool.ready} environments; a pool keeps 0 to {MOST}")
    if not max(1, pool.ready) <= pool.most <= MOST:
        raise UserError(f"max: {pool.most}; say at least what is kept ready ({pool.ready}), and at most {MOST}")
    if pool.max_age_s < LEAST_AGE_S:
        raise UserError(f"max_age: {format_duration(pool.max_age_s)}; say at least {format_duration(LEAST_AGE_S)}")
    return pool


def fingerprint(*parts: str) -> str:
    """The same for the same template of the same project at the same provider."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def stocked(id: str, pool: Pool, blueprint: Blueprint, provider: str, made_of: str, now: float) -> Environment:
    """An environment that is asked for to be kept ready."""
    return Environment(
        id=id,
        project=pool.project,
        service=blueprint.service,
        owner="",
        provider=provider,
        state=E.REQUESTED,
        nodes=planned_nodes(blueprint.environment),
        priority=Priority.NIGHTLY,
        created_at=now,
        state_since=now,
        ends_at=now + pool.max_age_s,
        rules=blueprint.environment.rules,
        networks=blueprint.environment.networks,
        door=blueprint.door,
        warm=Warm(pool.name, made_of, pool.max_age_s),
    )


def stands(environment: Environment, now: float) -> Environment:
    """Its nodes are in service: from now on it grows old."""
    warm = environment.warm
    if warm is None or not environment.unclaimed:
        return environment
    return replace(environment, ends_at=now + warm.max_age_s)


def checked_well(environment: Environment, now: float) -> Environment:
    """Its nodes answered."""
    return _noted(environment, checked_at=now, silent=0, fault="")


def checked_ill(environment: Environment, fault: str, now: float) -> Environment:
    """A node did not answer."""
    silent = environment.warm.silent + 1 if environment.warm is not None else 0
    return _noted(environment, checked_at=now, silent=silent, fault=fault)


def _noted(environment: Environment, checked_at: float, silent: int, fault: str) -> Environment:
    if environment.warm is None:
        return environment
    noted = replace(environment.warm, checked_at=checked_at, silent=silent, fault=fault)
    return replace(environment, warm=noted)


def may_be_handed_out(environment: Environment, made_of: str, out: Mapping[str, str], now: float) -> bool:
    """Whether it may be claimed. `out` are machines that are not in service, by name, and why."""
    warm = environment.warm
    if warm is None or not environment.unclaimed or environment.state is not E.READY:
        return False
    return warm.well and environment.notice is None and not _worn(environment, made_of, out, now)


def claim(
    environment: Environment, contract: Contract, owner: str, protected: str, asked_at: float, now: float
) -> Environment:
    """It is leased to whoever asked, and to nobody else; its keys are not confirmed yet. `owner` is the run that
    prepares it, if one does.
    """
    assert environment.warm is not None  # noqa: S101  # only those of a pool are claimed
    leased = environment.to(E.LEASED, now)
    return replace(
        leased,
        owner=owner,
        priority=Priority.INTERACTIVE,
        contract=replace(contract, began_at=now),
        protected=protected,
        ends_at=now + contract.ttl_s,
        warm=replace(environment.warm, asked_at=asked_at, claimed_at=now, keyed_at=0.0),
    )


def is_unconfirmed(environment: Environment) -> bool:
    """Whether somebody claimed it and his keys are not known to be on its nodes."""
    warm = environment.warm
    return warm is not None and warm.claimed_at > 0 and not warm.keyed_at and environment.state in LIVING


def confirm(environment: Environment, now: float) -> Environment:
    """The requester's keys, and no others, are on every node; where nothing is to be deployed it is ready."""
    contract, warm = environment.contract, environment.warm
    assert contract is not None and warm is not None  # noqa: S101, PT018  # it was claimed
    ready_at = 0.0 if environment.owner else now
    return replace(environment, contract=replace(contract, ready_at=ready_at), warm=replace(warm, keyed_at=now))


def give_up(environment: Environment, fault: str, now: float) -> Environment:
    """It is nobody's any more, and its time is over: the keys could not be confirmed."""
    return replace(environment, contract=None, protected="", fault=fault, ends_at=now)


@dataclass(frozen=True)
class Plan:
    """What becomes of a pool now: so many are asked for, and these go, each with the reason."""

    ask: int
    back: Mapping[str, str]
    why: str = ""


def plan(
    pool: Pool,
    made_of: str,
    stock: Sequence[Environment],
    handed_out: int,
    failures: Sequence[float],
    out: Mapping[str, str],
    now: float,
) -> Plan:
    """Keep a pool as full as it should be.

    `stock`: its environments that nobody claimed and that are not on their way out; `handed_out` others that it gave
    away and that still stand. `failures` are the moments at which builds for it failed lately. Without `made_of`
    nothing can be built, and all that is kept goes.
    """
    worn = {one.id: why for one in stock if (why := _worn(one, made_of, out, now))}
    kept = sorted((one for one in stock if one.id not in worn and not _ages(one, now)), key=_dearest)
    surplus = {one.id: f"pool {pool.name} keeps {pool.ready} ready" for one in kept[pool.ready :]}
    back, wanted = {**worn, **surplus}, pool.ready - len(kept)
    room = pool.most - handed_out - len(stock)
    if not made_of or wanted <= 0:
        return Plan(0, back)
    if room <= 0:
        return Plan(0, back, f"{pool.most} stand already, those handed out included: its max is reached")
    pause = pause_until(failures)
    if now < pause:
        return Plan(0, back, f"its last build failed; the next is asked for in {pause - now:.0f} s")
    return Plan(min(wanted, room, ROUND), back)


def pause_until(failures: Sequence[float]) -> float:
    """When something may be asked for again; 0 where nothing failed."""
    if not failures:
        return 0.0
    return max(failures) + min(MOST_OFF_S, BACK_OFF_S * math.pow(2, min(len(failures), 10) - 1))


def _ages(one: Environment, now: float) -> bool:
    """Whether it goes soon by itself: it is replaced before, and may be handed out until then."""
    return one.state is E.READY and one.ends_at - now < RENEW_S


def _dearest(one: Environment) -> tuple[bool, bool, float, str]:
    """The first stay: ready before unready, well before silent, then the youngest."""
    well = one.warm is not None and one.warm.well
    return one.state is not E.READY, not well, -one.state_since, one.id


def _worn(environment: Environment, made_of: str, out: Mapping[str, str], now: float) -> str:
    """Why it may not be kept ready any more; empty when it may."""
    warm = environment.warm
    assert warm is not None  # noqa: S101  # only those of a pool are asked about
    if warm.made_of != made_of:
        return "its template, its project's provider or its pool is another one now"
    if environment.state is E.READY and environment.ends_at <= now:
        return f"it was kept ready for {format_duration(warm.max_age_s)}, its pool's maximum age"
    if warm.silent >= MOST_SILENT:
        return f"its nodes did not answer {warm.silent} times: {warm.fault}"
    gone = next(
        (f"machine {node.machine} is {out[node.machine]}" for node in environment.nodes if node.machine in out), ""
    )
    return gone if environment.state is E.READY else ""


def waited(environment: Environment) -> float | None:
    """Seconds from a request to its environment's being ready; None where it never was."""
    contract = environment.contract
    if contract is None or not contract.ready_at:
        return None
    asked = environment.created_at if environment.warm is None else environment.warm.asked_at
    return contract.ready_at - asked
