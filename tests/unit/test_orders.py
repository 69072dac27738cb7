"""What a driver is told of how far the nodes of a role stand apart."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline.domain.environments import Environment, NodeState
from pipeline.domain.rules import EnvironmentRules, PlacementRules, Spread
from pipeline.envs.orders import per_machine
from tests.unit.test_drift import NODE, environment


def placed(*machines: str, spread: Spread = Spread.MACHINE) -> Environment:
    nodes = (replace(NODE, name=f"web-{number}", machine=machine) for number, machine in enumerate(machines))
    return replace(environment(*nodes), rules=EnvironmentRules({"web": PlacementRules(spread=spread)}))


@pytest.mark.parametrize(
    ("machines", "share"), [(("a", "b", "c"), 1), (("a", "b", "a"), 2), (("", ""), 0), (("a", ""), 0)]
)
def test_it_is_what_placement_chose(machines: tuple[str, ...], share: int) -> None:
    assert per_machine(placed(*machines), "web") == share


@pytest.mark.parametrize("spread", [Spread.NONE, Spread.ZONE])
def test_other_spreads_say_nothing_of_machines(spread: Spread) -> None:
    assert per_machine(placed("a", "a", spread=spread), "web") is None
    assert per_machine(placed("a", spread=Spread.MACHINE), "db") is None


def test_a_node_that_goes_takes_no_share() -> None:
    two = placed("a", "a")
    gone = two.with_nodes((two.nodes[0], replace(two.nodes[1], state=NodeState.GONE)))
    assert per_machine(gone, "web") == 1
