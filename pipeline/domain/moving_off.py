"""Servers leave a machine one by one: which may go and how, and what is to be believed of each that was told to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from pipeline.domain.drift import RUNS, Server
from pipeline.domain.errors import UserError


class Policy(StrEnum):
    """What becomes of the servers on a machine that goes out of service.

    `disable`: they stay until they end. `migrate`: they are moved with all that they hold. `evacuate`: the machine is
    dead, so they are built elsewhere from their images, without what was on its disk.
    """

    DISABLE = "disable"
    MIGRATE = "migrate"
    EVACUATE = "evacuate"


class How(StrEnum):
    """How one server leaves."""

    LIVE = "live-migration"
    COLD = "cold migration"
    REBUILD = "evacuation"


class MoveState(StrEnum):
    """Where a server is on its way. `gone`: it ended meanwhile."""

    WAITING = "waiting"
    MOVING = "moving"
    MOVED = "moved"
    GONE = "gone"
    REFUSED = "refused"
    FAILED = "failed"


OVER = frozenset(MoveState) - {MoveState.WAITING, MoveState.MOVING}
#: How each server leaves by its status; a server of any other status stays.
WAYS: Mapping[Policy, Mapping[str, How]] = {
    Policy.DISABLE: {},
    Policy.MIGRATE: {RUNS: How.LIVE, "paused": How.LIVE, "shutoff": How.COLD},
    Policy.EVACUATE: {RUNS: How.REBUILD, "shutoff": How.REBUILD, "error": How.REBUILD},
}
#: A server with one of these is on its way, whoever told it to.
UNDER_WAY = frozenset({"migrating", "resize", "rebuild"})
#: Told to move or to change its size and done, and not confirmed yet: whoever told it has to.
UNCONFIRMED = "verify_resize"
#: How often one server is told to move before it counts as failed: the cloud may not have heard it.
TRIES = 3
#: How many servers move at a time, and the most that may be asked for.
AT_ONCE, MOST_AT_ONCE = 2, 16


@dataclass(frozen=True)
class Trial:
    """What the cloud keeps of its last try to move a server. `over`: it ended, well or with a `fault`."""

    id: str
    over: bool = False
    fault: str = ""


@dataclass(frozen=True)
class Move:
    """One server on its way off a machine. `to` is the machine where it was seen in the end; `told`: how often the
    cloud was told to move it; `before`: its last try before that; `fault`: why it stays.
    """

    server: str
    name: str
    project: str
    state: MoveState = MoveState.WAITING
    how: How | None = None
    to: str = ""
    told: int = 0
    before: str = ""
    fault: str = ""

    @property
    def over(self) -> bool:
        return self.state in OVER

    def __str__(self) -> str:
        return f"server {self.name} ({self.server}) of project {self.project}"


def check_at_once(at_once: int) -> None:
    if not 1 <= at_once <= MOST_AT_ONCE:
        raise UserError(f"{at_once} servers at a time: expected 1 to {MOST_AT_ONCE}")


def noted(moves: Sequence[Move], servers: Iterable[Server]) -> tuple[Move, ...]:
    """The moves with those servers added that were not seen on the machine before."""
    known = {one.server for one in moves}
    fresh = (Move(one.id, one.name, one.project) for one in servers if one.id not in known)
    return (*moves, *fresh)


def looked_at(move: Move, server: Server | None, machine: str, trial: Trial | None) -> Move:
    """What is to be believed of a move: `server` as it is now, `trial` what the cloud keeps of its last try.

    A server counts as moved once it was seen on another machine, at rest; what the cloud says of its trial never does.
    """
    if move.over:
        return move
    if server is None:
        return replace(move, state=MoveState.GONE)
    if server.status == UNCONFIRMED and move.how is not How.COLD:
        fault = f"it is {UNCONFIRMED} on {server.machine}: whose it is must confirm or revert that"
        return replace(move, state=MoveState.FAILED, fault=fault)
    if server.status in {*UNDER_WAY, UNCONFIRMED}:
        return replace(move, state=MoveState.MOVING)
    if server.machine != machine and server.status != "error":
        return replace(move, state=MoveState.MOVED, to=server.machine, fault="")
    if move.state is MoveState.WAITING:
        return move
    if trial is None or trial.id == move.before or not move.told:
        return _not_heard(move)
    if not trial.over:
        return move
    said = trial.fault or server.fault or "the cloud does not say why"
    return replace(move, state=MoveState.FAILED, fault=f"{server.status} on {server.machine}: {said}")


def _not_heard(move: Move) -> Move:
    """It was told to move, and the cloud knows of no try; or it was on its way by somebody else's word."""
    if move.told < TRIES:
        return replace(move, state=MoveState.WAITING)
    fault = move.fault or "the cloud keeps no try to move it"
    return replace(move, state=MoveState.FAILED, fault=f"told {move.told} times to move, and stays: {fault}")


def next_ones(moves: Sequence[Move], at_once: int) -> tuple[Move, ...]:
    """Those that may begin now."""
    under_way = sum(one.state is MoveState.MOVING for one in moves)
    waiting = [one for one in moves if one.state is MoveState.WAITING]
    return tuple(waiting[: max(0, at_once - under_way)])


def begun(move: Move, server: Server, policy: Policy, trial: Trial | None) -> Move:
    """The move as it is written before the cloud is told; failed at once where there is no way for such a server.

    `trial` is the last one that the cloud keeps before that.
    """
    how = WAYS[policy].get(server.status)
    if how is None:
        fault = f"it is {server.status}: no {policy} is known for that; whose it is must move or end it"
        return replace(move, state=MoveState.FAILED, fault=fault)
    before = "" if trial is None else trial.id
    return replace(move, state=MoveState.MOVING, how=how, told=move.told + 1, before=before)


def replaced(moves: Sequence[Move], changed: Move) -> tuple[Move, ...]:
    return tuple(changed if one.server == changed.server else one for one in moves)


def summary(moves: Sequence[Move]) -> str:
    """How many are where."""
    counts = {state: sum(one.state is state for one in moves) for state in MoveState}
    return ", ".join(f"{count} {state}" for state, count in counts.items() if count) or "no servers to move"
