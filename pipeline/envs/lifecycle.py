"""What happens to one environment between its reservation and its end, step by resumable step.

Every step first writes what it is about to do, then calls the driver, then writes what came of it; after a crash the
same step is simply done again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ParamSpec

from pipeline.domain import failsafe
from pipeline.domain.environments import (
    FINAL_STATES,
    Environment,
    EnvironmentState,
    Node,
    NodeState,
    destroyed,
)
from pipeline.domain.errors import (
    CapacityError,
    GuardRefused,
    InfraError,
    InvalidTransition,
    PermanentError,
    UserError,
)
from pipeline.envs import events, jobs
from pipeline.envs.access import access_of
from pipeline.envs.books import Books, Loaded
from pipeline.envs.removals import Removals, still_there
from pipeline.ports.common import Clock, Ids
from pipeline.ports.drivers import Driver, EnvironmentRequest, Listing, NodeRequest, NodeStatus, NodeView
from pipeline.ports.secrets import KeyMaker, Secrets
from pipeline.ports.stores import Event, Put
from pipeline.ports.transports import Transport

log = logging.getLogger(__name__)
E, N = EnvironmentState, NodeState
P = ParamSpec("P")
Fault = InfraError | GuardRefused
#: A run or person waits for these.
SETTLED = frozenset({E.READY, E.LEASED, E.HELD}) | FINAL_STATES
#: A deliver that waits can be judged: what is being destroyed will never be ready.
JUDGEABLE = SETTLED | {E.DESTROYING}
#: A node that the provider does not show so long after its build began is asked for again.
RECREATE_S = 5.0
#: A build that failed and that a guard does not let go is looked at again so much later, in seconds.
REFUSED_S = 30.0


@dataclass(frozen=True)
class Provider:
    """A configured account that one driver uses. `build_s`: how long a build may take before it is given up."""

    name: str
    driver: Driver
    transport: Transport
    max_nodes: int = 100
    build_s: float = 900.0
    poll_s: float = 1.0
    probe_s: float = 5.0


class Lifecycle:
    """Advances the environments of all providers; any number of processes at once."""

    def __init__(
        self,
        books: Books,
        providers: Callable[[str], Provider],
        removals: Removals,
        secrets: Secrets,
        keys: KeyMaker,
        clock: Clock,
        ids: Ids,
        deployment: str,
    ) -> None:
        self._books = books
        self._provider = providers
        self._removals = removals
        self._secrets = secrets
        self._keys = keys
        self._clock = clock
        self._ids = ids
        self._deployment = deployment

    def advance(self, environment_id: str, listing: Listing | None = None) -> Environment:
        """Do what the state asks for, once; the environment as it is now."""
        loaded = self._books.environments.get(environment_id)
        environment = loaded.value
        if environment.not_before > self._clock.now():
            return environment
        if environment.state is E.RESERVED:
            return self._build(loaded)
        if environment.state is E.BUILDING:
            return self._observe(loaded, listing, resumed=True)
        if environment.state is E.DESTROYING:
            return self._destroy(loaded)
        return environment

    def poll(self, provider_name: str) -> list[Environment]:
        """Advance all environments of a provider that are on the move; those that are settled now.

        One list call for those that are built, and one after the end of those that go.
        """
        moving = self._books.environments.due(f"environments:moving:{provider_name}", self._clock.now())
        going = [loaded for loaded in moving if loaded.value.state is E.DESTROYING]
        coming = [loaded.value.id for loaded in moving if loaded.value.state is not E.DESTROYING]
        advanced = [*self._end_all(provider_name, going), *self._advance_all(provider_name, coming)]
        return [environment for environment in advanced if environment is not None and environment.state in SETTLED]

    def _advance_all(self, provider_name: str, ids: Sequence[str]) -> list[Environment | None]:
        if not ids:
            return []
        listing = self._provider(provider_name).driver.list()
        return [self._alone(id, self.advance, id, listing) for id in ids]

    def _end_all(self, provider_name: str, going: Sequence[Loaded[Environment]]) -> list[Environment | None]:
        if not going:
            return []
        provider = self._provider(provider_name)
        faults = [self._carry_out(provider, loaded.value) for loaded in going]
        seen = _listed(provider)
        return [
            self._alone(one.value.id, self._conclude, one, fault or seen)
            for one, fault in zip(going, faults, strict=True)
        ]

    def _alone(
        self, environment_id: str, act: Callable[P, Environment], *args: P.args, **more: P.kwargs
    ) -> Environment | None:
        """Do one of many: what is wrong with it must not keep the others waiting. None when it could not be done."""
        try:
            return act(*args, **more)
        except InvalidTransition as error:
            log.info("environment %s: looked at again later: %s", environment_id, error)
        except (InfraError, UserError, GuardRefused) as error:
            log.warning("environment %s: looked at again later: %s", environment_id, error)
        return None

    def _build(self, loaded: Loaded[Environment]) -> Environment:
        return self._create(self._begin_building(loaded).value)

    def _create(self, building: Environment) -> Environment:
        provider = self._provider(building.provider)
        try:
            provider.driver.create(self._request(building))
        except InfraError as error:
            return self._build_failed(building, provider, error)
        return self._observe(self._books.environments.get(building.id), None, resumed=False)

    def _begin_building(self, loaded: Loaded[Environment]) -> Loaded[Environment]:
        now = self._clock.now()
        environment = loaded.value.to(E.BUILDING, now)
        private, public = self._keys.ed25519(environment.id)
        nodes = [self._with_host_key(node.to(N.BUILDING)) for node in environment.nodes]
        keyed = replace(environment, public_key=public, sealed_key=self._secrets.seal(private)).with_nodes(nodes)
        return self._save(loaded, keyed)

    def _with_host_key(self, node: Node) -> Node:
        private, public = self._keys.ed25519(node.name)
        return replace(node, host_public_key=public, sealed_host_key=self._secrets.seal(private))

    def _request(self, environment: Environment) -> EnvironmentRequest:
        return EnvironmentRequest(
            deployment=self._deployment,
            environment_id=environment.id,
            service=environment.service,
            authorized_key=environment.public_key,
            ends_at=environment.ends_at,
            nodes=tuple(self._node_request(node) for node in environment.nodes),
        )

    def _node_request(self, node: Node) -> NodeRequest:
        return NodeRequest(
            name=node.name,
            role=node.role,
            image=node.image,
            resources=node.resources,
            qos=node.qos,
            host_key=self._secrets.open(node.sealed_host_key),
            host_public_key=node.host_public_key,
            machine=node.machine,
            zone=node.zone,
        )

    def _build_failed(self, building: Environment, provider: Provider, error: InfraError) -> Environment:
        """Take back what was begun, then wait for another try or give up with the provider's own words."""
        undone = _tried(lambda: self._removals.undo(provider.driver, building, f"its build failed: {error}"))
        loaded = self._books.environments.get(building.id)
        environment, now = loaded.value, self._clock.now()
        if environment.state is not E.BUILDING:
            return environment
        if undone is not None:
            return self._still_building(loaded, environment, provider, f"{error}; nor could it be undone: {undone}")
        tried = _counted(environment, error)
        tries = tried.waits if isinstance(error, CapacityError) else tried.faults_seen
        decision = failsafe.decide(error, tries, now, self._ids.dice())
        if isinstance(decision, failsafe.RetryAt):
            planned = (replace(node, state=N.PLANNED, address=None, fault="") for node in tried.nodes)
            again = tried.to(E.RESERVED, now, str(error)).with_nodes(planned)
            return self._save(loaded, replace(again, not_before=decision.at)).value
        return self._give_up(loaded, str(error))

    def _give_up(self, loaded: Loaded[Environment], fault: str) -> Environment:
        try:
            begun = self._removals.give_up(replace(loaded.value, fault=fault), fault)
        except GuardRefused as refused:
            later = replace(loaded.value, not_before=self._clock.now() + REFUSED_S, reason=str(refused))
            return self._save(loaded, later).value
        self._save(loaded, begun.environment, begun.events, begun.writes)
        return self.advance(loaded.value.id)

    def _observe(self, loaded: Loaded[Environment], listing: Listing | None, *, resumed: bool) -> Environment:
        environment = loaded.value
        if environment.state is not E.BUILDING:
            return self._undo_late_build(environment)
        provider = self._provider(environment.provider)
        seen = _views(listing if listing is not None else provider.driver.list(), environment.id)
        if resumed and self._was_interrupted(environment, seen, provider.build_s):
            return self._create(environment)
        nodes = [_seen(node, seen.get(node.name)) for node in environment.nodes]
        fault = next((f"node {node.name}: {node.fault}" for node in nodes if node.fault), "")
        observed = environment.with_nodes(nodes)
        if fault:
            return self._give_up(loaded, fault)
        if all(node.state is not N.BUILDING for node in nodes):
            return self._connect(loaded, observed, provider)
        return self._still_building(loaded, observed, provider, "the provider still builds it")

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
            access = access_of(environment, self._secrets)
            silent = provider.transport.probe(access, provider.probe_s)
            if silent:
                name, why = next(iter(silent.items()))
                return self._still_building(loaded, environment, provider, f"node {name} does not answer: {why}")
        serving = [node.to(N.REACHABLE).to(N.IN_SERVICE) for node in environment.nodes]
        state = E.LEASED if environment.owner else E.READY
        now = self._clock.now()
        built = replace(environment.to(state, now), built_at=now)
        return self._save(loaded, built.with_nodes(serving)).value

    def _still_building(
        self, loaded: Loaded[Environment], environment: Environment, provider: Provider, why: str
    ) -> Environment:
        now = self._clock.now()
        if now - environment.state_since > provider.build_s:
            return self._give_up(loaded, f"not ready after {provider.build_s:.0f} s: {why}")
        return self._save(loaded, replace(environment, not_before=now + provider.poll_s, reason=why)).value

    def _destroy(self, loaded: Loaded[Environment]) -> Environment:
        provider = self._provider(loaded.value.provider)
        fault = self._carry_out(provider, loaded.value)
        return self._conclude(loaded, fault or _listed(provider))

    def _carry_out(self, provider: Provider, environment: Environment) -> Fault | None:
        """Destroy an environment whose end has begun; what went wrong, if anything."""
        unclosed = _tried(lambda: provider.transport.close(environment.id))
        if unclosed is not None:
            log.warning("environment %s: its connections could not be ended: %s", environment.id, unclosed)
        return _tried(lambda: self._removals.carry_out(provider.driver, environment))

    def _conclude(self, loaded: Loaded[Environment], seen: Listing | Fault) -> Environment:
        """It is destroyed when it is seen to be gone; what could not be seen is not gone."""
        if not isinstance(seen, Listing):
            return self._destroy_later(loaded, seen)
        look = self._removals.look(loaded.value, seen)
        if look.still:
            return self._destroy_later(loaded, still_there(loaded.value.id, look.still), (look.event,))
        return self._save(loaded, destroyed(loaded.value, self._clock.now()), (look.event,)).value

    def _destroy_later(self, loaded: Loaded[Environment], error: Fault, told: tuple[Event, ...] = ()) -> Environment:
        """Taking back is never given up: servers that may exist stay counted until they are seen to be gone."""
        environment = loaded.value
        tries = environment.faults_seen + 1
        log.warning("environment %s: destroy failed %d times: %s", environment.id, tries, error)
        at = self._clock.now() + failsafe.backoff(tries, self._ids.dice())
        if isinstance(error, PermanentError):
            at = self._clock.now() + failsafe.MAX_DELAY_S
        fault = environment.fault or str(error)  # the first one is why it goes
        return self._save(loaded, replace(environment, not_before=at, faults_seen=tries, fault=fault), told).value

    def _save(
        self,
        loaded: Loaded[Environment],
        environment: Environment,
        told: tuple[Event, ...] = (),
        writes: tuple[Put, ...] = (),
    ) -> Loaded[Environment]:
        write = self._books.environments.kind.put(environment.id, environment, loaded.version)
        change = events.of_environment(loaded.value, environment, self._clock.now())
        after = [jobs.ADMIT] if environment.final else []
        self._books.commit(write, *writes, events=[*told, *change], jobs=after)
        return Loaded(environment, loaded.version + 1)


def _tried(act: Callable[[], None]) -> Fault | None:
    """What went wrong, if anything."""
    try:
        act()
    except (InfraError, GuardRefused) as error:
        return error
    return None


def _listed(provider: Provider) -> Listing | Fault:
    """All that the provider has of ours, or why it cannot be seen."""
    try:
        return provider.driver.list()
    except InfraError as error:
        return error


def _counted(environment: Environment, error: InfraError) -> Environment:
    """Waiting for room is no fault: it must not use up the tries that faults have."""
    if isinstance(error, CapacityError):
        return replace(environment, waits=environment.waits + 1)
    return replace(environment, faults_seen=environment.faults_seen + 1)


def _views(listing: Listing, environment_id: str) -> dict[str, NodeView]:
    return {view.name: view for view in listing.nodes if view.environment_id == environment_id}


def _seen(node: Node, view: NodeView | None) -> Node:
    """The node as the driver sees it now; not seen at all means that the driver has not shown it yet."""
    if view is None or node.state is not N.BUILDING:
        return node
    if view.status is NodeStatus.ERROR:
        return replace(node, fault=view.fault or "the provider reports an error without saying which")
    if view.status is NodeStatus.ACTIVE:
        return replace(node.to(N.ACTIVE), address=view.address, port=view.port, driver_id=view.driver_id)
    return node
