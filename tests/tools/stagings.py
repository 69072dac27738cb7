"""A staging whose slots stand already, for who looks at switches alone: real books, real rounds, a given router."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from pipeline.domain.blueprint import EnvironmentSpec, Priority, RoleSpec
from pipeline.domain.environments import Environment, EnvironmentState, NodeState, planned_nodes
from pipeline.domain.stagings import Activity, Slot, SlotName, SlotState, Staging, StagingSpec
from pipeline.envs.books import ENVIRONMENTS, STAGINGS
from pipeline.envs.gate import Asking, Gate
from pipeline.ports.common import Clock
from pipeline.ports.routers import Router
from pipeline.stages.commands import Commands
from pipeline.stages.stagings import Stagings
from pipeline.stages.switching import Switching
from tests.scenarios.world import World

NAME, HOST, DOMAIN = "front", "front.test.example", "test.example"
ASKING = Asking("bench", "measured")
#: The tick looks at stagings so often, and whenever something is asked of one.
CHORES_S = 1.0


@dataclass
class Lab:
    """One staging of a world; `switch_times` are the seconds in which the router was told."""

    world: World
    stagings: Stagings
    switching: Switching
    switch_times: list[float]

    def now(self) -> Staging:
        return self.stagings.get(NAME)

    def stand(self, slot: SlotName, environment: str, address: str) -> None:
        """The slot's environment stands and passed its stages."""
        now = self.stagings.tools.clock.now()
        nodes = planned_nodes(EnvironmentSpec("debian-12", (RoleSpec("web"),)))
        stands = Environment(
            id=environment,
            project="shop",
            service="shop",
            owner="",
            provider="cloud",
            state=EnvironmentState.LEASED,
            nodes=tuple(replace(node, address=address, state=NodeState.IN_SERVICE) for node in nodes),
            priority=Priority.PUSH,
            created_at=now,
            state_since=now,
            ends_at=now + 1e6,
        )
        loaded = self.stagings.books.stagings.get(NAME)
        filled = loaded.value.with_slot(slot, Slot(SlotState.PASSED, environment, 1, environment, passed_at=now))
        put = STAGINGS.put(NAME, filled, loaded.version)
        self.stagings.books.commit(ENVIRONMENTS.put(environment, stands, 0), put)

    def promote(self) -> None:
        self.stagings.promote(NAME, ASKING)
        self._finish()

    def rollback(self) -> None:
        self.stagings.rollback(NAME, ASKING)
        self._finish()

    def _finish(self) -> None:
        """What the tick does at once when something was asked."""
        known = len(self.now().history)
        while self.now().activity in {Activity.CHECKING, Activity.SWITCHING}:
            self.switching.round()
        fresh = self.now().history[known:] or self.now().history[-1:]
        self.switch_times += [entry.seconds for entry in fresh if entry.what in {"promoted", "rolled back"}]

    def until(self, moment: float) -> None:
        """Let the tick do its chores until a moment."""
        while time.time() < moment:
            self.switching.round()
            time.sleep(max(0.0, min(CHORES_S, moment - time.time())))


def lab(router: Router, clock: Clock, scratch: str, **spec: float) -> Lab:
    """A staging of project shop at `HOST`."""
    world = World(scratch)
    world.project("shop")
    tools = replace(world.tools, clock=clock)
    gate = Gate(world.books, clock, routers=(router,))
    stagings = Stagings(tools, world.templates, gate, router, DOMAIN)
    wanted = StagingSpec("shop", HOST, "web", int(spec.pop("port")), health="/health")
    stagings.put(NAME, replace(wanted, **spec))  # type: ignore[arg-type]  # all that is given are figures
    return Lab(world, stagings, Switching(stagings, world.requests, Commands(tools)), [])
