"""Environments that grow, shrink and lose nodes while a router sends traffic to them, and deaths on the way."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from pipeline.adapters.routers.memory import MemoryRouter
from pipeline.domain.environments import Environment, EnvironmentState, NodeState
from pipeline.domain.errors import CapacityError, GuardRefused
from pipeline.domain.runs import RunState
from pipeline.domain.stagings import Activity, SlotName, SlotState
from pipeline.domain.traffic import Backend, Target
from pipeline.envs.gate import Asking
from pipeline.envs.telling import tell
from pipeline.stages.requests import Request
from tests.scenarios.player import USUAL, usual_world
from tests.scenarios.test_stagings import ADA, BLUE, GREEN, HOST, SPEC, TWO, commit, environment, live, now, promote
from tests.scenarios.world import World

DRAIN_S = 5.0
QUICK = replace(SPEC, watch_s=2, drain_s=DRAIN_S, keep_s=60)
N = NodeState


@dataclass
class Watched:
    """Ends the test at once when a node is taken away that the router sends requests to."""

    world: World

    def __post_init__(self) -> None:
        self.world.grave.pass_by = self._looking(self.world.grave.pass_by)  # type: ignore[assignment,method-assign]  # looks on

    def _looking(self, pass_by: Callable[[str], None]) -> Callable[[str], None]:
        def look(where: str) -> None:
            pass_by(where)
            if where == "before destroy":
                self._check_draining()

        return look

    def _check_draining(self) -> None:
        for one in self.world.all_environments():
            going = {node.address for node in one.nodes if node.state is N.DESTROYING}
            assert not going & addresses(self.world, one.id) or one.state is not EnvironmentState.LEASED


def addresses(world: World, id: str) -> set[str]:
    backend = world.router.backends.get(id)
    return {target.address for target in backend.targets} if backend is not None else set()


def stands(world: World, slot: SlotName) -> Environment:
    return world.books.environments.get(environment(world, slot)).value


def serving(world: World, id: str) -> set[str]:
    """Names of the nodes that the router sends requests to; each must be one that stands."""
    names = {node.address: node.name for node in world.books.environments.get(id).value.nodes}
    views = {view.address: view.name for view in world.provider.driver.nodes() if view.environment_id == id}
    told = addresses(world, id)
    assert told <= views.keys()
    return {names[address] for address in told}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return _world(tmp_path)


def _world(scratch: Path) -> World:
    world = usual_world(scratch)
    commit(world, "v1", TWO)
    commit(world, "v2")
    world.stagings.put("front", QUICK)
    return world


def scale(world: World, id: str, count: int, **overrides: str) -> None:
    world.scale.scale(id, "web", count, replace(ADA, overrides=overrides))


def test_a_live_slot_grows_and_shrinks_in_traffic(world: World) -> None:
    Watched(world)
    live(world, "v1")
    id = environment(world, BLUE)
    assert serving(world, id) == {"web-0", "web-1"}
    scale(world, id, 4)
    world.advance(10)
    assert serving(world, id) == {"web-0", "web-1", "web-2", "web-3"}
    scale(world, id, 1)
    world.advance(2)
    assert serving(world, id) == {"web-0"}
    assert len(stands(world, BLUE).nodes) == 4  # what is open there may end
    world.advance(DRAIN_S + 1)
    assert [node.name for node in stands(world, BLUE).nodes] == ["web-0"]
    assert world.router.routes() == {HOST: id}


def test_the_router_is_told_of_changes_and_of_nothing_else(world: World) -> None:
    live(world, "v1")
    world.grave.passed.clear()
    world.advance(20)
    assert "before register" not in world.grave.passed
    scale(world, environment(world, BLUE), 3)
    world.advance(20)
    assert world.grave.passed.count("before register") == 1


def test_the_last_node_of_a_live_slot_never_goes(world: World) -> None:
    live(world, "v1")
    with pytest.raises(GuardRefused, match="last healthy node of role web"):
        scale(world, environment(world, BLUE), 0)


def test_who_alone_answers_the_router_stays(world: World) -> None:
    live(world, "v1")
    id = environment(world, BLUE)
    first, second = world.router.backends[id].targets
    world.router.sick.add(first)
    with pytest.raises(GuardRefused, match="last healthy node of role web"):
        scale(world, id, 1)
    world.router.sick.add(second)
    scale(world, id, 1, **{"last-node": "none of them answers anyway"})
    world.advance(10)
    assert len(stands(world, BLUE).nodes) == 1


def test_a_slot_that_a_person_protects_keeps_its_nodes(world: World) -> None:
    live(world, "v1")
    world.leases.protect(environment(world, BLUE), "the fair is on")
    with pytest.raises(GuardRefused, match="the fair is on"):
        scale(world, environment(world, BLUE), 1)


def test_the_time_of_a_drain_begins_when_the_router_was_told(world: World) -> None:
    live(world, "v1")
    id = environment(world, BLUE)
    scale(world, id, 1)
    world.router.down = True
    world.advance(20)
    scaling = stands(world, BLUE).scaling
    assert scaling is not None
    assert "perhaps router front, which cannot be asked" in scaling.reason
    world.router.down = False
    world.advance(DRAIN_S)
    assert (serving(world, id), len(stands(world, BLUE).nodes)) == ({"web-0"}, 2)
    world.advance(3)
    assert len(stands(world, BLUE).nodes) == 1


def test_a_route_that_was_told_late_ends_no_node_that_has_traffic(world: World) -> None:
    Watched(world)
    live(world, "v1")
    id, before = environment(world, BLUE), world.router.backends[environment(world, BLUE)]
    scale(world, id, 1)
    world.advance(DRAIN_S)
    world.router.register(before)  # by a tick that came late, just before the drain is over
    world.clock.sleep(3)
    world.work.lifecycle.poll("cloud")
    world.advance(2)
    assert len(stands(world, BLUE).nodes) == 2
    world.advance(DRAIN_S + 1)
    assert (serving(world, id), len(stands(world, BLUE).nodes)) == ({"web-0"}, 1)


def test_a_node_that_dies_in_a_live_slot_has_no_traffic_until_another_one_is_prepared(world: World) -> None:
    live(world, "v1")
    id = environment(world, BLUE)
    world.cloud.slow = True
    del world.cloud.nodes[id, "web-1"]
    world.advance(12)
    assert serving(world, id) == {"web-0"}
    world.cloud.slow = False
    world.cloud.finish()
    world.advance(10)
    assert serving(world, id) == {"web-0", "web-1"}
    assert stands(world, BLUE).replaced == 1


def test_the_only_node_that_dies_is_taken_out_and_comes_back(world: World) -> None:
    live(world, "v2")
    id = environment(world, BLUE)
    world.cloud.slow = True
    del world.cloud.nodes[id, "web-0"]
    world.advance(12)
    assert addresses(world, id) == set()
    world.cloud.finish()
    world.advance(20)
    assert (serving(world, id), world.router.routes()) == ({"web-0"}, {HOST: id})


def test_a_slot_that_lost_a_node_is_not_promoted(world: World) -> None:
    world.stagings.deploy("front", "v1", ADA)
    world.advance(2)
    world.cloud.slow = True
    del world.cloud.nodes[environment(world, BLUE), "web-1"]
    world.advance(12)
    promote(world)
    world.advance(20)
    assert now(world).live is None
    assert "1 of its 2 nodes" in now(world).history[-1].why


def test_a_slot_whose_last_node_is_lost_is_not_promoted(world: World) -> None:
    world.stagings.deploy("front", "v2", ADA)
    world.advance(2)
    id = environment(world, BLUE)
    world.cloud.slow = True
    del world.cloud.nodes[id, "web-0"]
    world.router.forget(id)
    world.advance(12)
    promote(world)
    world.advance(20)
    assert (now(world).live, addresses(world, id)) == (None, set())
    assert "1 of its 1 nodes" in now(world).history[-1].why


def test_who_left_is_taken_out_also_where_there_is_no_room_for_who_comes() -> None:
    router = MemoryRouter("front", most_targets=2)
    one, two, three, four = (Target(f"192.0.2.{number}", 80) for number in range(1, 5))
    tell(router, {}, Backend("env-1", (one, two)))
    with pytest.raises(CapacityError):
        tell(router, router.known(), Backend("env-1", (two, three, four)))
    assert router.known()["env-1"].targets == (two,)


def test_what_is_wanted_of_a_staging_holds_from_the_next_promotion(world: World) -> None:
    live(world, "v1")
    world.stagings.put("front", replace(QUICK, port=9090))
    world.advance(3)
    assert {one.port for one in world.router.backends[environment(world, BLUE)].targets} == {8080}
    live(world, "v2")
    assert {one.port for one in world.router.backends[environment(world, GREEN)].targets} == {9090}


def test_an_environment_with_a_name_of_its_own_grows_and_shrinks(world: World) -> None:
    Watched(world)
    deploys = [{"role": "web", "to": "/srv/shop", "run": ["./migrate"], "ready": {"http": ":8080/health"}}]
    world.program("health", lambda _: 0)
    commit(world, "named", {**USUAL, "deploy": deploys})
    made = world.requests.make(Request("shop", "ada", "to look", ref="named")).environment
    world.advance(2)
    scale(world, made.id, 3)
    world.advance(10)
    assert serving(world, made.id) == {"web-0", "web-1", "web-2"}
    scale(world, made.id, 1)
    world.advance(2)
    assert serving(world, made.id) == {"web-0"}
    world.advance(12)
    assert len(world.books.environments.get(made.id).value.nodes) == 1


# Somebody dies at every place


def play(world: World) -> None:
    """Promote, grow, lose a node, shrink, promote another one, go back, and let the keep time end."""
    _live(world, "v1", BLUE)
    id = environment(world, BLUE)
    scale(world, id, 3)
    _until(world, lambda: _rests(world, id, 3))
    world.cloud.nodes.pop((id, "web-2"))
    _until(world, lambda: world.books.environments.get(id).value.replaced == 1)
    _until(world, lambda: _rests(world, id, 3))
    scale(world, id, 1)
    _until(world, lambda: _rests(world, id, 1))
    world.router.traffic[id] = (1, 0, 0)  # until the bound of the drain
    _live(world, "v2", GREEN)
    world.stagings.rollback("front", Asking("ada", "customers complain"))
    _until(world, lambda: now(world).live is BLUE and now(world).activity is Activity.IDLE)
    _until(world, lambda: now(world).green.state is SlotState.EMPTY and not now(world).leaving)
    _until(world, lambda: all(run.state is RunState.FINISHED for run in world.all_runs()))
    world.advance(3)


def _live(world: World, ref: str, slot: SlotName) -> None:
    world.stagings.deploy("front", ref, ADA)
    _until(world, lambda: now(world).slot(slot).state is SlotState.PASSED)
    world.stagings.promote("front", ADA)
    _until(world, lambda: now(world).live is slot and now(world).activity is Activity.IDLE)


def _rests(world: World, id: str, count: int) -> bool:
    found = world.books.environments.get(id).value
    return found.scaling is None and [node.state for node in found.nodes] == [N.IN_SERVICE] * count


def _until(world: World, told: Callable[[], bool]) -> None:
    for _ in range(60):
        if told():
            return
        world.advance(2)
    raise AssertionError(f"it does not come to rest: {now(world)}")


@cache
def places() -> tuple[tuple[str, int], ...]:
    """What a play without a death passes, in order, from its first call of the router."""
    with TemporaryDirectory() as scratch:
        world = _world(Path(scratch))
        play(world)
    counted = tuple(world.grave.counted())
    return counted[counted.index(("before register", 1)) :]


def check(world: World, place: str) -> None:
    """The router and the books agree, and lead to nothing that is gone."""
    staging = now(world)
    (standing,) = [one for one in world.all_environments() if not one.final]
    assert (staging.live, standing.id) == (BLUE, staging.blue.environment), place
    assert world.router.routes() == {HOST: standing.id}, place
    assert set(world.router.known()) == {standing.id}, place
    (node,) = standing.nodes
    assert set(world.router.known()[standing.id].targets) == {Target(str(node.address), 8080)}, place
    assert set(world.cloud.nodes) == {(standing.id, node.name)}, place
    assert set(world.cloud.marks) == {standing.id}, place
    assert (standing.degraded, standing.replaced) == ("", 1), place


def _die(scratch: Path, deaths: Collection[tuple[str, int]]) -> None:
    for number, (place, countdown) in enumerate(deaths):
        world = _world(scratch / str(number))
        Watched(world)
        world.grave.dig(place, countdown)
        play(world)
        check(world, f"{place} {countdown}")


def test_a_death_at_any_call_of_the_router_leaves_no_wrong_route(tmp_path: Path) -> None:
    calls = {f"{when} {call}" for when in ("before", "after") for call in ("register", "switch", "forget", "cut")}
    deaths = [one for one in places() if one[0] in calls]
    assert {"before switch", "after register", "before forget"} <= {place for place, _ in deaths}
    _die(tmp_path, deaths)


@pytest.mark.parametrize("part", range(4))
def test_a_death_at_any_write_leaves_no_wrong_route(tmp_path: Path, part: int) -> None:
    _die(tmp_path, [one for one in places() if "write" in one[0]][part::4])
