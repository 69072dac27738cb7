"""What a provider cannot give, or does not allow, is refused before anything is built."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from pipeline.adapters.clock import ManualClock
from pipeline.adapters.drivers.memory import MemoryCloud, MemoryDriver
from pipeline.adapters.transports.memory import MemoryTransport
from pipeline.domain.allowances import not_allowed, parse_allowance
from pipeline.domain.environments import Node
from pipeline.domain.errors import UserError
from pipeline.domain.placement.model import Infeasible
from pipeline.domain.resources import SIZES
from pipeline.domain.runs import RunState, Verdict
from pipeline.domain.wiring import Attachment, Custom, Opening, Wiring
from pipeline.envs.placements import Placements
from pipeline.envs.providers import Provider
from pipeline.envs.wishes import KEYS, unmet
from pipeline.ports.drivers import Can, Capabilities
from pipeline.stages.requests import Request
from tests.scenarios.player import USUAL
from tests.scenarios.world import World

WISHES = {
    Can.NETWORKS: (Wiring(attachments=(Attachment("backend"),)), Custom(), "plain"),
    Can.VIRTUAL_ADDRESS: (Wiring(virtual_address="10.20.0.100"), Custom(), "plain"),
    Can.FLOATING: (Wiring(floating=True), Custom(), "plain"),
    Can.CUSTOM: (Wiring(), Custom(flavor="m1.large"), "plain"),
    Can.SNAPSHOTS: (Wiring(), Custom(), "snapshot/seeded"),
}
FLOATING = {"image": "debian-12", "roles": {"web": {"floating": True, "script": "setup.sh"}}}
TEXT = "{version: 1, service: shop, environment: {image: debian-12, roles: {web: {floating: true}}}, test: []}"
REFUSED = "role web: provider cloud cannot give what `floating` asks for; leave it out, or name another provider"


class Unasked(MemoryDriver):
    """A driver that nobody has to ask for its capabilities."""

    @property
    def capabilities(self) -> Capabilities:
        raise AssertionError("nothing is wished")


def lab(driver: MemoryDriver) -> Provider:
    return Provider("lab", driver, MemoryTransport(ManualClock()))


def provider(can: Iterable[Can] = Can, custom: Iterable[str] = ("flavor",)) -> Provider:
    return lab(MemoryDriver(MemoryCloud(can=frozenset(can), custom=frozenset(custom)), "ours"))


def node(wiring: Wiring, custom: Custom, image: str = "plain") -> Node:
    return Node("web-0", "web", image, SIZES["tiny"], wiring=wiring, custom=custom)


@pytest.mark.parametrize("wish", list(Can))
def test_a_wish_needs_a_driver_that_can(wish: Can) -> None:
    wanted = [node(*WISHES[wish])]
    assert unmet(provider([wish]), wanted) == ""
    refused = unmet(provider(set(Can) - {wish}), wanted)
    assert refused.startswith(f"role web: provider lab cannot give what `{KEYS[wish]}` asks for; leave it out")


def test_what_is_open_needs_nothing() -> None:
    assert unmet(provider([]), [node(Wiring(openings=(Opening("tcp", 443, 443),)), Custom())]) == ""


def test_a_driver_is_not_asked_where_nothing_is_wished() -> None:
    assert unmet(lab(Unasked(MemoryCloud(), "ours")), [node(Wiring(), Custom())]) == ""


def test_what_the_operator_does_not_allow_is_refused_with_the_setting() -> None:
    refused = unmet(provider(custom=["metadata"]), [node(Wiring(), Custom(flavor="m1.large"))])
    assert refused == (
        "role web: provider lab: `server.flavor` m1.large is not allowed there; leave it out, "
        "or let an operator add 'flavor=m1.large' to its setting `custom`"
    )


@pytest.mark.parametrize(
    ("allowed", "custom", "refused"),
    [
        ((), Custom(), ""),
        (("flavor",), Custom(flavor="any"), ""),
        (("flavor=m1.*",), Custom(flavor="m1.tiny"), ""),
        (("flavor=m1.*", "flavor=gpu"), Custom(flavor="gpu"), ""),
        (("flavor=m1.*",), Custom(flavor="gpu"), "`server.flavor` gpu"),
        (("flavor=M1.*",), Custom(flavor="m1.tiny"), "`server.flavor` m1.tiny"),
        (("extra_specs=hw:*",), Custom(extra_specs={"hw:cpu_policy": "dedicated"}), ""),
        (("extra_specs=hw:*",), Custom(extra_specs={"hw:x": "1", "pci:alias": "1"}), "`server.extra_specs` pci:alias"),
        (("flavor",), Custom(metadata={"team": "shop"}), "`server.metadata` is"),
        (("metadata",), Custom(metadata={"team": "shop"}, user_data="#!/bin/sh"), "`server.user_data` is"),
        (("metadata", "user_data"), Custom(metadata={"team": "shop"}, user_data="#!/bin/sh"), ""),
    ],
)
def test_allowances(allowed: tuple[str, ...], custom: Custom, refused: str) -> None:
    said = not_allowed(custom, allowed)
    assert said.startswith(refused)
    assert bool(said) == bool(refused)


@pytest.mark.parametrize("text", ["flavors", "metadata=team", "flavor=", "user_data=*", "flavor=a=b", ""])
def test_an_allowance_that_is_none_is_told(text: str) -> None:
    with pytest.raises(ValueError, match="expected metadata, user_data, flavor or extra_specs"):
        parse_allowance(text)


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(str(tmp_path))
    world.project("shop")
    world.cloud.can = frozenset(Can) - {Can.FLOATING}
    return world


def test_a_run_that_wishes_too_much_fails_before_anything_is_asked_for(world: World) -> None:
    world.push("shop", {**USUAL, "environment": FLOATING})
    world.settle()
    (run,) = world.all_runs()
    assert (run.state, run.verdict, run.reason) == (RunState.FINISHED, Verdict.FAILED, REFUSED)
    assert not world.all_environments()


def test_an_environment_on_request_that_wishes_too_much_is_refused_at_once(world: World) -> None:
    with pytest.raises(UserError, match="cannot give what `floating` asks for"):
        world.requests.make(Request("shop", "me", blueprint=TEXT))
    assert not world.all_environments()


def test_a_dry_run_tells_it_too(world: World) -> None:
    blueprint = world.templates.read("blueprint", TEXT)
    placements = Placements(world.books, lambda _: world.provider, world.inventories, world.clock, "cloud", ["cloud"])
    decision = placements.try_out(blueprint).decision
    assert isinstance(decision, Infeasible)
    assert str(decision.explanation) == REFUSED
