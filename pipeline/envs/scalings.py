"""What goes on with the nodes of environments that stand: which come, which go, and what failed is taken back."""

from __future__ import annotations

import logging
from dataclasses import replace

from pipeline.domain import moves, resizing
from pipeline.domain.environments import Environment, Node, NodeState
from pipeline.domain.errors import GuardRefused, InfraError
from pipeline.domain.guards import Act
from pipeline.domain.scaling import Move, Scaling
from pipeline.envs import events
from pipeline.envs.books import Loaded
from pipeline.envs.gate import Asking
from pipeline.envs.growth import Growth
from pipeline.envs.providers import Provider
from pipeline.envs.removals import Removals, still_there
from pipeline.envs.steps import Shown, Steps
from pipeline.ports.common import Clock
from pipeline.ports.stores import Event

log = logging.getLogger(__name__)
N = NodeState
#: After a fault nodes are taken back again so much later, in seconds.
AGAIN_S = 5.0
#: It is looked at again whether nodes that go have traffic, and for how long at most, in seconds.
LOOK_S, DRAINING_S = 0.5, 60.0
#: New nodes of a role that is moved may take so long to get traffic, in seconds; then it goes back.
TRAFFIC_S = 120.0
#: The guard that minds traffic.
TRAFFIC = "traffic"
#: After a try that failed, lost nodes are replaced again so much later, in seconds.
REPLACE_AGAIN_S = 30.0


class Scalings:
    """Advances changes of nodes; any number of processes at once."""

    def __init__(self, steps: Steps, growth: Growth, removals: Removals, clock: Clock) -> None:
        self._steps = steps
        self._growth = growth
        self._removals = removals
        self._clock = clock

    def step(
        self, loaded: Loaded[Environment], provider: Provider, listing: Shown | None, listed_at: float
    ) -> Environment:
        """Do what comes next, once; the environment as it is now. `listed_at`: when listing began."""
        scaling = loaded.value.scaling
        if scaling is None:
            return loaded.value
        if scaling.fault:
            return self._take_back(loaded, provider, scaling)
        if scaling.going:
            return self._shrink(loaded, provider, scaling)
        if scaling.moves is not None and moves.have_come(loaded.value):
            return self._let_leave(loaded, scaling, scaling.moves)
        if not scaling.placed_at and any(map(_is_left, loaded.value.named(scaling.coming))):
            return self._clear(loaded, provider, scaling)
        if listed_at < scaling.placed_at:
            return loaded.value  # what was listed may be an earlier node of the same name
        after = self._growth.step(loaded, scaling, listing)
        now = after.value.scaling
        return self._take_back(after, provider, now) if now is not None and now.fault else after.value

    def _clear(self, loaded: Loaded[Environment], provider: Provider, scaling: Scaling) -> Environment:
        """What is left of lost nodes goes before others come in their place: then there are never two of a name."""
        act = Act.REBUILD if scaling.replaces else Act.DESTROY
        look = self._destroyed(loaded.value, provider, scaling, scaling.coming, act)
        if isinstance(look, InfraError):
            return self._later(loaded, look)
        return self._steps.save(loaded, resizing.cleared(loaded.value, scaling.coming), told=[look]).value

    def _shrink(self, loaded: Loaded[Environment], provider: Provider, scaling: Scaling) -> Environment:
        """Nodes that had no traffic for long enough pass the gate once more, and go."""
        lost = moves.lost_there(loaded.value)
        if lost and scaling.moves is not None:
            return self._go_back(loaded, scaling, scaling.moves, lost)
        if not scaling.drained_at:
            return self._drain(loaded, scaling)
        if self._clock.now() < scaling.drained_at:
            return loaded.value
        asking = Asking(scaling.who, scaling.why, scaling.overrides, again=True)
        if any(node.state is not N.DESTROYING for node in loaded.value.named(scaling.going)):
            try:
                begun = self._removals.judge_nodes(loaded.value, scaling.going, Act.SCALE_IN, asking)
            except GuardRefused as refused:
                if refused.guard == TRAFFIC:  # a tick that came late told a router of them again
                    return self._drain(loaded, scaling)
                return self._stay(loaded, scaling, str(refused))
            going = resizing.taken_back(loaded.value, scaling.going)
            loaded = self._steps.save(loaded, going, writes=begun.writes)
        return self._remove(loaded, provider, scaling, scaling.going, Act.SCALE_IN)

    def _drain(self, loaded: Loaded[Environment], scaling: Scaling) -> Environment:
        """The time of their drain begins when no router sends traffic there any more, which the tick sees to."""
        now, told = self._clock.now(), self._removals.in_traffic(loaded.value, scaling.going)
        told = "" if scaling.overrides.get(TRAFFIC, "").strip() else told
        since = scaling.began_at if scaling.moves is None else scaling.moves.since
        if told and now - since > scaling.drain_s + DRAINING_S:
            return self._stay(loaded, scaling, f"{told} sends traffic to nodes that were to go")
        at = 0.0 if told else now + scaling.drain_s + _keep_s(scaling)
        reason = f"{told} still sends traffic there" if told else ""
        drains = replace(loaded.value, scaling=replace(scaling, drained_at=at))
        drains = resizing.waits(drains, at or now + LOOK_S, reason)
        return self._steps.save(loaded, drains).value

    def _stay(self, loaded: Loaded[Environment], scaling: Scaling, why: str) -> Environment:
        """Things changed while they drained: they are in service again."""
        if scaling.moves is not None and moves.can_go_back(loaded.value):
            return self._go_back(loaded, scaling, scaling.moves, why)
        told = f"role {scaling.role} was not scaled to {scaling.count}: {why}"
        stays = resizing.over(resizing.back_in_service(loaded.value), told)
        return self._steps.save(loaded, stays, told=[events.scaled(stays, scaling, self._clock.now())]).value

    def _let_leave(self, loaded: Loaded[Environment], scaling: Scaling, move: Move) -> Environment:
        """Once the new nodes have the traffic that the old ones have, those pass the gate and leave it."""
        asking = Asking(scaling.who, scaling.why, scaling.overrides, again=True)
        why = self._not_in_traffic(loaded.value, scaling, move)
        try:
            if not why:
                begun = self._removals.judge_nodes(loaded.value, move.leaving, Act.SCALE_IN, asking, drain=True)
                left = moves.leave(begun.environment, scaling, move, self._clock.now())
                assert left.scaling is not None, "it goes on"  # noqa: S101  # says it to the reader
                told = [*begun.events, events.scaling_begins(left, left.scaling, self._clock.now())]
                return self._steps.save(loaded, left, told=told, writes=begun.writes).value
        except GuardRefused as refused:
            why = str(refused)
        if self._clock.now() - move.since > TRAFFIC_S:
            return self._go_back(loaded, scaling, move, why)
        return self._steps.save(loaded, resizing.waits(loaded.value, self._clock.now() + LOOK_S, why)).value

    def _not_in_traffic(self, environment: Environment, scaling: Scaling, move: Move) -> str:
        """Which new node has no traffic yet although old ones have; empty when none is."""
        router = self._removals.in_traffic(environment, move.leaving)
        late = [name for name in scaling.coming if router and not self._removals.in_traffic(environment, [name])]
        return f"{router} sends no traffic to {', '.join(late)} yet" if late else ""

    def _go_back(self, loaded: Loaded[Environment], scaling: Scaling, move: Move, why: str) -> Environment:
        """The old nodes serve again; what came drains and goes."""
        back = moves.goes_back(loaded.value, scaling, move, why, self._clock.now())
        assert back.scaling is not None, "it goes on"  # noqa: S101  # says it to the reader
        told = [events.scaling_begins(back, back.scaling, self._clock.now())]
        return self._steps.save(loaded, back, told=told).value

    def _take_back(self, loaded: Loaded[Environment], provider: Provider, scaling: Scaling) -> Environment:
        """What came and failed goes again; nodes that were only planned go without a word."""
        environment = loaded.value
        asked = [node for node in environment.named(scaling.coming) if node.state is not N.PLANNED]
        if any(node.state not in {N.DESTROYING, N.LOST} for node in asked):
            asking = Asking(scaling.who, scaling.fault, again=True)
            begun = self._removals.judge_unused(environment, asking)
            going = resizing.given_up(environment, scaling)
            loaded = self._steps.save(loaded, going, told=begun.events, writes=begun.writes)
        return self._remove(loaded, provider, scaling, tuple(node.name for node in asked), Act.DESTROY)

    def _remove(
        self, loaded: Loaded[Environment], provider: Provider, scaling: Scaling, names: tuple[str, ...], act: Act
    ) -> Environment:
        """Destroy nodes, and see them gone, before their names and places are free."""
        told = []
        if names:
            look = self._destroyed(loaded.value, provider, scaling, names, act)
            if isinstance(look, InfraError):
                return self._later(loaded, look)
            told.append(look)
        ended = moves.over(resizing.ended(loaded.value, scaling), scaling)
        if scaling.replaces:
            ended = replace(ended, not_before=self._clock.now() + REPLACE_AGAIN_S)
        told.append(events.scaled(ended, scaling, self._clock.now()))
        return self._steps.save(loaded, ended, told=told).value

    def _destroyed(
        self, environment: Environment, provider: Provider, scaling: Scaling, names: tuple[str, ...], act: Act
    ) -> Event | InfraError:
        """Destroy nodes and look; what tells that they are gone, or why they may not be."""
        asking = Asking(scaling.who, scaling.fault or scaling.why, again=True)
        try:
            self._removals.carry_out_nodes(provider.driver, environment, names)
            look = self._removals.look_for_nodes(environment, names, act, asking, provider.driver.nodes())
        except InfraError as error:
            return error
        return still_there(environment.id, look.still) if look.still else look.event

    def _later(self, loaded: Loaded[Environment], error: InfraError) -> Environment:
        """Taking back is never given up: nodes that may exist stay counted until they are seen to be gone."""
        log.warning("environment %s: its nodes are not gone yet: %s", loaded.value.id, error)
        later = resizing.waits(loaded.value, self._clock.now() + AGAIN_S, str(error))
        return self._steps.save(loaded, later).value


def _keep_s(scaling: Scaling) -> float:
    """How long nodes that go stand without traffic after their drain."""
    return scaling.moves.keep_s if scaling.moves is not None and not scaling.moves.back else 0.0


def _is_left(node: Node) -> bool:
    """Whether anything of a lost node may be there, or is kept for it."""
    return bool(node.driver_id or node.machine)
