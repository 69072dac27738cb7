"""Acts on a provider's cloud itself: asked for over the API, carried out by a worker, each through the gate."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

from pipeline.domain import moving_off
from pipeline.domain.cloud_acts import CloudAct, CloudObject, ObjectKind, Verb, check_fits
from pipeline.domain.errors import GreenroomError, GuardRefused, TransientError, UserError, VersionConflict
from pipeline.domain.guards import Act, Facts
from pipeline.domain.inventory import MachineState
from pipeline.domain.moving_off import AT_ONCE, Move, MoveState, Policy
from pipeline.envs import jobs
from pipeline.envs.books import CLOUD_ACTS, Books, Loaded
from pipeline.envs.gate import Asking, Gate, check_names
from pipeline.envs.inventories import Inventories
from pipeline.envs.leftovers import Leftovers
from pipeline.envs.moving_off import MovingOff
from pipeline.envs.providers import Provider
from pipeline.envs.removals import Removals
from pipeline.ports.clouds import Estate
from pipeline.ports.common import Clock, Ids

log = logging.getLogger(__name__)
#: What came of an act is kept for so long, in seconds.
KEPT_S = 7 * 86400
#: How long an object may take to be gone, and the pause between two looks, in seconds.
GONE_S, LOOK_S = 30.0, 0.5
#: An act of which nothing was heard for so long has lost its worker, in seconds.
LOST_S = 300.0
#: Between two looks at servers that move, and how long an act goes on with that, in seconds.
NEXT_S, MOST_S = 3.0, 6 * 3600.0


@dataclass(frozen=True)
class CloudActs:
    """Any number of processes at once. An act may be asked for again: what is done already is done."""

    books: Books
    providers: Callable[[str], Provider]
    inventories: Inventories
    leftovers: Leftovers
    removals: Removals
    moving: MovingOff
    gate: Gate
    clock: Clock
    ids: Ids

    def ask(
        self,
        provider: str,
        verb: Verb,
        kind: ObjectKind,
        name: str,
        asking: Asking,
        policy: Policy = Policy.DISABLE,
        at_once: int = AT_ONCE,
    ) -> CloudAct:
        """Store the wish and the job that carries it out; UserError when it makes no sense for this provider."""
        check_fits(verb, kind, policy)
        moving_off.check_at_once(at_once)
        check_names(asking)
        if verb is not Verb.TAKE_BACK:
            self._estate(provider)
        now = self.clock.now()
        act = CloudAct(
            self.ids.new("act"),
            provider,
            verb,
            kind,
            name,
            asking.who,
            asking.why,
            now,
            asking.overrides,
            asking.dry_run,
            policy=policy,
            at_once=at_once,
            due_at=now + LOST_S,
        )
        self.books.commit(CLOUD_ACTS.put(act.id, act, 0), jobs=[jobs.cloud_act(provider, act.id)])
        return act

    def due(self) -> list[CloudAct]:
        """Those that are to be looked at again, or have lost their worker."""
        return [one.value for one in self.books.cloud_acts.due("cloud_acts:open", self.clock.now())]

    def carry_out(self, act_id: str) -> None:
        """Do it, or the next step of it, and keep what came of it; nothing when that was done already."""
        loaded = self.books.cloud_acts.get(act_id)
        if loaded.value.finished_at is not None:
            return
        try:
            kept = self._keep(loaded, self._done(loaded.value))
            if kept.value.meant != loaded.value.meant:
                kept = self._keep(kept, self._done(kept.value))
            self._tell(kept, before=loaded.value)
        except VersionConflict:
            log.info("act %s: another worker has taken this step", act_id)

    def _keep(self, loaded: Loaded[CloudAct], act: CloudAct) -> Loaded[CloudAct]:
        over = not act.due_at
        act = replace(act, finished_at=self.clock.now()) if over else act
        self.books.commit(CLOUD_ACTS.put(act.id, act, loaded.version, ttl_s=KEPT_S if over else None))
        return Loaded(act, loaded.version + 1)

    def _tell(self, loaded: Loaded[CloudAct], before: CloudAct) -> None:
        """Tell the cloud of the servers that began to move in this step, now that it is written."""
        known = {one.server: one.told for one in before.moves}
        fresh = [one for one in loaded.value.moves if one.told > known.get(one.server, 0) and not one.over]
        if not fresh or loaded.value.dry_run:
            return
        moves = loaded.value.moves
        for told in self.moving.tell(self._estate(loaded.value.provider), fresh):
            moves = moving_off.replaced(moves, told)
        if moves != loaded.value.moves:
            self._keep(loaded, replace(loaded.value, moves=moves))

    def _done(self, act: CloudAct) -> CloudAct:
        """The act after this step; it is over when it has no `due_at` any more."""
        over = replace(act, due_at=0.0)
        try:
            if act.verb is Verb.TAKE_BACK:
                return self._take_back(over)
            estate = self._estate(act.provider)
            one = act.meant or estate.find(act.kind, act.name)
            if act.verb is Verb.DELETE and act.meant is None:
                return replace(act, meant=one)
            return self._do(over, estate, one)
        except GuardRefused as error:
            return replace(over, refused=error.guard, fault=str(error))
        except TransientError as error:
            if any(not move.over for move in act.moves) and self.clock.now() < act.asked_at + MOST_S:
                return replace(act, outcome=f"servers are on their way; {error}", due_at=self.clock.now() + NEXT_S)
            return replace(over, fault=str(error))
        except GreenroomError as error:  # whoever asked reads it, and may ask again
            return replace(over, fault=str(error))

    def _do(self, act: CloudAct, estate: Estate, one: CloudObject) -> CloudAct:
        does = {
            Verb.DELETE: self._delete,
            Verb.TAKE_OUT: self._take_out,
            Verb.PUT_BACK: self._put_back,
            Verb.RESTART_AGENT: self._restart,
        }
        return does[act.verb](act, estate, one)

    def _delete(self, act: CloudAct, estate: Estate, one: CloudObject) -> CloudAct:
        """What is gone meanwhile is deleted: whoever was at it may have died before that was written."""
        if not estate.stands(one):
            return replace(act, outcome=f"{one} is deleted")
        facts = Facts(act.who, provider=act.provider, used_by=estate.users(one), now=self.clock.now())
        self._pass(Act.DELETE_OBJECT, act, one, facts)
        if act.dry_run:
            return replace(act, outcome=f"{one} could be deleted: nothing uses it")
        estate.delete(one)
        self._wait_until_gone(estate, one)
        return replace(act, outcome=f"{one} is deleted")

    def _take_back(self, act: CloudAct) -> CloudAct:
        """Whatever bears the environment's mark, and nothing else; looked for again afterwards."""
        known = self.books.environments.find(act.name)
        if known is not None and not known.value.final:
            raise UserError(f"environment {act.name} is {known.value.state}: `greenroom destroy {act.name}` ends it")
        seen = self.leftovers.sightings(act.provider, act.name)
        if not seen:
            raise UserError(
                f"nothing was seen at {act.provider} that an environment {act.name} left; "
                f"`greenroom cloud leftovers {act.provider}` looks again"
            )
        driver, now = self.providers(act.provider).driver, self.clock.now()
        facts = Facts(act.who, provider=act.provider, known=known is not None, sightings=seen, now=now)
        if act.dry_run:
            self.gate.pass_(Act.REAP, act.name, facts, _asking(act))
            return replace(act, outcome=f"what environment {act.name} left could be taken back")
        self.removals.at_once(driver, Act.REAP, act.name, facts, _asking(act))
        self.leftovers.look(act.provider)
        if still := self.leftovers.left_by(act.provider, act.name):
            raise TransientError(
                f"environment {act.name}: {', '.join(still)} is still there; ask again, or look at the cloud"
            )
        return replace(act, outcome=f"what environment {act.name} left is taken back")

    def _wait_until_gone(self, estate: Estate, one: CloudObject) -> None:
        deadline = self.clock.now() + GONE_S
        while estate.stands(one):
            if self.clock.now() > deadline:
                raise TransientError(f"{one} is still there {GONE_S:.0f} s after it was deleted; look at the cloud")
            self.clock.sleep(LOOK_S)

    def _take_out(self, act: CloudAct, estate: Estate, one: CloudObject) -> CloudAct:
        """No new nodes and servers first; out of service when nothing is on it any more."""
        moves, state = act.policy is not Policy.DISABLE, self._state(act, one)
        if not act.outcome and act.policy is Policy.EVACUATE:
            self.moving.may_evacuate(act, estate, one, _asking(act))
        if not act.outcome:
            self._close(act, estate, one, state)
        if act.dry_run:
            left = tuple(estate.users(one))
            planned = self.moving.planned(act, estate, one, _asking(act)) if moves else ()
            return replace(act, left=left, moves=planned, outcome=f"{one} would take no more servers; {_told(left)}")
        if moves:
            act = self._moved(act, estate, one)
        return act if act.due_at else self._emptied(act, estate, one)

    def _close(self, act: CloudAct, estate: Estate, one: CloudObject, state: MachineState) -> None:
        """A quarantine may end by itself, and then it would be in service; what is further out stays so."""
        after = MachineState.DRAINING if state in {MachineState.IN_SERVICE, MachineState.QUARANTINED} else state
        self.inventories.set_state(act.provider, one.name, after, _asking(act), told=estate.in_service(one))
        if not act.dry_run:
            estate.set_service(one, on=False, reason=act.why)

    def _moved(self, act: CloudAct, estate: Estate, one: CloudObject) -> CloudAct:
        """After the next look at the servers that move; it is due again as long as any does."""
        moves = self.moving.look(act, estate, one, _asking(act))
        act = replace(act, moves=moves, outcome=f"{one} takes no more servers; {moving_off.summary(moves)}")
        if all(move.over for move in moves):
            return act
        if self.clock.now() > act.asked_at + MOST_S:
            return replace(act, fault=f"{act.outcome}: not done within {MOST_S / 3600:.0f} h; ask again")
        return replace(act, due_at=self.clock.now() + NEXT_S)

    def _emptied(self, act: CloudAct, estate: Estate, one: CloudObject) -> CloudAct:
        left = tuple(estate.users(one))  # after it was closed: nothing comes any more
        how = _how_they_went(act.moves)
        if left:
            return replace(act, left=left, outcome=f"{one} takes no more servers;{how} {_told(left)}: ask again later")
        guessed = not self.providers(act.provider).driver.capabilities.exact  # what the books say of machines
        self.inventories.set_state(act.provider, one.name, MachineState.MAINTENANCE, _asking(act), seen_empty=guessed)
        return replace(act, outcome=f"{one} is out of service and empty:{how} its agent may be restarted")

    def _put_back(self, act: CloudAct, estate: Estate, one: CloudObject) -> CloudAct:
        """The cloud first: it may refuse, and what takes nothing there must not be in service in the books."""
        self._state(act, one)
        if not act.dry_run:
            estate.set_service(one, on=True, reason="")
        self.inventories.set_state(act.provider, one.name, MachineState.IN_SERVICE, _asking(act), told=True)
        return replace(act, outcome=f"{one} would take servers again" if act.dry_run else f"{one} is in service")

    def _restart(self, act: CloudAct, estate: Estate, one: CloudObject) -> CloudAct:
        state = self._state(act, one)
        serving = estate.in_service(one) or state in {MachineState.IN_SERVICE, MachineState.DRAINING}
        facts = Facts(act.who, in_service=serving, used_by=estate.users(one), now=self.clock.now())
        self._pass(Act.RESTART_AGENT, act, one, facts)
        return replace(act, outcome=f"the agent of {one} may be restarted: it is out of service, and empty")

    def _pass(self, kind: Act, act: CloudAct, one: CloudObject, facts: Facts) -> None:
        self.gate.pass_(kind, f"{one} of provider {act.provider}", facts, _asking(act))

    def _state(self, act: CloudAct, one: CloudObject) -> MachineState:
        return self.inventories.view(act.provider).inventory.machine(one.name).state

    def _estate(self, provider: str) -> Estate:
        found = self.providers(provider).estate
        if found is None:
            raise UserError(
                f"provider {provider} has nothing that could be changed: its driver is not openstack, or its settings "
                "name no `admin_cloud`"
            )
        return found


def _asking(act: CloudAct) -> Asking:
    return Asking(act.who, act.why, act.overrides, act.dry_run)


def _told(left: tuple[str, ...]) -> str:
    return f"{len(left)} are on it: {', '.join(left[:5])}" if left else "nothing is on it"


def _how_they_went(moves: tuple[Move, ...]) -> str:
    """How many went, and why each of the others stays."""
    if not moves:
        return ""
    stay = (f" {one}: {one.fault};" for one in moves if one.state in {MoveState.FAILED, MoveState.REFUSED})
    return f" {moving_off.summary(moves)};" + "".join(stay)
