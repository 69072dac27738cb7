"""Filters and scores of third parties: they decide, explain themselves, and come with installed packages."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline import bootstrap
from pipeline.adapters import plugins
from pipeline.domain.errors import AlreadyExists, PermanentError
from pipeline.domain.inventory import Inventory, Machine, Zone
from pipeline.domain.placement import filters, scores
from pipeline.domain.placement.engine import decide
from pipeline.domain.placement.filters import Filter, Question
from pipeline.domain.placement.fleet import Flags, Fleet
from pipeline.domain.placement.model import Decision, Infeasible, Placed, Request, RoleRequest, Unschedulable
from pipeline.domain.placement.scores import Score
from pipeline.domain.qos import QosClass
from pipeline.settings import Settings
from tests.tools.placement_instances import demand

FIRST = """\
from pipeline.domain.placement.filters import Filter
first = Filter('acme', lambda q: q.rows == 0, lambda q: ('', ''))
"""


@pytest.fixture(autouse=True)
def registries() -> Iterator[None]:
    """What a test registers is gone after it."""
    kept = list(filters.FILTERS), list(scores.SCORES)
    yield
    filters.FILTERS[:], scores.SCORES[:] = kept


def fleet(machines: int = 4) -> Fleet:
    capacity = {"vcpu": 4.0, "memory_mib": 4096.0, "disk_gib": 100.0}
    made = tuple(Machine(f"m{at}", "z0", capacity) for at in range(machines))
    return Fleet(Inventory(made, (Zone("z0"),)))


def request(name: str = "env-1", service: str = "shop", count: int = 1, qos: QosClass = QosClass.BURSTABLE) -> Request:
    return Request(name, "p", service, (RoleRequest("web", count, demand(1.0, 1024.0), qos_class=qos),))


def why(_question: Question) -> tuple[str, str]:
    return "acme does not license it", "buy a licence"


def only(row: int) -> Filter:
    """Lets nobody but guaranteed nodes and the service `payroll` on machines other than one."""

    def allows(q: Question) -> Flags:
        free = q.role.qos_class is QosClass.GUARANTEED or q.service == "payroll"
        return np.ones(len(q.rows), dtype=bool) if free else q.rows == row

    return Filter("acme", allows, why)


def machines_of(answer: Decision) -> tuple[str, ...]:
    assert isinstance(answer, Placed), answer
    return answer.machines["web"]


def test_a_filter_may_look_at_all_of_a_request_though_shapes_are_shared() -> None:
    filters.register(only(2))
    there = fleet()
    assert machines_of(decide(there, request(), 0.0)) == ("m2",)
    assert machines_of(decide(there, request(service="payroll"), 0.0)) == ("m0",)
    assert machines_of(decide(there, request(qos=QosClass.GUARANTEED), 0.0)) == ("m0",)
    assert machines_of(decide(there, request(), 0.0)) == ("m2",)


def test_a_filter_explains_what_it_refuses() -> None:
    filters.register(only(2))
    answer = decide(fleet(), request(count=5), 0.0)
    assert isinstance(answer, Unschedulable)
    assert {(group.rule, group.why, len(group.machines)) for group in answer.explanation.groups} >= {
        ("acme", "acme does not license it", 3)
    }
    assert "buy a licence" in {group.remedy for group in answer.explanation.groups}


def test_a_filter_sees_what_the_decision_itself_has_placed() -> None:
    filters.register(Filter("one-each", lambda q: np.zeros(len(q.rows), dtype=int) + q.nodes == 0, why))
    assert len(set(machines_of(decide(fleet(), request(count=4), 0.0)))) == 4
    assert not isinstance(decide(fleet(), request(count=5), 0.0), Placed)


def test_a_kept_filter_is_asked_again_for_machines_that_changed() -> None:
    single = Filter("single", lambda q: q.fleet.nodes[q.rows] + q.nodes == 0, why, kept=True)
    filters.register(single)
    there = fleet(2)
    for one in (request("env-1"), request("env-2")):
        answer = decide(there, one, 0.0)
        assert isinstance(answer, Placed)
        there.reserve(one, answer, 0.0)
    assert isinstance(decide(there, request("env-3"), 0.0), Unschedulable)
    there.remove("env-1")
    assert isinstance(decide(there, request("env-3"), 0.0), Placed)


@pytest.mark.parametrize("fixed", [True, False])
def test_a_filter_that_refuses_the_empty_inventory_says_why_it_never_fits(*, fixed: bool) -> None:
    filters.register(Filter("acme", lambda q: np.zeros(len(q.rows), dtype=bool), why, fixed=fixed, kept=not fixed))
    answer = decide(fleet(), request(), 0.0)
    assert isinstance(answer, Infeasible)
    assert "acme does not license it" in str(answer.explanation)
    assert "buy a licence" in str(answer.explanation)


@pytest.mark.parametrize("lasting", [{}, {"kept": True}, {"fixed": True}])
def test_a_score_steers_by_its_weight(lasting: dict[str, bool]) -> None:
    scores.register(Score("last", 10.0, lambda q, _strategy: (q.rows == 3).astype(float), **lasting))
    assert machines_of(decide(fleet(), request(), 0.0)) == ("m3",)


def test_names_are_unique() -> None:
    extra = only(2)
    filters.register(extra)
    filters.register(extra)
    assert [one.name for one in filters.FILTERS].count("acme") == 1
    with pytest.raises(AlreadyExists, match="another filter capacity"):
        filters.register(replace(extra, name="capacity"))
    with pytest.raises(AlreadyExists, match="another score fullness"):
        scores.register(Score("fullness", 1.0, lambda _question, _strategy: 0.0))


def test_the_example_of_the_guide_works() -> None:
    guide = (Path(__file__).parents[2] / "docs/guides/inventory.md").read_text()
    made: dict[str, Any] = {}
    exec(guide.split("```python")[1].split("```")[0], made)  # noqa: S102  # the guide is ours
    filters.register(made["twenty"])
    scores.register(made["quiet"])
    small = replace(request(), roles=(RoleRequest("web", 21, demand(0.0, 1.0)),))
    answer = decide(fleet(1), small, 0.0)
    assert "20 nodes stand there already" in str(answer)
    assert isinstance(decide(fleet(2), small, 0.0), Placed)


# -- what installed packages bring


def install(home: Path, name: str, module: str, entry_points: str) -> None:
    """A package as an installer leaves it behind."""
    about = home / f"{name}-1.2.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
    (about / "entry_points.txt").write_text(entry_points)
    (home / f"{name}.py").write_text(module)


def test_an_installed_package_brings_filters_and_scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = FIRST + (
        "from pipeline.domain.placement.scores import Score\n"
        "last = Score('last', 10.0, lambda q, strategy: (q.rows == 3).astype(float))\n"
    )
    install(
        tmp_path,
        "acme_both",
        module,
        "[greenroom.filters]\na = acme_both:first\n[greenroom.scores]\nb = acme_both:last\n",
    )
    monkeypatch.syspath_prepend(tmp_path)
    bootstrap.load_placement()
    bootstrap.load_placement()
    assert [one.name for one in filters.FILTERS].count("acme") == 1
    assert [one.name for one in scores.SCORES].count("last") == 1
    assert machines_of(decide(fleet(), request(), 0.0)) == ("m0",)


@pytest.mark.parametrize(
    ("name", "module", "target", "told"),
    [
        ("acme_raises", "1 / 0\n", "first", "ZeroDivisionError: division by zero"),
        ("acme_lacks", FIRST, "second", "AttributeError"),
        ("acme_number", "first = 1\n", "first", "it is no Filter but int"),
        ("acme_twice", FIRST.replace("'acme'", "'capacity'"), "first", "there is another filter capacity"),
    ],
)
def test_a_package_that_cannot_be_used_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, module: str, target: str, told: str
) -> None:
    install(tmp_path, name, module, f"[greenroom.filters]\nmine = {name}:{target}\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(PermanentError) as refused:
        plugins.load()
    assert f"package {name} 1.2: its entry point mine = {name}:{target} in greenroom.filters" in str(refused.value)
    assert told in str(refused.value)
    assert "repair or remove it" in str(refused.value)


@pytest.mark.parametrize("part", ["placements", "tick"])
def test_an_application_takes_them_over_before_it_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    install(tmp_path, "acme_broken", "1 / 0\n", "[greenroom.filters]\nmine = acme_broken:first\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(PermanentError, match="package acme_broken"):
        getattr(bootstrap.Application(Settings(home=tmp_path)), part)
