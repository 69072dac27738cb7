"""Stagings and environments behind floating addresses: the address of a name stays, and leads to one node at a time."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from pipeline.clients.openstack import hosted
from pipeline.domain.environments import NodeState
from pipeline.domain.stagings import Activity
from pipeline.domain.traffic import Target
from pipeline.stages.requests import Request
from tests.scenarios.player import usual_world
from tests.scenarios.test_requests import GIVE_BACK, PLAIN
from tests.scenarios.test_stagings import ADA, BLUE, GREEN, HOST, SPEC, TWO, commit, deploy, environment, live, promote
from tests.scenarios.world import World
from tests.tools.posing_neutron import Posing

QUICK = replace(SPEC, watch_s=2, drain_s=5, keep_s=60)


@dataclass
class Scene:
    world: World
    posing: Posing

    def node_at(self, host: str) -> str | None:
        """The environment and the node to which the address of a host leads."""
        leads = {mark.host: inside for text, inside in self.posing.cloud.leads().items() if (mark := hosted(text))}
        for one in self.world.all_environments():
            for node in one.nodes:
                if leads.get(host) is not None and node.address == leads[host] and not one.final:
                    return f"{one.id}/{node.name}"
        return None

    def address_of(self, host: str) -> str:
        return self.posing.router().address_of(host)

    def slot(self, slot: str, node: str = "web-0") -> str:
        return f"{environment(self.world, BLUE if slot == 'blue' else GREEN)}/{node}"

    def both_of_blue(self) -> set[str]:
        return {self.slot("blue"), self.slot("blue", "web-1")}

    def live(self, ref: str) -> None:
        live(self.world, ref, calm=False)
        self.world.advance(3)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    posing = Posing(tmp_path / "router")
    world = usual_world(tmp_path, front=posing.router())
    commit(world, "v1", TWO)
    commit(world, "v2")
    world.stagings.put("front", QUICK)
    return Scene(world, posing)


def test_promotions_and_rollbacks_move_the_one_address_of_a_staging(scene: Scene) -> None:
    scene.live("v1")
    address = scene.address_of(HOST)
    assert (scene.node_at(HOST) in scene.both_of_blue(), bool(address)) == (True, True)
    scene.live("v2")
    assert (scene.node_at(HOST), scene.address_of(HOST)) == (scene.slot("green"), address)
    scene.world.stagings.rollback("front", ADA)
    scene.world.settle()
    assert (scene.node_at(HOST) in scene.both_of_blue(), scene.address_of(HOST)) == (True, address)


def test_a_slot_whose_only_node_is_live_has_no_way_to_its_own_name(scene: Scene) -> None:
    scene.live("v2")
    router, own = scene.posing.router(), f"{environment(scene.world, BLUE)}.test.example"
    assert (router.leads(HOST), router.leads(own), bool(router.address_of(own))) == (True, False, True)


def test_a_switch_leaves_no_moment_in_which_the_name_leads_nowhere(scene: Scene) -> None:
    scene.live("v1")
    deploy(scene.world, "v2")
    before = len(scene.posing.cloud.calls)
    promote(scene.world)
    blue, green = (environment(scene.world, slot) for slot in (BLUE, GREEN))
    told = [
        (what, (mark.host, mark.environment))
        for what, text in scene.posing.cloud.calls[before:]
        if (mark := hosted(text))
    ]
    own = f"{green}.test.example"
    assert told == [("lead", (own, green)), ("lead", (HOST, green))]  # its only node is made free, then taken
    assert scene.posing.router().known()[blue].host == f"{blue}.test.example"


def test_a_slots_own_name_leads_to_it_where_a_node_is_left_for_it(scene: Scene) -> None:
    deploy(scene.world, "v1")
    own = f"{environment(scene.world, BLUE)}.test.example"
    assert scene.node_at(own) == scene.slot("blue")
    promote(scene.world)
    assert (scene.node_at(HOST), scene.node_at(own)) == (scene.slot("blue", "web-1"), scene.slot("blue"))
    scene.world.advance(3)
    scene.live("v2")
    own = f"{environment(scene.world, GREEN)}.test.example"
    assert (scene.node_at(own), scene.posing.router().known()[environment(scene.world, GREEN)].host) == (None, own)
    scene.world.stagings.rollback("front", ADA)
    scene.world.settle()
    assert scene.node_at(own) == scene.slot("green")


def test_a_node_that_goes_loses_the_address_before(scene: Scene) -> None:
    scene.live("v1")
    id = environment(scene.world, BLUE)
    scene.world.scale.scale(id, "web", 3, ADA)
    scene.world.advance(10)
    scene.world.scale.scale(id, "web", 1, ADA)
    scene.world.advance(2)
    standing = scene.world.books.environments.get(id).value.nodes
    (stays,) = [node.name for node in standing if node.state is NodeState.IN_SERVICE]
    assert (len(standing), scene.node_at(HOST)) == (3, scene.slot("blue", stays))
    scene.world.advance(10)
    assert scene.node_at(HOST) == scene.slot("blue", stays)


def test_the_address_leaves_a_node_that_is_not_well_and_does_not_come_back_for_no_reason(scene: Scene) -> None:
    scene.live("v1")
    at = scene.node_at(HOST)
    sick = next(
        Target(str(node.address), 8080)
        for one in scene.world.all_environments()
        for node in one.nodes
        if f"{one.id}/{node.name}" == at
    )
    scene.posing.sick.add(sick)
    scene.posing.router().keep()
    other = scene.node_at(HOST)
    assert other in scene.both_of_blue() - {at}
    scene.posing.sick.clear()
    scene.posing.router().keep()
    assert scene.node_at(HOST) == other


def test_a_version_that_is_not_well_is_not_promoted_and_one_that_falls_ill_goes_back(scene: Scene) -> None:
    scene.live("v1")
    deploy(scene.world, "v2")
    (node,) = scene.world.books.environments.get(environment(scene.world, GREEN)).value.nodes
    target = Target(str(node.address), 8080)
    scene.posing.sick.add(target)
    scene.world.stagings.promote("front", ADA)
    scene.world.advance(20)
    assert "do not answer" in scene.world.stagings.get("front").history[-1].why
    assert scene.node_at(HOST) in scene.both_of_blue()
    scene.posing.sick.clear()
    promote(scene.world)
    assert scene.node_at(HOST) == scene.slot("green")
    scene.posing.sick.add(target)
    scene.world.advance(2)
    assert scene.node_at(HOST) in scene.both_of_blue()


def test_a_cloud_that_is_silent_stops_nothing_else(scene: Scene) -> None:
    scene.live("v1")
    deploy(scene.world, "v2")
    scene.posing.cloud.silent = True
    scene.world.stagings.promote("front", ADA)
    scene.world.advance(3)
    assert scene.world.stagings.get("front").activity is Activity.CHECKING
    scene.posing.cloud.silent = False
    scene.world.advance(3)
    assert scene.node_at(HOST) == scene.slot("green")


def test_a_removed_staging_gives_its_address_back_but_for_one_that_was_kept_for_it(scene: Scene) -> None:
    scene.posing.reserved[HOST] = "203.0.113.77"
    scene.posing.cloud.reserve("203.0.113.77")
    scene.live("v2")
    assert (scene.address_of(HOST), scene.node_at(HOST)) == ("203.0.113.77", scene.slot("blue"))
    scene.world.stagings.remove("front", replace(ADA, overrides={"traffic": "it is over"}))
    scene.world.advance(10)
    assert [
        (one.floating_ip_address, one.description, one.port_id) for one in scene.posing.cloud.addresses.values()
    ] == [("203.0.113.77", "", None)]


def asked(world: World) -> str:
    blueprint = {**PLAIN, "environment": {"image": "debian-12", "roles": {"web": {"open": ["8080/tcp"]}}}}
    made = world.requests.make(Request("shop", "ada", blueprint=json.dumps(blueprint))).environment
    world.advance(5)
    return made.id


def test_every_environment_that_answers_has_an_address_until_it_goes(scene: Scene) -> None:
    id = asked(scene.world)
    host = f"{id}.test.example"
    assert scene.node_at(host) == f"{id}/web-0"
    assert scene.posing.router().serving() == frozenset()
    scene.world.requests.release(id, GIVE_BACK)
    scene.world.advance(5)
    assert scene.posing.cloud.addresses == {}


def test_without_an_address_left_an_environment_has_no_name_and_nothing_else_is_missing(scene: Scene) -> None:
    scene.posing.cloud.quota = 1
    first, second = asked(scene.world), asked(scene.world)
    known = scene.posing.router().known()
    assert (known[first].host, known[second].host) == (f"{first}.test.example", "")
    assert len(known[second].targets) == 1


def test_what_is_told_no_more_after_a_loss_of_what_was_told_is_told_anew(scene: Scene) -> None:
    scene.live("v2")
    id = asked(scene.world)
    address = scene.address_of(HOST)
    (scene.posing.home / "told.json").unlink()
    scene.world.advance(2)
    assert (scene.node_at(HOST), scene.address_of(HOST)) == (scene.slot("blue"), address)
    assert scene.node_at(f"{id}.test.example") == f"{id}/web-0"
