"""Environments and their nodes: what exists in the world, what may come next, who uses it until when."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from pipeline.domain.blueprint import EnvironmentSpec, Priority, RoleSpec
from pipeline.domain.contracts import Contract
from pipeline.domain.durations import SKEW_S
from pipeline.domain.errors import InvalidTransition
from pipeline.domain.milestones import Milestone, Progress
from pipeline.domain.moments import NEVER
from pipeline.domain.qos import QosProfile
from pipeline.domain.resources import Resources
from pipeline.domain.rules import EnvironmentRules
from pipeline.domain.scaling import Scaling
from pipeline.domain.traffic import Door
from pipeline.domain.waits import Wait
from pipeline.domain.warm import Warm
from pipeline.domain.wiring import Custom, Network, Wiring


class EnvironmentState(StrEnum):
    """What exists in the world; the verdict of a run is told elsewhere."""

    REQUESTED = "requested"
    RESERVED = "reserved"
    BUILDING = "building"
    READY = "ready"
    LEASED = "leased"
    HELD = "held"
    RECYCLING = "recycling"
    ADOPTED = "adopted"
    DESTROYING = "destroying"
    DESTROYED = "destroyed"
    REJECTED = "rejected"
    WITHDRAWN = "withdrawn"


E = EnvironmentState
TRANSITIONS: Mapping[EnvironmentState, frozenset[EnvironmentState]] = {
    E.REQUESTED: frozenset({E.RESERVED, E.REJECTED, E.WITHDRAWN}),
    E.RESERVED: frozenset({E.BUILDING, E.REQUESTED, E.WITHDRAWN}),
    E.BUILDING: frozenset({E.READY, E.LEASED, E.RESERVED, E.HELD, E.DESTROYING}),
    E.READY: frozenset({E.LEASED, E.DESTROYING}),
    E.LEASED: frozenset({E.HELD, E.RECYCLING, E.DESTROYING}),
    E.HELD: frozenset({E.LEASED, E.DESTROYING}),
    E.RECYCLING: frozenset({E.READY, E.DESTROYING}),
    E.ADOPTED: frozenset({E.LEASED, E.DESTROYING}),
    E.DESTROYING: frozenset({E.DESTROYED}),
    E.DESTROYED: frozenset(),
    E.REJECTED: frozenset(),
    E.WITHDRAWN: frozenset(),
}
#: Nothing exists and nothing will.
FINAL_STATES = frozenset({E.DESTROYED, E.REJECTED, E.WITHDRAWN})
#: On the way out, or out.
LEAVING_STATES = FINAL_STATES | {E.DESTROYING}
#: Count against the provider and the project: from the reservation until the last node is gone.
QUOTA_STATES = frozenset(E) - FINAL_STATES - {E.REQUESTED}
#: Their builds are not over.
BUILD_STATES = frozenset({E.RESERVED, E.BUILDING})
#: The driver has something to do; the poller looks at these.
MOVING_STATES = frozenset({E.RESERVED, E.BUILDING, E.DESTROYING})
#: In use or kept until their time ends.
TIMED_STATES = frozenset({E.READY, E.LEASED, E.HELD, E.ADOPTED})
#: Servers may exist.
STANDING_STATES = QUOTA_STATES - {E.RESERVED}


class Purpose(StrEnum):
    """What an environment is for."""

    RUN = "run"
    STAGING = "staging"


#: No try is put off for longer, in seconds.
MOST_WAIT_S = 3600.0


class NodeState(StrEnum):
    """What exists of one node."""

    PLANNED = "planned"
    BUILDING = "building"
    ACTIVE = "active"
    REACHABLE = "reachable"
    IN_SERVICE = "in-service"
    DRAINING = "draining"
    LOST = "lost"
    DESTROYING = "destroying"
    GONE = "gone"


N = NodeState
NODE_TRANSITIONS: Mapping[NodeState, frozenset[NodeState]] = {
    N.PLANNED: frozenset({N.BUILDING, N.GONE}),
    N.BUILDING: frozenset({N.ACTIVE, N.DESTROYING, N.LOST}),
    N.ACTIVE: frozenset({N.REACHABLE, N.DESTROYING, N.LOST}),
    N.REACHABLE: frozenset({N.IN_SERVICE, N.DESTROYING, N.LOST}),
    N.IN_SERVICE: frozenset({N.DRAINING, N.LOST, N.DESTROYING}),
    N.DRAINING: frozenset({N.REACHABLE, N.LOST, N.DESTROYING}),
    N.LOST: frozenset({N.BUILDING, N.DESTROYING}),
    N.DESTROYING: frozenset({N.GONE}),
    N.GONE: frozenset(),
}


@dataclass(frozen=True)
class Node:
    """One server of an environment. `sealed_host_key` is its private host key as `Secrets.seal` wrote it.

    Other nodes reach it at its `inside_address`, if it has one, else at its `address`. `addresses` are those in further
    networks, by their names.

    `machine` and `zone` are where placement put it; empty until then. `apart_from` are the services with which it
    shares no machine, by all rules that held when it was placed.
    """

    name: str
    role: str
    image: str
    resources: Resources
    qos: QosProfile = field(default_factory=QosProfile)
    state: NodeState = N.PLANNED
    address: str | None = None
    port: int = 22
    driver_id: str = ""
    host_public_key: str = ""
    sealed_host_key: str = ""
    fault: str = ""
    machine: str = ""
    zone: str = ""
    apart_from: tuple[str, ...] = ()
    inside_address: str = ""
    addresses: Mapping[str, str] = field(default_factory=dict)
    wiring: Wiring = field(default_factory=Wiring)
    custom: Custom = field(default_factory=Custom)

    def to(self, state: NodeState) -> Node:
        """The node in its next state; the same node when it is there already."""
        if state is self.state:
            return self
        if state not in NODE_TRANSITIONS[self.state]:
            raise InvalidTransition(f"node {self.name} is {self.state} and cannot become {state}")
        return replace(self, state=state)


@dataclass(frozen=True)
class Notice:
    """It was told that it is taken back at `at`, for environment `by` (empty: for the machine's sake), and why."""

    at: float
    by: str
    reason: str


@dataclass(frozen=True)
class Nomination:
    """Where a request will stand once its `victims` are gone: nobody else is placed there until `until`.

    `machines` maps the names of nodes to machines.
    """

    machines: Mapping[str, str]
    victims: tuple[str, ...]
    until: float


@dataclass(frozen=True)
class Environment:
    """Nodes that are requested, leased and destroyed together. Times are seconds since the epoch, 0: not yet.

    Its use: `owner` is the id of the run that uses it, `contract` what holds for whoever asked for it by itself; then
    the run only prepares it. `door` is where it answers requests, if it does. `ends_at` is when its lease or hold
    ends: after that it is taken back. `protected` is why nothing but its owner may take it back, if so.
    `sealed_key` is the private SSH key of all its nodes. `preempted` counts how often its run was taken back for
    somebody else; `notice` is why it goes.

    Its place: `wait` is how it waits for one, and `told_at` when that was last written. `placed_at` is when its nodes
    got their machines, `placed_under` the version of the inventory that placement saw, `notes` what placement says of
    it, such as a fall-back. `avoid` are the machines on which its nodes failed, after which it was placed again
    `placed_again` times.

    Its life: `progress` is how far its build is. `built_at` is when all its nodes were in service for the first time.
    `fault` is why it cannot be used, if so. `faults_seen` counts faults of the provider, `waits` how often it had no
    room. `ended_by` is who asked for its end. `removed`: its provider said that it is gone, and nobody could look yet.

    Its nodes: `scaling` is the change of them that goes on. `resizes` counts how often such changes took or gave
    capacity. `replaced` counts nodes that were lost and replaced. `degraded` is why it has not the nodes that it should
    have, if so.

    `warm` is what is noted of one that was built for a warm pool, also after it was handed out.
    """

    id: str
    project: str
    service: str
    owner: str
    provider: str
    state: EnvironmentState
    nodes: tuple[Node, ...]
    priority: Priority
    created_at: float
    state_since: float
    ends_at: float
    reason: str = ""
    fault: str = ""
    public_key: str = ""
    sealed_key: str = ""
    not_before: float = 0.0
    faults_seen: int = 0
    waits: int = 0
    rules: EnvironmentRules = field(default_factory=EnvironmentRules)
    networks: tuple[Network, ...] = ()
    placed_at: float = 0.0
    placed_under: int = 0
    notes: tuple[str, ...] = ()
    protected: str = ""
    told_at: float = 0.0
    purpose: Purpose = Purpose.RUN
    preempted: int = 0
    notice: Notice | None = None
    progress: Progress | None = None
    nomination: Nomination | None = None
    built_at: float = 0.0
    ended_by: str = ""
    removed: bool = False
    avoid: tuple[str, ...] = ()
    placed_again: int = 0
    wait: Wait | None = None
    contract: Contract | None = None
    scaling: Scaling | None = None
    resizes: int = 0
    replaced: int = 0
    degraded: str = ""
    door: Door | None = None
    warm: Warm | None = None

    def to(self, state: EnvironmentState, now: float, reason: str = "") -> Environment:
        """The environment in its next state, by `TRANSITIONS`."""
        if state not in TRANSITIONS[self.state]:
            raise InvalidTransition(f"environment {self.id} is {self.state} and cannot become {state}")
        return replace(self, state=state, state_since=now, reason=reason, not_before=0.0, wait=None, progress=None)

    def with_nodes(self, nodes: Iterable[Node]) -> Environment:
        return replace(self, nodes=tuple(nodes))

    def named(self, names: Collection[str]) -> tuple[Node, ...]:
        return tuple(node for node in self.nodes if node.name in names)

    def of_role(self, role: str) -> tuple[Node, ...]:
        return tuple(node for node in self.nodes if node.role == role)

    @property
    def wanted(self) -> bool:
        """Whether it is built for a run or a person, and not for the warm pool."""
        return bool(self.owner) or self.contract is not None

    @property
    def unclaimed(self) -> bool:
        """Whether a warm pool keeps it, or is to keep it, for whoever asks next."""
        return self.warm is not None and not self.warm.claimed_at

    @property
    def taken_back_at(self) -> float:
        """When its time is over, which no time of a protected one is."""
        return NEVER if self.protected else self.ends_at

    @property
    def final(self) -> bool:
        return self.state in FINAL_STATES


def under_clock(environment: Environment, now: float) -> Environment:
    """The environment with no moment that is yet to come but the end of its time: the clock jumped back since."""
    if environment.state_since <= now + SKEW_S and environment.not_before <= now + MOST_WAIT_S:
        return environment
    return replace(environment, state_since=min(environment.state_since, now), not_before=0.0)


def awaited(nodes: Iterable[Node], shown: Collection[str]) -> Milestone:
    """What the slowest of some nodes has to become; `shown` are the names of those that their provider shows."""
    building = [node.name for node in nodes if node.state is N.BUILDING]
    if any(name not in shown for name in building):
        return Milestone.ACCEPTED
    return Milestone.ACTIVE if building else Milestone.ANSWERING


def planned_nodes(spec: EnvironmentSpec) -> tuple[Node, ...]:
    """One planned node for each that the blueprint counts, named `<role>-<index>`."""
    return tuple(_planned(role, i, role.image or spec.image) for role in spec.roles for i in range(role.count))


def _planned(role: RoleSpec, index: int, image: str) -> Node:
    return Node(
        name=f"{role.name}-{index}",
        role=role.name,
        image=image,
        resources=role.resources,
        qos=role.qos,
        wiring=role.wiring(index),
        custom=role.custom,
    )


def displace(environment: Environment, now: float, reason: str) -> Environment:
    """Take its places away from a reservation of which nothing is built: it is requested again.

    A notice ends with the place that it was given for.
    """
    unplaced = (replace(node, machine="", zone="") for node in environment.nodes)
    again = environment.to(E.REQUESTED, now, reason).with_nodes(unplaced)
    return replace(again, placed_at=0.0, placed_under=0, told_at=now, notes=(), notice=None)


#: How often an environment whose nodes failed gets another place.
MAX_AGAIN = 3


def rebuilt_later(environment: Environment, now: float, reason: str) -> Environment:
    """What was begun is taken back: it keeps its place, and is built once more."""
    planned = (
        replace(node, state=N.PLANNED, fault="", address=None, inside_address="", addresses={})
        for node in environment.nodes
    )
    return environment.to(E.RESERVED, now, reason).with_nodes(planned)


def place_again(environment: Environment, avoid: Iterable[str], now: float, reason: str) -> Environment:
    """What stood on its machines is taken back: a reserved environment asks for another place, away from `avoid`."""
    shunned = tuple(dict.fromkeys((*environment.avoid, *avoid)))
    return replace(displace(environment, now, reason), avoid=shunned, placed_again=environment.placed_again + 1)


def begin_destroying(environment: Environment, now: float, reason: str) -> Environment:
    """Take back: withdraw what was not built, destroy what may exist; unchanged when it is on its way out already."""
    if environment.state in LEAVING_STATES:
        return environment
    if environment.state in {E.REQUESTED, E.RESERVED}:
        return environment.to(E.WITHDRAWN, now, reason).with_nodes(_gone(environment.nodes))
    environment = replace(environment, scaling=None)
    going = (node if node.state in {N.PLANNED, N.GONE} else node.to(N.DESTROYING) for node in environment.nodes)
    return environment.to(E.DESTROYING, now, reason).with_nodes(going)


def destroyed(environment: Environment, now: float) -> Environment:
    """Everything was seen to be gone; the keys are forgotten."""
    gone = environment.to(E.DESTROYED, now, environment.reason).with_nodes(_gone(environment.nodes))
    return replace(gone, sealed_key="")


def _gone(nodes: Iterable[Node]) -> tuple[Node, ...]:
    return tuple(replace(node, state=N.GONE, sealed_host_key="") for node in nodes)


def hold(environment: Environment, until: float, now: float, reason: str) -> Environment:
    """Keep for debugging until a time; holding again moves the end."""
    if environment.state is E.HELD:
        return replace(environment, ends_at=until, reason=reason)
    return replace(environment.to(E.HELD, now, reason), ends_at=until)


def take_over(environment: Environment, owner: str, ends_at: float, now: float) -> Environment:
    """A new run takes a held environment as it stands."""
    return replace(environment.to(E.LEASED, now, f"taken over by {owner}"), owner=owner, ends_at=ends_at)
