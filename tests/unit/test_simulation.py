"""Simulations: what a scenario may say, and that one says the same each time."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from pipeline.domain.admission import Use
from pipeline.domain.errors import UserError
from pipeline.simulation import drawing, telling
from pipeline.simulation.__main__ import main
from pipeline.simulation.arrivals import arrivals
from pipeline.simulation.fairness import entitlements, fairness, jain
from pipeline.simulation.reading import SHIPPED, load, scenario_of
from pipeline.simulation.simulation import Simulation

CAPACITY = {"vcpu": 8, "memory_mib": 32768, "disk_gib": 200}
SMALL: dict[str, Any] = {
    "seed": 3,
    "lasts": "1h",
    "inventory": {
        "limits": {"full": 0.9, "drain": 0.95},
        "zones": [{"name": "r{n}", "count": 3, "machines": [{"aggregate": "a", "count": 3, "capacity": CAPACITY}]}],
    },
    "projects": {"shop": 2, "search": 1},
    "shapes": {
        "pair": {"lasts": "10m", "roles": {"web": {"count": 2, "spread": "zone"}, "db": {"qos": "guaranteed"}}},
    },
    "arrivals": [{"priority": "push", "per_hour": 120, "shapes": ["pair"]}],
    "events": [],
}


def changed(**keys: Any) -> dict[str, Any]:
    return {**copy.deepcopy(SMALL), **keys}


def result(tree: dict[str, Any]) -> dict[str, Any]:
    return Simulation(scenario_of(tree, "small")).run().summary()


def test_the_same_seed_gives_the_same_result_and_another_one_another() -> None:
    assert result(SMALL) == result(SMALL)
    assert result(SMALL) != result(changed(seed=4))


def test_everything_that_arrived_is_somewhere_and_no_promise_was_broken() -> None:
    got = result(SMALL)
    assert got["runs"]["arrived"] == got["runs"]["placed"] + got["runs"]["waiting"]
    assert got["overbooked_machines"] == got["guaranteed_wrongly_refused"] == 0


def test_what_stood_in_a_lost_zone_is_placed_again() -> None:
    lost = [{"what": "zone-lost", "at": "30m", "zone": "r2", "back_after": "10m"}]
    got = result(changed(events=lost))["runs"]
    assert got["lost"] > 0
    assert got["placed"] + got["waiting"] == got["arrived"] + got["lost"]


def test_a_machine_that_fails_builds_is_quarantined_once() -> None:
    got = result(changed(events=[{"what": "machine-bad", "at": "1m", "machine": "r1-a-1", "back_after": "50m"}]))
    assert got["quarantined"] == 1
    assert got["runs"]["failed_builds"] >= 3


def test_a_storm_makes_runs_wait() -> None:
    storm = {"what": "storm", "at": "10m", "runs": 300, "over": "1m", "priority": "push", "shapes": ["pair"]}
    got = result(changed(events=[storm]))
    assert got["waiting_s"]["push"]["max"] > 60
    assert 0 < got["fairness"]["jain"] <= 1


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"speed": 3}, "small: speed is no key"),
        ({"lasts": "soon"}, r"small\.lasts: expected a duration"),
        ({"projects": {"shop": 0}}, r"small\.projects: expected weights above 0"),
        ({"arrivals": [{"priority": "push", "per_hour": 1, "shapes": ["pear"]}]}, "there is no shape pear"),
        ({"arrivals": [{"priority": "push", "per_hour": [1, 2], "shapes": ["pair"]}]}, "one number or 24"),
        ({"events": [{"what": "zone-lost", "at": "1m", "zone": "r9", "back_after": "1m"}]}, "there is no zone r9"),
        ({"events": [{"what": "flood", "at": "1m"}]}, "expected storm, zone-lost or machine-bad"),
    ],
)
def test_a_wrong_scenario_is_told_with_its_place(keys: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        scenario_of(changed(**keys), "small")


@pytest.mark.parametrize("name", sorted(path.stem for path in SHIPPED.glob("*.yml")))
def test_the_shipped_scenarios_can_be_read(name: str) -> None:
    assert load(name).name == name


def test_the_day_has_fifty_thousand_runs() -> None:
    assert 49_000 < len(arrivals(load("day"))) < 53_000


def test_the_page_loads_nothing() -> None:
    scenario = scenario_of(SMALL, "small")
    tally = Simulation(scenario).run()
    text = telling.told("small", tally.summary(), tally.speed())
    page = drawing.page("small", [zone.name for zone in scenario.inventory.zones], tally, text)
    assert page.count("<svg") == 4
    assert not any(word in page for word in ("http:", "https:", "src=", "@import", "url("))


def test_a_scenario_that_is_not_there_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nowhere.yml"]) == 1
    assert "give a file, or one of bad-machine, day" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("weights", "demands", "parts"),
    [
        ({"a": 1, "b": 1}, {"a": 9, "b": 9}, {"a": 5, "b": 5}),
        ({"a": 3, "b": 1}, {"a": 9, "b": 9}, {"a": 7.5, "b": 2.5}),
        ({"a": 1, "b": 1, "c": 2}, {"a": 9, "b": 1, "c": 9}, {"b": 1, "a": 3, "c": 6}),
        ({"a": 1, "b": 1}, {"a": 0, "b": 3}, {"a": 0, "b": 3}),
    ],
)
def test_what_one_does_not_want_is_for_the_others(
    weights: dict[str, float], demands: dict[str, float], parts: dict[str, float]
) -> None:
    assert entitlements(weights, demands, 10) == parts


def test_who_has_all_that_it_wants_is_treated_fairly_and_who_is_crowded_out_is_not() -> None:
    weights, much, little, none = {"a": 1, "b": 1}, Use(9, 9, 9, 9, 9), Use(1, 1, 1, 1, 1), Use()
    assert fairness(weights, {"a": much, "b": little}, {"a": much, "b": none}) is None
    assert fairness(weights, {"a": much, "b": little}, {"a": much, "b": Use(0, 0, 0, 0, 1)}) == pytest.approx(1)
    crowded = fairness(weights, {"a": much, "b": little}, {"a": much, "b": much})
    assert crowded is not None
    assert crowded < 0.7


@pytest.mark.parametrize(("shares", "index"), [([1, 1, 1], 1.0), ([1, 0, 0], 1 / 3), ([0, 0], 1.0)])
def test_jains_index(shares: list[float], index: float) -> None:
    assert jain(shares) == pytest.approx(index)
