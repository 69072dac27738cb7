"""What happens to one environment between its reservation and its end, step by resumable step.

Every step first writes what it is about to do, then calls the driver, then writes what came of it; after a crash the
same step is simply done again.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import ParamSpec

from pipeline.domain import failsafe, milestones
from pipeline.domain.breakers import Call
from pipeline.domain.durations import passed
from pipeline.domain.environments import (
    BUILD_STATES,
    FINAL_STATES,
    MAX_AGAIN,
    TIMED_STATES,
    Environment,
    EnvironmentState,
    NodeState,
    awaited,
    displace,
    place_again,
    rebuilt_later,
    under_clock,
)
from pipeline.domain.errors import (
    CallsPaused,
    CapacityError,
    GuardRefused,
    InfraError,
    InvalidTransition,
    PermanentError,
    UserError,
    VersionConflict,
)
from pipeline.domain.failsafe import GiveUp, OpenBreaker, RetryAt, WaitForCapacity
from pipeline.domain.leases import begun
from pipeline.domain.pools import stands
from pipeline.domain.resizing import is_prepared_for, is_scaled
from pipeline.envs import events, places
from pipeline.envs.access import access_of
from pipeline.envs.books import LEDGERS, Books, Ledger, Loaded
from pipeline.envs.calls import SLOT_RETRY_S, Breakers
from pipeline.envs.endings import Endings
from pipeline.envs.growth import Growth
from pipeline.envs.orders import Orders, seen_as
from pipeline.envs.providers import Provider
from pipeline.envs.removals import Removals
from pipeline.envs.room import Room
from pipeline.envs.scalings import Scalings
from pipeline.envs.steps import Fault, Shown, Steps, fault_of
from pipeline.envs.suspects import Suspects
from pipeline.envs.wishes import unmet
from pipeline.ports.common import Clock, Ids
from pipeline.ports.drivers import NodeView
from pipeline.ports.stores import Put

log = logging.getLogger(__name__)
E, N = EnvironmentState, NodeState
P = ParamSpec("P")
#: A run or person waits for these.
SETTLED = frozenset({E.READY, E.LEASED, E.HELD}) | FINAL_STATES
#: A deliver that waits can be judged: what is being destroyed will never be ready.
JUDGEABLE = SETTLED | {E.DESTROYING}
#: A node that the provider does not show so long after its build began is asked for again.
RECREATE_S = 5.0
#: A poll takes on nothing more after so many seconds: whoever has been left longest is first at the next one.
POLL_S = 1.0
#: A build that failed and that a guard does not let go is looked at again so much later, in seconds.
REFUSED_S = 30.0
#: Why a build is not over whose nodes come.
STILL_BUILT = "the provider still builds it"


def judgeable(environment: Environment, run_id: str) -> bool:
    """Whether a run that waits for an environment, or for further nodes of it, can be told what came of them."""
    scaling = environment.scaling
    if scaling is not None and scaling.run == run_id:
        return is_prepared_for(environment, run_id)
    return environment.state in JUDGEABLE


class Lifecycle:
    """Advances the environments of all providers; any number of processes at once."""

    def __init__(
        self,
        books: Books,
        providers: Callable[[str], Provider],
        removals: Removals,
        suspects: Suspects,
        room: Room,
        orders: Orders,
        clock: Clock,
        ids: Ids,
    ) -> None:
        self._books = books
        self._steps = Steps(books, clock)
        self._endings = Endings(self._steps, providers, removals, clock, ids)
        self._provider = providers
        self._removals = removals
        self._suspects = suspects
        self._breakers = Breakers(books, clock)
        self._orders = orders
        self._clock = clock
        self._ids = ids
        growth = Growth(books, self._steps, providers, removals, room, suspects, orders, clock, ids)
        self._scalings = Scalings(self._steps, growth, removals, clock)

    def advance(self, environment_id: str, listing: Shown | None = None, listed_at: float = math.inf) -> Environment:
        """Do what the state asks for, once; the environment as it is now. `listed_at`: when listing began."""
        found = self._books.environments.get(environment_id)
        loaded = Loaded(under_clock(found.value, self._clock.now()), found.version)
        environment = loaded.value
        if environment.not_before > self._clock.now():
            return environment
        try:
            return self._step(loaded, listing, listed_at)
        except CallsPaused as paused:
            return self._pause(environment_id, paused.until, str(paused))

    def _step(self, loaded: Loaded[Environment], listing: Shown | None, listed_at: float) -> Environment:
        environment = loaded.value
        if environment.state is E.BUILDING and listed_at < environment.state_since:
            return environment  # what was listed is an earlier build of it
        if environment.state is E.RESERVED:
            return self._build(loaded)
        if environment.state is E.BUILDING:
            if isinstance(listing, InfraError):
                return self._unseen(loaded, listing)
            return self._observe(loaded, listing, resumed=True)
        if environment.state is E.DESTROYING:
            return self._endings.end(loaded)
        if is_scaled(environment):
            return self._scalings.step(loaded, self._provider(environment.provider), listing, listed_at)
        return environment

    def _unseen(self, loaded: Loaded[Environment], error: InfraError) -> Environment:
        """How far its build is cannot be seen: it says why, and goes elsewhere when it had its time.

        Which milestone is next is not known, so only the whole is judged.
        """
        environment, now = loaded.value, self._clock.now()
        provider = self._provider(environment.provider)
        passed = milestones.spent(provider.deadlines, environment.state_since, now)
        if passed:
            return self._elsewhere(loaded, provider, {}, f"{passed}: {error}")
        return self._pause(environment.id, now + provider.poll_s, str(error))

    def _pause(self, environment_id: str, until: float, why: str) -> Environment:
        """The provider is left alone: the environment stays as it is, and says until when and why."""
        loaded = self._books.environments.get(environment_id)
        if loaded.value.state not in BUILD_STATES:
            return loaded.value
        waiting = replace(loaded.value, not_before=until, reason=why)
        if waiting.reason != loaded.value.reason:
            waiting = replace(waiting, told_at=self._clock.now())
        return self._steps.save(loaded, waiting).value

    def poll(self, provider_name: str) -> list[Environment]:
        """Advance all environments of a provider that are on the move; those that are settled now.

        One list call for those that are built, and one after the end of those that go.
        """
        moving = self._books.environments.due(f"environments:moving:{provider_name}", self._clock.now())
        going = [loaded for loaded in moving if loaded.value.state is E.DESTROYING]
        coming = [loaded for loaded in moving if loaded.value.state is not E.DESTROYING]
        advanced = [*self._end_all(provider_name, going), *self._advance_all(provider_name, coming)]
        return [environment for environment in advanced if environment is not None and environment.state in SETTLED]

    def _advance_all(self, provider_name: str, coming: Sequence[Loaded[Environment]]) -> list[Environment | None]:
        if not coming:
            return []
        listed_at = self._clock.now()
        listing = self._shown(provider_name)
        if isinstance(listing, CallsPaused):  # what needs no listing must not wait for one
            coming = [one for one in coming if one.value.state is not E.BUILDING]
        some = self._in_time(coming)
        return [self._alone(one.value.id, self.advance, one.value.id, listing, listed_at) for one in some]

    def _shown(self, provider_name: str) -> Shown:
        """All nodes that there are. That they cannot be listed keeps nobody waiting whose time is over."""
        try:
            return self._provider(provider_name).driver.nodes()
        except InfraError as error:
            log.info("provider %s is not listed: %s", provider_name, error)
            return error

    def _in_time(self, coming: Sequence[Loaded[Environment]]) -> Iterator[Loaded[Environment]]:
        """One after the other, at least one of them, until the time of a poll is over."""
        began = self._clock.now()
        for one in coming:
            yield one
            if passed(began, self._clock.now(), POLL_S):
                return

    def _end_all(self, provider_name: str, going: Sequence[Loaded[Environment]]) -> list[Environment | None]:
        if not going:
            return []
        conclude = self._endings.end_many(provider_name, going)
        return [self._alone(one.value.id, act) for one, act in zip(going, conclude, strict=True)]

    def _alone(
        self, environment_id: str, act: Callable[P, Environment], *args: P.args, **more: P.kwargs
    ) -> Environment | None:
        """Do one of many: what is wrong with it must not keep the others waiting. None when it could not be done."""
        try:
            return act(*args, **more)
        except VersionConflict as error:  # another worker went on with it, as happens at every other look
            log.debug("environment %s: looked at again later: %s", environment_id, error)
        except InvalidTransition as error:
            log.info("environment %s: looked at again later: %s", environment_id, error)
        except (InfraError, UserError, GuardRefused) as error:
            log.warning("environment %s: looked at again later: %s", environment_id, error)
        return None

    def _build(self, loaded: Loaded[Environment]) -> Environment:
        """What may not be built now costs next to nothing; the look at its place may read all that stands."""
        provider = self._provider(loaded.value.provider)
        self._breakers.check(provider.name, Call.CREATE)
        slot = self._slot(provider)
        lost = places.lost(self._books, loaded.value)
        if lost:
            return self._give_back(loaded, lost)
        return self._create(self._begin_building(loaded, slot).value)

    def _slot(self, provider: Provider) -> tuple[Put, ...]:
        """What the write that begins a build must contain, so that never too many are begun; CallsPaused if it is."""
        if provider.max_builds is None:
            return ()
        id = f"builds.{provider.name}"
        version = self._books.store_version(LEDGERS.name, id)
        if self._books.store.count(f"environments:begun:{provider.name}") >= provider.max_builds:
            why = f"provider {provider.name}: its limit of builds at a time ({provider.max_builds}) is reached"
            raise CallsPaused(why, self._clock.now() + SLOT_RETRY_S)
        return (LEDGERS.put(id, Ledger(), version),)

    def _give_back(self, loaded: Loaded[Environment], why: str) -> Environment:
        """Nothing was built yet, so what was reserved is given back, and the scheduler looks for other places."""
        log.info("environment %s is placed again: %s", loaded.value.id, why)
        return self._steps.save(loaded, displace(loaded.value, self._clock.now(), f"placement lost: {why}")).value

    def _create(self, building: Environment) -> Environment:
        provider = self._provider(building.provider)
        request = self._orders.of(building, building.nodes)
        try:
            _check_wishes(provider, building)
            provider.driver.create(request)
        except InfraError as error:
            return self._build_failed(building, provider, error)
        return self._observe(self._books.environments.get(building.id), None, resumed=False)

    def _begin_building(self, loaded: Loaded[Environment], slot: tuple[Put, ...]) -> Loaded[Environment]:
        now = self._clock.now()
        environment = loaded.value.to(E.BUILDING, now)
        building = environment.with_nodes([node.to(N.BUILDING) for node in environment.nodes])
        return self._steps.save(loaded, self._orders.with_keys(building), writes=slot)

    def _build_failed(self, building: Environment, provider: Provider, error: InfraError) -> Environment:
        """Take back what was begun, then wait for another try or give up with the provider's own words."""
        now_there = self._books.environments.get(building.id).value
        if _stands_by_itself(now_there, building):
            return now_there  # the answer came so late that others saw the nodes and went on with them
        undone = fault_of(lambda: self._removals.undo(provider.driver, building, f"its build failed: {error}"))
        loaded = self._books.environments.get(building.id)
        environment, now = loaded.value, self._clock.now()
        if environment.state is not E.BUILDING:
            return environment
        if undone is not None:
            return self._undo_later(loaded, provider, str(error), undone)
        tried = _counted(environment, error)
        tries = tried.waits if isinstance(error, CapacityError) else tried.faults_seen
        match failsafe.decide(error, tries, now, self._ids.dice()):
            case RetryAt(at=at, reason=why) | WaitForCapacity(at=at, reason=why) | OpenBreaker(at=at, reason=why):
                again = replace(rebuilt_later(tried, now, why), not_before=at)
                return self._steps.save(loaded, again).value
            case GiveUp(reason=why):
                return self._give_up(loaded, why)

    def _undo_later(self, loaded: Loaded[Environment], provider: Provider, fault: str, undone: Fault) -> Environment:
        """It stays building until what was begun is gone; what never goes by itself is taken back in the open."""
        if isinstance(undone, PermanentError):
            return self._give_up(loaded, f"{fault}; nor could it be undone: {undone}")
        why, now = f"{fault}; nor could it be undone yet: {undone}", self._clock.now()
        at = undone.until if isinstance(undone, CallsPaused) else now + provider.poll_s
        return self._steps.save(loaded, replace(loaded.value, not_before=at, reason=why)).value

    def _give_up(self, loaded: Loaded[Environment], fault: str) -> Environment:
        try:
            begun = self._removals.give_up(replace(loaded.value, fault=fault), fault)
        except GuardRefused as refused:
            later = replace(loaded.value, not_before=self._clock.now() + REFUSED_S, reason=str(refused))
            return self._steps.save(loaded, later).value
        self._steps.save(loaded, begun.environment, told=begun.events, writes=begun.writes)
        return self.advance(loaded.value.id)

    def _observe(
        self, loaded: Loaded[Environment], listing: Sequence[NodeView] | None, *, resumed: bool
    ) -> Environment:
        environment = loaded.value
        if environment.state is not E.BUILDING:
            return self._undo_late_build(environment)
        provider = self._provider(environment.provider)
        listed = provider.driver.nodes() if listing is None else listing
        seen = {view.name: view for view in listed if view.environment_id == environment.id}
        if resumed and self._was_interrupted(environment, seen, provider.deadlines.build):
            return self._create(environment)
        nodes = [seen_as(node, seen.get(node.name)) for node in environment.nodes]
        observed = environment.with_nodes(nodes)
        faults = {node.name: node.fault for node in nodes if node.fault}
        full = {name: why for name, why in faults.items() if name in seen and seen[name].full}
        if full:
            self._check_unchanged(loaded)
            return self._build_failed(environment, provider, CapacityError(_told(environment, full)))
        if faults:
            return self._elsewhere(loaded, provider, faults, _told(environment, faults))
        if all(node.state is not N.BUILDING for node in nodes):
            return self._connect(loaded, observed, provider)
        slow = [node.name for node in nodes if node.state is N.BUILDING and node.name in seen]
        return self._still_building(loaded, observed, provider, STILL_BUILT, dict.fromkeys(slow, STILL_BUILT))

    def _was_interrupted(self, environment: Environment, seen: Mapping[str, NodeView], build_s: float) -> bool:
        """Whoever asked for these nodes was lost in the middle of it: drivers take the same request once more."""
        missing = any(node.state is N.BUILDING and node.name not in seen for node in environment.nodes)
        return missing and RECREATE_S <= self._clock.now() - environment.state_since <= build_s

    def _undo_late_build(self, environment: Environment) -> Environment:
        """Its end was decided while the driver built: what came of it must go, too."""
        if environment.state in FINAL_STATES:
            driver = self._provider(environment.provider).driver
            self._removals.undo(driver, environment, f"it was built although it is {environment.state}")
        return environment

    def _connect(self, loaded: Loaded[Environment], environment: Environment, provider: Provider) -> Environment:
        if provider.driver.capabilities.login:
            access = access_of(environment, self._orders.secrets)
            silent = provider.transport.probe(access, provider.probe_s)
            if silent:
                name, why = next(iter(silent.items()))
                told = f"node {name} does not answer: {why}"
                return self._still_building(loaded, environment, provider, told, silent)
        serving = [node.to(N.REACHABLE).to(N.IN_SERVICE) for node in environment.nodes]
        state = E.LEASED if environment.wanted else E.READY
        now = self._clock.now()
        serving_now = begun(replace(environment.to(state, now), built_at=now), now).with_nodes(serving)
        built = self._steps.save(loaded, stands(serving_now, now)).value
        self._suspects.succeeded(built)
        return built

    def _still_building(
        self,
        loaded: Loaded[Environment],
        environment: Environment,
        provider: Provider,
        why: str,
        late: Mapping[str, str],
    ) -> Environment:
        """Wait for it, or take it elsewhere when it had its time; `late`: the nodes that are there and not ready."""
        now, began = self._clock.now(), environment.state_since
        progress = milestones.advanced(environment.progress, awaited(environment.nodes, late), began, now)
        passed = milestones.overdue(provider.deadlines, began, progress, now)
        if passed:
            return self._elsewhere(loaded, provider, late, f"{passed}: {why}")
        waits = replace(environment, progress=progress, not_before=now + provider.poll_s, reason=why)
        return self._steps.save(loaded, waits).value

    def _elsewhere(
        self, loaded: Loaded[Environment], provider: Provider, faults: Mapping[str, str], told: str
    ) -> Environment:
        """Take a build back whose nodes failed, by name, and ask for another place; give up when that is no use."""
        self._check_unchanged(loaded)
        undone = fault_of(lambda: self._removals.undo(provider.driver, loaded.value, told))
        if undone is not None:
            return self._undo_later(loaded, provider, told, undone)
        self._check_unchanged(loaded)  # others may have judged it meanwhile: no machine is blamed for one fault twice
        environment = loaded.value
        exact = provider.driver.capabilities.exact
        poison = self._suspects.failed(environment, faults, exact=exact) if faults else ""
        if poison:
            return self._give_up(loaded, f"{told}; {poison}")
        if environment.placed_again >= MAX_AGAIN:
            return self._give_up(loaded, f"{told}; it was placed {MAX_AGAIN + 1} times")
        reserved = rebuilt_later(environment, self._clock.now(), told)
        return self._ask_again(loaded, reserved, self._suspects.shunned(environment, faults, exact=exact))

    def _check_unchanged(self, loaded: Loaded[Environment]) -> None:
        """VersionConflict when others went on with it: what stands there now is not what was judged."""
        version = self._books.environments.get(loaded.value.id).version
        if version != loaded.version:
            raise VersionConflict(f"environment {loaded.value.id} is at version {version} now")

    def _ask_again(self, loaded: Loaded[Environment], reserved: Environment, avoid: set[str]) -> Environment:
        """Both steps in one write: nobody must build once more on the place that is left."""
        now = self._clock.now()
        why = f"placed again ({reserved.placed_again + 1} of {MAX_AGAIN}): {reserved.reason}"
        asking = place_again(reserved, sorted(avoid), now, why)
        told = events.of_environment(loaded.value, reserved, now)
        return self._steps.save(Loaded(reserved, loaded.version), asking, told=told).value


def _check_wishes(provider: Provider, environment: Environment) -> None:
    """The provider's settings may be others than when the environment was asked for."""
    lacking = unmet(provider, environment.nodes)
    if lacking:
        raise PermanentError(lacking)


def _stands_by_itself(environment: Environment, build: Environment) -> bool:
    """Whether it is in use, or built once more, since this build of it began."""
    again = environment.state is E.BUILDING and environment.state_since != build.state_since
    return environment.state in TIMED_STATES or again


def _told(environment: Environment, faults: Mapping[str, str]) -> str:
    node = next(node for node in environment.nodes if node.name in faults)
    return f"node {node.name}: {faults[node.name]}" + (f" (on machine {node.machine})" if node.machine else "")


def _counted(environment: Environment, error: InfraError) -> Environment:
    """Waiting for room is no fault: it must not use up the tries that faults have; nor must what was never asked."""
    if isinstance(error, CallsPaused):
        return environment
    if isinstance(error, CapacityError):
        return replace(environment, waits=environment.waits + 1)
    return replace(environment, faults_seen=environment.faults_seen + 1)
