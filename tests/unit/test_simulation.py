"""Simulations: what a scenario may say, and that one says the same each time."""

from __future__ import annotations

import copy
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from defusedxml.ElementTree import fromstring
from ruamel.yaml import YAML

from pipeline.adapters import plugins
from pipeline.domain.admission import Use
from pipeline.domain.blueprint import Priority
from pipeline.domain.errors import PermanentError, UserError
from pipeline.domain.inventory import MachineState
from pipeline.domain.placement import filters
from pipeline.domain.placement.filters import Filter
from pipeline.simulation.__main__ import main
from pipeline.simulation.arrivals import arrivals
from pipeline.simulation.charts import ticks
from pipeline.simulation.fairness import entitlements, fairness, jain
from pipeline.simulation.judge import Judge
from pipeline.simulation.ledger import Ledger
from pipeline.simulation.outages import Outages
from pipeline.simulation.page import page
from pipeline.simulation.reading import SHIPPED, load, scenario_of
from pipeline.simulation.scenario import Job
from pipeline.simulation.simulation import Simulation

ROOT = Path(__file__).parents[2]
MACHINE: dict[str, Any] = {"name": "a-{1..3}", "aggregates": "a", "vcpu": 8, "memory": "32GiB", "disk": "200GiB"}
GUARANTEED = {"class": "guaranteed"}
SMALL: dict[str, Any] = {
    "seed": 3,
    "lasts": "1h",
    "inventory": {
        "limits": {"full": {"vcpu": 0.9}, "drain": {"vcpu": 0.95}},
        "zones": [{"name": "r{1..3}", "machines": [MACHINE]}],
    },
    "projects": {"shop": 2, "search": 1},
    "shapes": {
        "pair": {"lasts": "10m", "roles": {"web": {"count": 2, "spread": "zone"}, "db": {"qos": GUARANTEED}}},
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


@pytest.mark.parametrize("zone", ["r2", ["r2", "r3"]])
def test_what_stood_in_lost_zones_is_placed_again(zone: object) -> None:
    lost = [{"what": "zone-lost", "at": "30m", "zone": zone, "back_after": "10m"}]
    got = result(changed(events=lost))["runs"]
    assert got["lost"] > 0
    assert got["placed"] + got["waiting"] == got["arrived"] + got["lost"]


def test_a_machine_that_fails_builds_comes_back_on_probation_until_it_proves_to_be_well() -> None:
    bad = {"what": "machine-bad", "at": "1m", "machine": "r1-a-1", "back_after": "50m"}
    got = result(changed(lasts="4h", events=[bad]))
    assert got["quarantined"] == {"machines": 1, "times": 3, "proved": 1}
    assert 5 <= got["runs"]["failed_builds"] < 10, "three before the first quarantine, one on each probation"
    assert got["given_up"] == {}


def test_a_machine_on_probation_builds_one_node_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, bool]] = []
    add = Ledger.add

    def spy(ledger: Ledger, job: Job, machines: dict[str, tuple[str, ...]]) -> int:
        over = add(ledger, job, machines)
        seen.append((int(ledger.building[0]), ledger.inventory.machines[0].probation))
        return over

    monkeypatch.setattr(Ledger, "add", spy)
    bad = {"what": "machine-bad", "at": "1m", "machine": "r1-a-1", "back_after": "12m"}
    storm = {"what": "storm", "at": "15m", "runs": 60, "over": "30m", "priority": "push", "shapes": ["pair"]}
    result(changed(events=[bad, storm]))
    assert max(building for building, probation in seen if probation) == 1
    assert max(building for building, probation in seen if not probation) > 1


@pytest.mark.parametrize(
    ("event", "image", "told"),
    [
        (
            {"what": "shape-bad", "shape": "sick"},
            "any",
            {"service shop/sick is at fault", "service search/sick is at fault"},
        ),
        ({"what": "image-bad", "image": "old"}, "old", {"image old is at fault"}),
    ],
)
def test_what_fails_everywhere_is_given_up_and_quarantines_no_machine(
    event: dict[str, str], image: str, told: set[str]
) -> None:
    sick = {"lasts": "10m", "image": image, "roles": {"web": {"count": 2}}}
    tree = changed(
        lasts="2h",
        shapes={**SMALL["shapes"], "sick": sick},
        arrivals=[{"priority": "push", "per_hour": 120, "shapes": {"pair": 3, "sick": 1}}],
        events=[{**event, "at": "30m", "back_after": "2h"}],
    )
    got = result(tree)
    assert got["quarantined"]["times"] == 0
    assert told <= set(got["given_up"]) <= told | {"their builds failed 4 times"}
    assert got["runs"]["given_up"] > 10
    assert got["runs"]["arrived"] + got["runs"]["failed_builds"] == (
        got["runs"]["placed"] + got["runs"]["waiting"] + got["runs"]["given_up"]
    )


def test_a_run_goes_back_to_where_it_failed_when_there_is_no_room_elsewhere() -> None:
    tree = changed(events=[{"what": "machine-bad", "at": "1m", "machine": "r1-a-1", "back_after": "5m"}])
    tree["inventory"]["zones"] = [{"name": "r1", "machines": [{**MACHINE, "name": "a-1"}]}]
    tree["shapes"] = {"pair": {"lasts": "1m", "roles": {"web": None}}}
    got = result(tree)["runs"]
    assert got["failed_builds"] > 0
    assert got["finished"] >= got["arrived"] - got["given_up"] - 8


def test_an_old_run_that_can_stand_nowhere_now_holds_nobody_up() -> None:
    """It asks for the bare metal that is down, and nothing that others give back would help it."""
    tree = changed(
        shapes={
            "metal": {"lasts": "5m", "roles": {"db": {"bare_metal": "required"}}},
            "pair": {"lasts": "5m", "roles": {"web": {"count": 2}}},
        },
        arrivals=[
            {"priority": "interactive", "per_hour": 6, "shapes": ["metal"]},
            {"priority": "push", "per_hour": 60, "shapes": ["pair"]},
        ],
        events=[{"what": "machine-lost", "at": "1m", "machine": "r1-metal-1", "back_after": "2h"}],
    )
    tree["inventory"]["zones"] = [{"name": "r1", "machines": [MACHINE, BARE]}]
    got = result(tree)
    assert got["runs"]["waiting"] > 2
    assert got["waiting_s"]["push"]["count"] > 40


def test_a_storm_makes_runs_wait() -> None:
    storm = {"what": "storm", "at": "10m", "runs": 300, "over": "1m", "priority": "push", "shapes": ["pair"]}
    got = result(changed(events=[storm]))
    assert got["waiting_s"]["push"]["max"] > 60
    assert 0 < got["fairness"]["jain"] <= 1


def test_a_machine_that_flaps_loses_what_stands_on_it_each_time() -> None:
    once = {"what": "machine-lost", "at": "20m", "machine": "r1-a-1", "back_after": "1m"}
    flaps = {"what": "machine-flaps", "at": "20m", "machine": "r1-a-1", "down": "1m", "up": "9m", "times": 4}
    lost = [result(changed(events=[event]))["runs"]["lost"] for event in (once, flaps)]
    assert 0 < lost[0] < lost[1]


def test_machines_die_by_chance_and_come_back() -> None:
    got = result(changed(deaths={"per_hour": 20, "back_after": "5m"}))
    assert got["runs"]["lost"] > 0
    assert got["overbooked_machines"] == 0


def test_a_machine_is_back_when_the_last_cause_is_over() -> None:
    inventory = scenario_of(SMALL, "small").inventory
    outages = Outages(inventory)
    outages.quarantine({"r1-a-1": "3 builds failed"}, 1.0)
    outages.begin({"r1-a-1", "r1-a-2"}, 2.0, "r1 lost")
    outages.begin({"r1-a-2"}, 3.0, "died")
    states = [one.state for one in outages.inventory.machines[:3]]
    assert states == [MachineState.DOWN, MachineState.DOWN, MachineState.IN_SERVICE]
    outages.end({"r1-a-1", "r1-a-2"}, 4.0)
    assert outages.inventory.machine("r1-a-1").state is MachineState.QUARANTINED
    assert outages.inventory.machine("r1-a-2").state is MachineState.DOWN
    outages.end({"r1-a-2"}, 5.0)
    outages.release("r1-a-1", 601.0)
    assert {one.state for one in outages.inventory.machines} == {MachineState.IN_SERVICE}


def test_a_quarantine_that_ends_while_the_machine_is_down_leaves_it_down_and_on_probation_after_that() -> None:
    outages = Outages(scenario_of(SMALL, "small").inventory)
    outages.quarantine({"r1-a-1": "3 builds failed"}, 1.0)
    outages.begin({"r1-a-1"}, 2.0, "r1 lost")
    assert outages.release("r1-a-1", 601.0).machine("r1-a-1").state is MachineState.DOWN
    back = outages.end({"r1-a-1"}, 700.0).machine("r1-a-1")
    assert (back.state, back.builds) == (MachineState.IN_SERVICE, 1)
    assert outages.prove(["r1-a-1"], 800.0).machine("r1-a-1").builds is None


SPARE_TIME = {"lasts": "50m", "roles": {"app": {"size": "large", "count": 2, "qos": {"class": "best-effort"}}}}
PROMISED = {"lasts": "50m", "roles": {"db": {"size": "large", "count": 2, "qos": GUARANTEED}}}


def test_a_guaranteed_run_takes_back_best_effort_ones_which_wait_again() -> None:
    tree = changed(
        shapes={"spare-time": SPARE_TIME, "promised": PROMISED},
        arrivals=[
            {"priority": "nightly", "per_hour": 60, "shapes": ["spare-time"]},
            {"priority": "interactive", "per_hour": 8, "shapes": ["promised"]},
        ],
    )
    del tree["inventory"]["limits"]
    got = result(tree)
    assert got["preemptions"]["nightly"] > 0
    assert got["preemptions"]["interactive"] == got["preemptions"]["push"] == 0
    assert got["runs"]["placed"] + got["runs"]["waiting"] == got["runs"]["arrived"] + got["preemptions"]["nightly"]
    assert got["waiting_s"]["interactive"]["median"] <= 1.0


BARE = {"name": "metal-1", "kind": "bare-metal", "features": ["nvme"], "vcpu": 32, "memory": "64GiB", "disk": "1TiB"}
BUILDS = {**MACHINE, "max_builds": 3}
EVERY_RULE: dict[str, Any] = {
    "inventory": {
        "overcommit": {"vcpu": 2},
        "aggregates": [{"name": "a", "features": ["ssd"]}],
        "rules": [{"name": "no-shop", "match": {"project": "shop", "role": "batch"}, "forbid": {"zone": "r1"}}],
        "spare_zones": ["guaranteed"],
        "zones": [
            {
                "name": "r{1..4}",
                "region": "east",
                "uplink": "10Gbit/s",
                "machines": [{**MACHINE, "max_builds": 3}, BARE],
            },
            {"name": "w1", "region": "west", "machines": [MACHINE]},
        ],
    },
    "shapes": {
        "pair": {
            "lasts": "10m",
            "within": "region",
            "roles": {
                "web": {"count": 3, "max_per_zone": 1, "require": {"feature": "ssd"}, "apart_from": ["batch"]},
                "db": {"bare_metal": "wanted", "near": "web", "qos": "steady"},
            },
        },
        "batch": {
            "lasts": "5m",
            "strategy": "spread",
            "roles": {"batch": {"count": 2, "workload": "high-io", "spread": "machine", "prefer": {"region": "west"}}},
        },
    },
    "arrivals": [{"priority": "push", "per_hour": 90, "shapes": ["pair", "batch"]}],
    "events": [{"what": "machine-lost", "at": "20m", "machine": ["r1-a-1", "r2-a-2"], "back_after": "10m"}],
}


def test_every_rule_of_a_blueprint_and_an_inventory_is_kept() -> None:
    got = result(changed(**EVERY_RULE))
    assert got["runs"]["placed"] > 60
    assert got["broken_rules"] == {}
    assert got["overbooked_machines"] == got["guaranteed_wrongly_refused"] == 0


def test_an_operators_rule_makes_a_shape_another_for_its_project() -> None:
    shapes = scenario_of(changed(**EVERY_RULE), "small").shapes
    assert shapes["pair"]["shop"] is shapes["pair"]["search"]
    assert shapes["batch"]["shop"] is not shapes["batch"]["search"]
    assert "forbid zone r1 (operator rule no-shop)" in map(str, shapes["batch"]["shop"].roles[0].rules.affinities)


ROW_OF = {"web": ("r1-a-1", "r2-a-1", "r3-a-1"), "db": ("r1-metal-1",)}


@pytest.mark.parametrize(
    ("machines", "broken"),
    [
        (ROW_OF, []),
        ({**ROW_OF, "web": ("r1-a-1", "r1-a-2", "r3-a-1")}, ["spread"]),
        ({**ROW_OF, "web": ("r1-a-1", "r2-metal-1", "r3-a-1")}, ["rules"]),
        ({**ROW_OF, "web": ("r1-a-1", "r2-a-1", "w1-a-1")}, ["within"]),
        ({**ROW_OF, "db": ("r4-metal-1",)}, ["near"]),
        ({"web": ("r1-a-1", "r2-a-1", "r3-a-1"), "db": ("r1-a-3",)}, []),
    ],
)
def test_the_second_account_sees_what_a_placement_breaks(
    machines: dict[str, tuple[str, ...]], broken: list[str]
) -> None:
    scenario = scenario_of(changed(**EVERY_RULE), "small")
    ledger = Ledger(scenario.inventory)
    job = Job(1, "shop", Priority.PUSH, scenario.shapes["pair"]["shop"], 0.0, 60.0)
    assert ledger.add(job, machines) == 0
    assert Judge(ledger).broken(job) == broken


def test_the_second_account_sees_neighbours_that_shun_each_other_and_shared_bare_metal() -> None:
    scenario = scenario_of(changed(**EVERY_RULE), "small")
    ledger, shapes = Ledger(scenario.inventory), scenario.shapes
    ledger.add(Job(1, "shop", Priority.PUSH, shapes["pair"]["shop"], 0.0, 60.0), ROW_OF)
    batch = Job(2, "search", Priority.PUSH, shapes["batch"]["search"], 0.0, 60.0)
    ledger.add(batch, {"batch": ("r1-a-1", "r1-metal-1")})
    assert Judge(ledger).broken(batch) == ["whole", "apart"]


def test_the_second_account_sees_overbooked_and_lost_machines() -> None:
    scenario = scenario_of(SMALL, "small")
    ledger, shape = Ledger(scenario.inventory), scenario.shapes["pair"]["shop"]
    stands = {"web": ("r1-a-1", "r1-a-1"), "db": ("r1-a-1",)}
    over = [ledger.add(Job(n, "shop", Priority.PUSH, shape, 0.0, 60.0), stands) for n in range(3)]
    assert over == [0, 0, 1]
    ledger.change(Outages(scenario.inventory).begin({"r2-a-1"}, 0.0, "lost"))
    lost = {"web": ("r2-a-1", "r3-a-1"), "db": ("r3-a-1",)}
    assert ledger.add(Job(9, "shop", Priority.PUSH, shape, 0.0, 60.0), lost) == 1


def test_a_first_fit_says_whether_a_promise_could_have_been_kept() -> None:
    scenario = scenario_of(changed(shapes={"promised": PROMISED, "spare-time": SPARE_TIME}, arrivals=[]), "small")
    ledger = Ledger(scenario.inventory)
    ledger.know(ledger.measure(0.0))
    judge, shape = Judge(ledger), scenario.shapes["promised"]["shop"]
    assert judge.could_keep(shape)
    full = [Job(n, "shop", Priority.NIGHTLY, scenario.shapes["spare-time"]["shop"], 0.0, 60.0) for n in range(9)]
    for number, job in enumerate(full):
        ledger.add(job, {"app": (f"r{number % 3 + 1}-a-{number // 3 + 1}",) * 2})
    ledger.know(ledger.measure(0.0))
    assert not judge.could_keep(shape)
    assert not judge.could_keep(shape, full[:1])  # one machine alone would be above its limit of load
    assert judge.could_keep(shape, full[:2])


WRONG = [
    ({"speed": 3}, "small: speed: unknown key; did you mean seed?"),
    ({"arrival": []}, "small: arrival: unknown key; did you mean arrivals?"),
    ({"lasts": "soon"}, "small: lasts: expected a duration"),
    ({"seed": "x"}, "small: seed: expected a whole number, got 'x'"),
    ({"projects": {"shop": 0}}, "small: projects: expected weights above 0"),
    ({"arrivals": [{"priority": "push", "per_hour": 1, "shapes": ["pear"]}]}, "no shape pear; did you mean pair?"),
    ({"arrivals": [{"priority": "pusch", "per_hour": 1, "shapes": ["pair"]}]}, "did you mean push?"),
    ({"arrivals": [{"priority": "push", "per_hour": [1, 2], "shapes": ["pair"]}]}, "one number or 24"),
    ({"arrivals": [{"per_hour": 1, "shapes": ["pair"]}]}, "small: arrivals[0]: expected the key `priority`"),
    ({"arrivals": {"priority": "push"}}, "small: arrivals: expected a list, got a mapping"),
    (
        {"events": [{"what": "zone-lost", "at": "1m", "zone": "r9", "back_after": "1m"}]},
        "small: events[0].zone: no zone r9; known are r1, r2, r3",
    ),
    ({"events": [{"what": "zone-list", "at": "1m"}]}, "did you mean zone-lost?"),
    ({"shapes": {"pair": {"lasts": "1m", "roles": {"web": {"size": "smal"}}}}}, "did you mean small?"),
    ({"shapes": {"pair": {"lasts": "1m", "roles": {"web": {"near": "deb"}, "db": None}}}}, "did you mean db?"),
    (
        {"shapes": {"pair": {"lasts": "1m", "roles": {"web": {"forbid": {"aggregate": "b"}}}}}},
        "small: shapes.pair.roles.web.forbid: no aggregate b in the inventory; known are a",
    ),
    ({"shapes": {"pair": {"lasts": "1m", "roles": {"web": {"qos": "steddy"}}}}}, "did you mean steady?"),
    ({"shapes": {"pair": {"lasts": "1m", "roles": {"web": {"qos": {"network_in": "1MB/s"}}}}}}, "got bytes in '1MB/s'"),
    ({"inventory": {"zones": []}}, "small: inventory.zones: expected at least one machine"),
    (
        {"inventory": {"zones": [{"name": "r", "machines": [{**MACHINE, "vcpu": -1}]}]}},
        "expected a number of 0 or more",
    ),
    ({"inventory": {"zones": [{"name": "r", "machines": [{**MACHINE, "disk": 4}]}]}}, "expected a size such as 256GiB"),
    ({"inventory": {"zones": 2 * [{"name": "r", "machines": [MACHINE]}]}}, "zone r stands there 2 times"),
    (
        {"inventory": {"limits": {"full": {"memory_mib": 0.9}}, "zones": [{"name": "r", "machines": [MACHINE]}]}},
        "small: inventory.limits.full: expected a share of vcpu",
    ),
]


@pytest.mark.parametrize(("keys", "says"), WRONG)
def test_a_wrong_scenario_is_told_with_its_place_and_the_nearest_name(keys: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=re.escape(says)):
        scenario_of(changed(**keys), "small")


def test_a_wrong_file_is_told_with_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.yml"
    file.write_text((SHIPPED / "bad-machine.yml").read_text().replace("machine: rack-1-", "machine: reck-1-"))
    assert main([str(file)]) == 2
    assert f"{file}:23:34: events[0].machine: no machine reck-1-general-1; did you" in capsys.readouterr().err
    file.write_text("lasts: [")
    assert main([str(file)]) == 2
    assert f"{file} is no YAML: " in capsys.readouterr().err


@pytest.mark.parametrize("name", sorted(path.stem for path in SHIPPED.glob("*.yml")))
def test_the_shipped_scenarios_can_be_read(name: str) -> None:
    assert load(name).name == name


def test_the_day_has_fifty_thousand_runs() -> None:
    assert 49_000 < len(arrivals(load("day"))) < 53_000


def page_of(tree: dict[str, Any]) -> str:
    scenario = scenario_of(tree, "small")
    tally = Simulation(scenario).run()
    return page(scenario, tally, tally.summary(), tally.speed())


def test_the_page_loads_nothing_and_says_everything_in_words() -> None:
    lost = {"what": "zone-lost", "at": "30m", "zone": "r2", "back_after": "10m"}
    shown = page_of(changed(events=[lost]))
    assert not any(word in shown for word in ("http:", "https:", "src=", "@import", "url(", "<script"))
    assert shown.count("<svg") == shown.count('role="img"') == shown.count("<desc>") > 4
    assert "0:30 3 machines: r2 lost, back after 10m" in shown
    assert "prefers-color-scheme:dark" in shown
    for name in ("utilisation", "waited", "hot spots", "fairness", "preemptions", "promises"):
        assert f"<th scope='row'>{name}</th>" in shown


def test_the_page_is_well_formed() -> None:
    shown = page_of(changed(projects=["a&b", "<c>"]))
    body = shown[shown.index("<header>") : shown.index("</body>")]
    fromstring(f"<body>{body}</body>")


@pytest.mark.parametrize(
    ("top", "last"), [(0, 1), (0.07, 0.08), (1, 1), (7, 8), (100, 100), (2433, 3000), (1e6, 1e6), (26, 30)]
)
def test_an_axis_ends_with_a_round_number_that_is_enough(top: float, last: float) -> None:
    assert ticks(top)[-1] == pytest.approx(last)
    assert 2 <= len(ticks(top)) <= 6


def test_a_scenario_that_is_not_there_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nowhere.yml"]) == 2
    assert "give a file, or one of bad-machine, day" in capsys.readouterr().err


def test_a_page_that_cannot_be_written_is_told_before_the_work(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bad-machine", "--page", "/nowhere/page.html"]) == 2
    assert "greenroom: /nowhere/page.html cannot be written: No such file" in capsys.readouterr().err


def test_filters_of_installed_packages_hold_here_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "small.yml"
    YAML().dump(changed(lasts="5m"), file)
    kept = list(filters.FILTERS)
    first = Filter("acme", lambda question: question.rows == 0, lambda _: ("acme does not license it", "buy a licence"))
    monkeypatch.setattr(plugins, "load", lambda: filters.register(first))
    try:
        main([str(file)])
    finally:
        filters.FILTERS[:] = kept
    assert re.search(r"refused +[\d,]+ runs at first: .*acme", capsys.readouterr().out)


def test_an_installed_package_that_cannot_be_used_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken() -> None:
        raise PermanentError("package acme 1.2 cannot be used; repair or remove it")

    monkeypatch.setattr(plugins, "load", broken)
    assert main(["bad-machine"]) == 2
    assert "greenroom: package acme 1.2 cannot be used" in capsys.readouterr().err


def test_a_broken_promise_ends_with_1(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("pipeline.simulation.ledger.Ledger.add", lambda *_: 1)
    monkeypatch.setattr("pipeline.simulation.judge.Judge.broken", lambda *_: ["apart"])
    monkeypatch.setattr("pipeline.simulation.simulation.Simulation._built", lambda *_: None)
    assert main(["bad-machine"]) == 1
    assert re.search(r"broken +apart: \d+ times", capsys.readouterr().out)


@pytest.mark.parametrize("options", [[], ["--seed", "5"]])
def test_two_processes_say_the_same(tmp_path: Path, options: list[str]) -> None:
    """Whatever order Python gives to its sets."""
    file = tmp_path / "small.yml"
    YAML().dump(changed(**EVERY_RULE, projects={"shop": 3, "search": 2, "billing": 1}, deaths={"per_hour": 9}), file)
    said = []
    for hashes in ("1", "2"):
        env = {**os.environ, "PYTHONHASHSEED": hashes}
        argv = [sys.executable, "-m", "pipeline.simulation", str(file), "--json", *options]
        answer = json.loads(subprocess.run(argv, env=env, capture_output=True, check=True, cwd=ROOT).stdout)
        del answer["speed"]
        said.append(answer)
    assert said[0] == said[1]
    assert said[0]["seed"] == (5 if options else 3)


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


def test_the_guide_names_what_the_reader_knows() -> None:
    guide = (ROOT / "docs/guides/simulation.md").read_text()
    tree = {**SMALL, "arrivals": []}
    for block in re.findall(r"```yaml\n(.*?)```", guide, re.DOTALL):
        tree |= YAML(typ="safe", pure=True).load(block)
    scenario = scenario_of(tree, "guide")
    assert "rack-12-metal-2" in {machine.name for machine in scenario.inventory.machines}
    assert scenario.shapes["shop"]["search"].guaranteed
