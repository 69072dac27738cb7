"""Wishes that a role goes to other machines while it serves: checked, answered at once, carried out by the tick."""

from __future__ import annotations

from dataclasses import dataclass, replace

from pipeline.domain import moves, resizing
from pipeline.domain.durations import check_span
from pipeline.domain.environments import Environment
from pipeline.domain.errors import InvalidTransition, UserError
from pipeline.domain.guards import Act
from pipeline.domain.scaling import Move, Scaling
from pipeline.envs import events
from pipeline.envs.books import Loaded
from pipeline.envs.gate import Asking
from pipeline.envs.room import NoRoom
from pipeline.ports.stores import Put
from pipeline.stages.scaling import Scale, tried


@dataclass(frozen=True)
class MoveWish:
    """Where a role is to go (`bare-metal`, `vm`, `zone=NAME`, `aggregate=NAME`).

    Old nodes drain for `drain_s` (None: as its staging drains, or the usual time), and stand for `keep_s` more.
    """

    role: str
    to: str
    drain_s: float | None = None
    keep_s: float = moves.KEEP_S


@dataclass(frozen=True)
class Moving:
    """Any number of processes at once."""

    scale: Scale

    def move(self, environment_id: str, wish: MoveWish, asking: Asking) -> Environment:
        """Begin to move a role; the environment as it is from now on, or in a dry run as it would be.

        The same wish once more changes nothing, nor does one for where the role stands already. Errors: NotFound,
        UserError (no such role or place, more nodes than the provider takes meanwhile), OverQuota, GuardRefused (what
        the guards have against taking the old nodes out), InvalidTransition (not leased, or its nodes change already).
        """
        resizing.check_drain(wish.drain_s)
        check_span("keep", wish.keep_s, moves.MOST_KEEP_S)
        return self.scale.tools.books.again(lambda: self._move(environment_id, wish, asking))

    def _move(self, id: str, wish: MoveWish, asking: Asking) -> Environment:
        scale, rule = self.scale, moves.wish_of(wish.to)
        ledger = scale.inventories.ledger_put(scale.inventories.ledger_version())  # first of all, as every reservation
        loaded = scale.tools.books.environments.get(id)
        environment, scaling = loaded.value, loaded.value.scaling
        resizing.check(environment, wish.role)
        if scaling is not None:
            if scaling.moves is not None and (scaling.role, scaling.moves.to) == (wish.role, wish.to):
                return environment
            raise InvalidTransition(f"{resizing.busy(environment)}: wait until that is over, and ask again")
        inventory = scale.inventories.view(environment.provider).inventory
        moves.check_known(rule, inventory, environment.provider)
        if moves.stands_there(environment, wish.role, rule, inventory):
            return environment
        moving = moves.moving(environment, self._scaling(environment, wish, asking), wish.to, wish.keep_s)
        return self._begin(loaded, moving, asking, ledger)

    def _scaling(self, environment: Environment, wish: MoveWish, asking: Asking) -> Scaling:
        drain_s = self.scale.drain_s(environment) if wish.drain_s is None else wish.drain_s
        now, count = self.scale.tools.clock.now(), len(environment.of_role(wish.role))
        return Scaling(wish.role, count, asking.who, asking.why, now, overrides=asking.overrides, drain_s=drain_s)

    def _begin(self, loaded: Loaded[Environment], moving: Environment, asking: Asking, ledger: Put) -> Environment:
        scale, scaling = self.scale, moving.scaling
        assert scaling is not None, "nodes are to come"  # noqa: S101  # says it to the reader
        scale.check_room(loaded.value, moving)
        standing = tuple(node.name for node in loaded.value.of_role(scaling.role))
        there = moves.as_if_there(moving, scaling)
        judged = scale.tools.removals.judge_nodes(there, standing, Act.SCALE_IN, asking, drain=True, beside=True)
        found = scale.find(moving)
        if isinstance(found, NoRoom) and found.never:
            raise UserError(f"role {scaling.role} cannot be moved: {found.reason}")
        if asking.dry_run:
            scale.tools.books.commit(events=judged.events)
            return tried(moving, found)
        return scale.begin(loaded, moving, scale.preparing(moving), (ledger,), judged.events)

    def back(self, environment_id: str, role: str, asking: Asking) -> Environment:
        """Let the old nodes of a role that is moved serve on, and take back what came.

        The environment as it is from now on, or in a dry run as it would be. InvalidTransition when nothing is moved,
        or the old nodes go already.
        """
        return self.scale.tools.books.again(lambda: self._back(environment_id, role, asking))

    def _back(self, id: str, role: str, asking: Asking) -> Environment:
        books, now = self.scale.tools.books, self.scale.tools.clock.now()
        loaded = books.environments.get(id)
        environment, scaling = loaded.value, loaded.value.scaling
        if scaling is None or scaling.moves is None or scaling.role != role:
            raise InvalidTransition(f"environment {id}: role {role} is not moved, so it cannot go back; move it")
        if scaling.moves.back or scaling.fault:
            return environment
        why = f"called back by {asking.who}: {asking.why}"
        back = _turned_back(environment, scaling, scaling.moves, why, now)
        if asking.dry_run:
            return back
        assert back.scaling is not None, "it goes on"  # noqa: S101  # says it to the reader
        put = books.environments.kind.put(id, back, loaded.version)
        books.commit(put, events=[events.scaling_begins(back, back.scaling, now)])
        return back


def _turned_back(environment: Environment, scaling: Scaling, move: Move, why: str, now: float) -> Environment:
    if moves.have_come(environment) or moves.can_go_back(environment):
        return moves.goes_back(environment, scaling, move, why, now)
    if scaling.going:
        raise InvalidTransition(
            f"environment {environment.id}: the old nodes of role {scaling.role} go already; move it once more"
        )
    return replace(environment, scaling=replace(scaling, fault=why, reason=""), not_before=0.0)
