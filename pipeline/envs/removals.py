"""The one way out of the world: past the gate, then to the driver, then seen to be gone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from pipeline.domain import resizing
from pipeline.domain.environments import Environment, EnvironmentState, NodeState, begin_destroying
from pipeline.domain.errors import InvalidTransition, TransientError
from pipeline.domain.guards import Act, Facts
from pipeline.envs.books import Books
from pipeline.envs.gate import Asking, Gate
from pipeline.ports.common import Clock
from pipeline.ports.drivers import Driver, Listing, NodeView
from pipeline.ports.stores import Event, Put

#: Who asks for the end of a build that was nobody's.
BUILD = "build"


@dataclass(frozen=True)
class Begun:
    """An environment on its way out, or as it was; `writes` and `events` belong into the commit that says so."""

    environment: Environment
    writes: tuple[Put, ...] = ()
    events: tuple[Event, ...] = ()


@dataclass(frozen=True)
class Look:
    """What was seen after a removal: the audit event that tells it, and what is still there, if anything."""

    event: Event
    still: str


class Removals:
    """Nothing else begins an environment's end, and nothing else tells a driver to destroy."""

    def __init__(self, books: Books, gate: Gate, clock: Clock) -> None:
        self._books = books
        self._gate = gate
        self._clock = clock

    def begin(
        self, environment: Environment, asking: Asking, *, act: Act = Act.DESTROY, given_back: bool = False
    ) -> Begun:
        """Let an environment begin its end; GuardRefused says what is in the way.

        Unchanged when it is on its way out already, and in a dry run. `given_back`: whoever holds it asks.
        """
        going = begin_destroying(environment, self._clock.now(), asking.why)
        if going is environment:
            return Begun(environment)
        facts = self._gate.facts_of(environment, asking, given_back=given_back)
        passed = self._gate.judge(act, environment.id, facts, asking)
        after = environment if asking.dry_run else replace(going, ended_by=asking.who)
        return Begun(after, passed.writes, passed.events)

    def judge_nodes(
        self,
        environment: Environment,
        names: Sequence[str],
        act: Act,
        asking: Asking,
        *,
        drain: bool = False,
        beside: bool = False,
    ) -> Begun:
        """Ask the gate whether these nodes may go, one after the other; the environment with them out of traffic.

        `drain`: they are to be drained first, and are judged again after that. `beside`: before that others come, and
        whether these answer is asked then.
        """
        going, writes, told = environment, list[Put](), list[Event]()
        emptied = _emptied(environment, names) if act is Act.SCALE_IN else frozenset()
        last_well = drain and not beside and self._gate.may_leave_none_well(environment, names)
        for name in names:
            facts = self._gate.facts_of_node(going, name, asking)
            role = environment.named({name})[0].role
            if role in emptied and name == names[-1]:  # healthy or not, an environment without one is another one
                facts, asking = replace(facts, last_of=role), _without_override(asking, "last-node")
            facts = replace(facts, in_traffic="") if drain else facts
            facts = replace(facts, last_of=role) if last_well and name == names[-1] else facts
            passed = self._gate.judge(act, f"{environment.id}/{name}", facts, asking)
            going = resizing.draining(going, name)
            writes += passed.writes
            told += passed.events
        return Begun(going, tuple(writes), tuple(told))

    def in_traffic(self, environment: Environment, names: Sequence[str]) -> str:
        """Which router sends traffic to one of these nodes, if any."""
        return next(filter(None, (self._gate.traffic_of_node(environment, name) for name in names)), "")

    def carry_out_nodes(self, driver: Driver, environment: Environment, names: Sequence[str]) -> None:
        """Destroy nodes of an environment that stays; InvalidTransition for one that was not told to go."""
        for node in environment.named(names):
            if node.state not in {NodeState.DESTROYING, NodeState.LOST}:
                told = f"node {environment.id}/{node.name} is {node.state}; its end never passed the gate"
                raise InvalidTransition(told)
        self._destroy(driver, environment.id, sorted(names))

    def judge_unused(self, environment: Environment, asking: Asking) -> Begun:
        """Ask the gate whether nodes of an environment may go that never were in service: nobody can need them."""
        facts = Facts(asking.who, owner=asking.who, provider=environment.provider, now=self._clock.now())
        passed = self._gate.judge(Act.DESTROY, f"{environment.id}: nodes that never were in service", facts, asking)
        return Begun(environment, passed.writes, passed.events)

    def look_for_nodes(
        self, environment: Environment, names: Sequence[str], act: Act, asking: Asking, listed: Sequence[NodeView]
    ) -> Look:
        """Whether nodes are gone after they were destroyed."""
        there = {view.name for view in listed if view.environment_id == environment.id}
        still = ", ".join(f"node {name}" for name in names if name in there)
        target = f"{environment.id}/{','.join(names)}"
        return Look(self._gate.event(act, target, asking, {"verified": not still, "still": still}), still)

    def carry_out(self, driver: Driver, environment: Environment) -> None:
        """Destroy what passed the gate when its end began; InvalidTransition for any other."""
        if environment.state is not EnvironmentState.DESTROYING:
            raise InvalidTransition(
                f"environment {environment.id} is {environment.state}; its end never passed the gate"
            )
        self._destroy(driver, environment.id)

    def look(self, environment: Environment, listing: Listing) -> Look:
        """Whether an environment is gone after it was destroyed."""
        return self._look(Act.DESTROY, environment.id, Asking(environment.ended_by, environment.reason), listing)

    def at_once(self, driver: Driver, act: Act, environment_id: str, facts: Facts, asking: Asking) -> None:
        """Pass the gate, destroy and look: for what no book tells to go. TransientError when it is still there."""
        passed = self._gate.pass_(act, environment_id, facts, asking)
        self._destroy(driver, passed.target)
        look = self._look(act, passed.target, asking, driver.list())
        self._books.commit(events=[look.event])
        if look.still:
            raise still_there(environment_id, look.still)

    def give_up(self, environment: Environment, why: str) -> Begun:
        """Let a build that failed begin its end, for whom it was built; as `begin`."""
        return self.begin(environment, _for_whom_it_is_built(environment, why))

    def undo(self, driver: Driver, environment: Environment, why: str) -> None:
        """Remove what a build left, for whom it was built; as `at_once`."""
        asking = _for_whom_it_is_built(environment, why)
        self.at_once(driver, Act.DESTROY, environment.id, self._gate.facts_of(environment, asking), asking)

    def _destroy(self, driver: Driver, environment_id: str, nodes: Sequence[str] | None = None) -> None:
        driver.destroy(environment_id, nodes)

    def _look(self, act: Act, environment_id: str, asking: Asking, listing: Listing) -> Look:
        still = ", ".join(_left(environment_id, listing))
        return Look(self._gate.event(act, environment_id, asking, {"verified": not still, "still": still}), still)


def still_there(environment_id: str, still: str) -> TransientError:
    """The provider said that it destroyed something, and shows it all the same."""
    return TransientError(f"environment {environment_id}: still there after it was destroyed: {still}")


def _for_whom_it_is_built(environment: Environment, why: str) -> Asking:
    return Asking(environment.owner or BUILD, why, again=True)


def _emptied(environment: Environment, names: Sequence[str]) -> frozenset[str]:
    """Roles of which nothing stays."""
    stay = {node.role for node in environment.nodes if node.name not in names}
    return frozenset(node.role for node in environment.nodes) - stay


def _without_override(asking: Asking, guard: str) -> Asking:
    return replace(asking, overrides={name: why for name, why in asking.overrides.items() if name != guard})


def _left(environment_id: str, listing: Listing) -> Iterator[str]:
    yield from (f"node {node.name}" for node in listing.nodes if node.environment_id == environment_id)
    if any(one.environment_id == environment_id for one in listing.environments):
        yield "its mark"
