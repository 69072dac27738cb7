"""Nodes of an environment that stands: which come, which go, and what becomes of them on their way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from pipeline.domain.durations import check_span
from pipeline.domain.environments import Environment, EnvironmentState, Node, NodeState, Purpose
from pipeline.domain.errors import InvalidTransition, UserError
from pipeline.domain.leases import LIVING
from pipeline.domain.rules import PlacementRules, Spread
from pipeline.domain.scaling import Scaling

N = NodeState
#: A node in one of these can do its work.
HEALTHY = frozenset({N.REACHABLE, N.IN_SERVICE})
#: A node that goes is out of traffic for so long before it is taken back, where nobody says, and at most; in seconds.
DRAIN_S, MOST_DRAIN_S = 10.0, 600.0
#: Lost nodes of one environment that are replaced, tries that fail among them.
MAX_REPLACED = 5


def check(environment: Environment, role: str) -> None:
    """InvalidTransition when nothing of it can be scaled now, UserError when it has no such role."""
    if environment.state not in LIVING:
        raise InvalidTransition(
            f"environment {environment.id} is {environment.state}: it can be scaled while it is leased or held"
        )
    contract = environment.contract
    if not lasts(environment):
        raise InvalidTransition(
            f"environment {environment.id} is run {environment.owner}'s, whose greenroom.yml says how many nodes it "
            "has: change its counts, or ask for an environment of your own"
        )
    if contract is not None and not contract.ready_at:
        raise InvalidTransition(
            f"environment {environment.id} is still prepared by run {environment.owner}: scale it when that is over"
        )
    known = list(dict.fromkeys(node.role for node in environment.nodes))
    if role not in known:
        raise UserError(f"environment {environment.id} has no role {role!r}; it has: {', '.join(known)}")


def check_drain(seconds: float | None) -> None:
    """UserError when nodes that go cannot be asked to be out of traffic for so long; None: nobody says."""
    check_span("drain", seconds, MOST_DRAIN_S)


def lasts(environment: Environment) -> bool:
    """Whether it is no run's alone, which is over soon."""
    return environment.contract is not None or environment.purpose is Purpose.STAGING


def is_watched(environment: Environment) -> bool:
    """Whether its nodes are looked for again and again, and replaced when they are lost."""
    return environment.state in LIVING and lasts(environment)


def lost(environment: Environment) -> tuple[Node, ...]:
    """Its lost nodes of one role."""
    found = [node for node in environment.nodes if node.state is N.LOST]
    return tuple(node for node in found if node.role == found[0].role)


def replaces(environment: Environment) -> bool:
    """Whether nodes that it loses are replaced.

    A held one is left as it is, and what was replaced too often is for a person to look at.
    """
    return environment.state is EnvironmentState.LEASED and lasts(environment) and environment.replaced < MAX_REPLACED


def replaced_at(environment: Environment) -> float | None:
    """When a lost node of it may be replaced; None when none is to be."""
    may = replaces(environment) and environment.scaling is None and bool(lost(environment))
    return environment.not_before if may else None


def lose(environment: Environment, faults: Mapping[str, str]) -> Environment:
    """These nodes, by name, are not there any more, or of no use, and why."""
    gone = _each(environment, faults, lambda node: replace(node.to(N.LOST), fault=faults[node.name]))
    at_once = environment.scaling is not None  # what goes on with its nodes may turn on that
    return replace(gone, degraded=shortfall(gone), not_before=0.0 if at_once else gone.not_before)


def shortfall(environment: Environment) -> str:
    """Which of its nodes are lost, and why; empty when none is."""
    told = [f"node {node.name} is lost: {node.fault}" for node in environment.nodes if node.state is N.LOST]
    more = f"; {environment.replaced} were replaced, which is the most: scale it, or release it"
    return "; ".join(told) + (more if told and environment.replaced >= MAX_REPLACED else "")


def replacing(environment: Environment, scaling: Scaling) -> Environment:
    """Lost nodes are to be built anew."""
    begun = replace(environment, scaling=scaling, not_before=0.0)
    return replace(begun, replaced=environment.replaced + len(scaling.coming))


def cleared(environment: Environment, names: Iterable[str]) -> Environment:
    """Of these lost nodes nothing is left, and nothing is kept for them."""
    return _each(environment, names, lambda node: replace(_bare(node), fault=node.fault))


def is_scaled(environment: Environment) -> bool:
    """Whether a change of its nodes goes on, and may."""
    return environment.scaling is not None and environment.state in LIVING


def is_prepared_for(environment: Environment, run_id: str) -> bool:
    """Whether the nodes that a run prepares can be logged in to, or will not come any more."""
    scaling = environment.scaling
    if scaling is None or scaling.run != run_id or scaling.fault or environment.state not in LIVING:
        return True
    return all(node.state in HEALTHY for node in environment.named(scaling.coming))


def busy(environment: Environment) -> str:
    """What goes on with its nodes; empty when nothing does."""
    scaling = environment.scaling
    if scaling is None:
        return ""
    what = "its lost nodes are replaced" if scaling.replaces else f"role {scaling.role} is scaled to {scaling.count}"
    what = what if scaling.moves is None else f"role {scaling.role} is moved to {scaling.moves.to}"
    return f"environment {environment.id}: {what} since {scaling.why!r}"


def grown(environment: Environment, scaling: Scaling) -> Environment:
    """With further nodes of a role, which have a name and count, and nothing else yet.

    UserError when the blueprint gives the role's nodes their addresses one by one: there is none for a further one.
    """
    role = environment.of_role(scaling.role)
    like = role[0]
    fixed = [one.network for one in like.wiring.attachments if one.address]
    if fixed:
        raise UserError(
            f"role {scaling.role} has addresses of its own in network {fixed[0]}, one for each of {len(role)} nodes: "
            "ask for an environment whose greenroom.yml lists more"
        )
    names = _free_names(environment, scaling.role, scaling.count - len(role))
    coming = [_bare(replace(like, name=name, state=N.PLANNED)) for name in names]
    wish = replace(scaling, coming=tuple(names))
    return replace(environment.with_nodes([*environment.nodes, *coming]), scaling=wish, not_before=0.0, degraded="")


def _free_names(environment: Environment, role: str, count: int) -> list[str]:
    """The lowest that are free."""
    taken = {node.name for node in environment.nodes}
    names = (f"{role}-{number}" for number in range(len(taken) + count))
    return [name for name in names if name not in taken][:count]


def _bare(node: Node) -> Node:
    """Nothing of it exists."""
    return replace(
        node,
        address=None,
        inside_address="",
        addresses={},
        driver_id="",
        host_public_key="",
        sealed_host_key="",
        fault="",
        machine="",
        zone="",
        apart_from=(),
    )


def chosen_to_go(environment: Environment, role: str, count: int) -> tuple[str, ...]:
    """The nodes that go so that `count` stay: those that are not healthy first, then the newest.

    Where the role is kept apart, a node goes from where most of them are.
    """
    rules = environment.rules.roles.get(role, PlacementRules())
    left, gone = list(environment.of_role(role)), []
    while len(left) > count:
        goes = _first_to_go(left, rules.spread)
        left.remove(goes)
        gone.append(goes.name)
    return tuple(gone)


def _first_to_go(nodes: Sequence[Node], spread: Spread) -> Node:
    place = _place_of(spread)
    crowd = Counter(place(node) for node in nodes)
    ranked = [(node.state in HEALTHY, -crowd[place(node)], -age) for age, node in enumerate(nodes)]
    return nodes[ranked.index(min(ranked))]


def _place_of(spread: Spread) -> Callable[[Node], str]:
    places: dict[Spread, Callable[[Node], str]] = {
        Spread.ZONE: lambda node: node.zone,
        Spread.MACHINE: lambda node: node.machine,
        Spread.NONE: lambda _: "",
    }
    return places[spread]


def draining(environment: Environment, name: str) -> Environment:
    """One of its nodes gets no traffic any more; one that had none stays as it is."""
    return _each(environment, [name], lambda node: node.to(N.DRAINING) if node.state is N.IN_SERVICE else node)


def back_in_service(environment: Environment) -> Environment:
    """Its nodes that were to go stay after all."""
    return _each(
        environment,
        [node.name for node in environment.nodes if node.state is N.DRAINING],
        lambda node: node.to(N.REACHABLE).to(N.IN_SERVICE),
    )


def taken_back(environment: Environment, names: Iterable[str]) -> Environment:
    """The driver is about to take these nodes away."""
    return _each(environment, names, lambda node: node.to(N.DESTROYING))


def unplaced(environment: Environment, scaling: Scaling, fault: str) -> Environment:
    """Nodes that come cannot be where they were asked for: what is left of them is cleared, then they come anew."""
    waiting = replace(environment, scaling=replace(scaling, placed_at=0.0, progress=None))
    return _each(waiting, scaling.coming, lambda node: replace(node.to(N.LOST), fault=fault))


def given_up(environment: Environment, scaling: Scaling) -> Environment:
    """Nodes that came and failed are about to go; a lost one that was to be replaced is lost again."""
    end = N.LOST if scaling.replaces else N.DESTROYING

    def going(node: Node) -> Node:
        return node if node.state is N.PLANNED else replace(node.to(end), fault=node.fault or scaling.fault)

    return _each(environment, scaling.coming, going)


def ended(environment: Environment, scaling: Scaling) -> Environment:
    """What was to go is gone, and what it took is free. Nodes that failed to replace lost ones stay lost."""
    what = "the lost nodes of" if scaling.replaces else f"{scaling.count} nodes of"
    told = f"{what} role {scaling.role}: {scaling.fault}" if scaling.fault else ""
    gone = scaling.going or (() if scaling.replaces else scaling.coming)
    left = [node for node in environment.nodes if node.name not in gone]
    stays = environment.with_nodes(left)
    stays = cleared(stays, scaling.coming) if scaling.replaces else stays
    return replace(over(stays, told), resizes=environment.resizes + 1)


def in_service(environment: Environment, names: Iterable[str]) -> Environment:
    return _each(environment, names, lambda node: replace(node.to(N.IN_SERVICE), fault=""))


def over(environment: Environment, degraded: str = "") -> Environment:
    """The change of its nodes is over; `degraded`: why it has not those that were wished."""
    told = "; ".join(filter(None, [degraded, shortfall(environment)]))
    return replace(environment, scaling=None, not_before=0.0, degraded=told)


def waits(environment: Environment, until: float, reason: str) -> Environment:
    """The change of its nodes goes on at `until`."""
    assert environment.scaling is not None, "it is scaled"  # noqa: S101  # says it to the reader
    return replace(environment, not_before=until, scaling=replace(environment.scaling, reason=reason))


def _each(environment: Environment, names: Iterable[str], change: Callable[[Node], Node]) -> Environment:
    wanted = set(names)
    return environment.with_nodes(change(node) if node.name in wanted else node for node in environment.nodes)
