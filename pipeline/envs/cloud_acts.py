"""Acts on a provider's cloud itself: asked for over the API, carried out by a worker, each through the gate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from pipeline.domain.cloud_acts import CloudAct, CloudObject, ObjectKind, Verb, check_fits
from pipeline.domain.errors import GreenroomError, GuardRefused, TransientError, UserError
from pipeline.domain.guards import Act, Facts
from pipeline.domain.inventory import MachineState
from pipeline.envs import jobs
from pipeline.envs.books import CLOUD_ACTS, Books
from pipeline.envs.gate import Asking, Gate, check_names
from pipeline.envs.inventories import Inventories
from pipeline.envs.leftovers import Leftovers
from pipeline.envs.providers import Provider
from pipeline.envs.removals import Removals
from pipeline.ports.clouds import Estate
from pipeline.ports.common import Clock, Ids

#: What came of an act is kept for so long, in seconds.
KEPT_S = 7 * 86400
#: How long an object may take to be gone, and the pause between two looks, in seconds.
GONE_S, LOOK_S = 30.0, 0.5


@dataclass(frozen=True)
class CloudActs:
    """Any number of processes at once. An act may be asked for again: what is done already is done."""

    books: Books
    providers: Callable[[str], Provider]
    inventories: Inventories
    leftovers: Leftovers
    removals: Removals
    gate: Gate
    clock: Clock
    ids: Ids

    def ask(self, provider: str, verb: Verb, kind: ObjectKind, name: str, asking: Asking) -> CloudAct:
        """Store the wish and the job that carries it out; UserError when it makes no sense for this provider."""
        check_fits(verb, kind)
        check_names(asking)
        if verb is not Verb.TAKE_BACK:
            self._estate(provider)
        act = CloudAct(
            self.ids.new("act"),
            provider,
            verb,
            kind,
            name,
            asking.who,
            asking.why,
            self.clock.now(),
            asking.overrides,
            asking.dry_run,
        )
        put = CLOUD_ACTS.put(act.id, act, 0, ttl_s=KEPT_S)
        self.books.commit(put, jobs=[jobs.cloud_act(provider, act.id)])
        return act

    def carry_out(self, act_id: str) -> None:
        """Do it, and keep what came of it; nothing when that was done already."""
        loaded = self.books.cloud_acts.get(act_id)
        if loaded.value.finished_at is not None:
            return
        done = replace(self._done(loaded.value), finished_at=self.clock.now())
        self.books.commit(CLOUD_ACTS.put(act_id, done, loaded.version, ttl_s=KEPT_S))

    def _done(self, act: CloudAct) -> CloudAct:
        try:
            if act.verb is Verb.TAKE_BACK:
                return self._take_back(act)
            estate = self._estate(act.provider)
            return self._do(act, estate, estate.find(act.kind, act.name))
        except GuardRefused as error:
            return replace(act, refused=error.guard, fault=str(error))
        except GreenroomError as error:  # whoever asked reads it, and may ask again
            return replace(act, fault=str(error))

    def _do(self, act: CloudAct, estate: Estate, one: CloudObject) -> CloudAct:
        does = {
            Verb.DELETE: self._delete,
            Verb.TAKE_OUT: self._take_out,
            Verb.PUT_BACK: self._put_back,
            Verb.RESTART_AGENT: self._restart,
        }
        return does[act.verb](act, estate, one)

    def _delete(self, act: CloudAct, estate: Estate, one: CloudObject) -> CloudAct:
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
        if self.leftovers.sightings(act.provider, act.name):
            raise TransientError(f"environment {act.name}: something of it is still there; ask again")
        return replace(act, outcome=f"what environment {act.name} left is taken back")

    def _wait_until_gone(self, estate: Estate, one: CloudObject) -> None:
        deadline = self.clock.now() + GONE_S
        while estate.stands(one):
            if self.clock.now() > deadline:
                raise TransientError(f"{one} is still there {GONE_S:.0f} s after it was deleted; look at the cloud")
            self.clock.sleep(LOOK_S)

    def _take_out(self, act: CloudAct, estate: Estate, one: CloudObject) -> CloudAct:
        """No new nodes and servers first; out of service when nothing is on it any more."""
        if act.dry_run:
            left = tuple(estate.users(one))
            return replace(act, left=left, outcome=f"{one} would take no more servers; {_told(left)}")
        if self._state(act, one) is MachineState.IN_SERVICE:
            self.inventories.set_state(act.provider, one.name, MachineState.DRAINING, _asking(act))
        estate.set_service(one, on=False, reason=act.why)
        left = tuple(estate.users(one))  # after it was closed: nothing comes any more
        if left:
            return replace(act, left=left, outcome=f"{one} takes no more servers; {_told(left)}: ask again later")
        self.inventories.set_state(act.provider, one.name, MachineState.MAINTENANCE, _asking(act))
        return replace(act, outcome=f"{one} is out of service and empty: its agent may be restarted")

    def _put_back(self, act: CloudAct, estate: Estate, one: CloudObject) -> CloudAct:
        if act.dry_run:
            return replace(act, outcome=f"{one} would take servers again")
        estate.set_service(one, on=True, reason="")
        self.inventories.set_state(act.provider, one.name, MachineState.IN_SERVICE, _asking(act))
        return replace(act, outcome=f"{one} is in service")

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
