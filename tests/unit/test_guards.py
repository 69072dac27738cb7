"""Every guard refuses what it should, and only that."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.adapters.clock import ManualClock
from pipeline.adapters.stores.memory import MemoryStore
from pipeline.domain.errors import GuardRefused, UserError
from pipeline.domain.guards import GUARDS, Act, Allowed, Facts, Refused, judge, table
from pipeline.envs.books import Books
from pipeline.envs.gate import AUDIT, TICK, Asking, Budget, Gate

OF_CLOUD = Facts(TICK, provider="cloud")
BY_ITSELF = Asking(TICK, "its time ended", again=True)
ROOT = Path(__file__).resolve().parents[2]
#: For each guard, facts that it alone refuses.
BAD = {
    "ownership": Facts("me", marked=False),
    "known": Facts("me", known=False, sightings=1),
    "traffic": Facts("me", in_traffic="router front"),
    "last-node": Facts("me", last_of="web"),
    "protected": Facts("me", owner="you", protected="the demo of Monday"),
    "held": Facts("me", held_until=10.0, now=5.0),
    "budget": Facts("me", spent=3, budget=3),
    "in-use": Facts("me", used_by=("env-1/web-0",)),
    "out-of-service": Facts("me", in_service=True),
}


def test_each_guard_is_tried() -> None:
    assert list(BAD) == [guard.name for guard in GUARDS]


@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: guard.name)
@pytest.mark.parametrize("act", list(Act))
def test_a_guard_refuses_its_acts_and_no_other(guard: object, act: Act) -> None:
    known = next(one for one in GUARDS if one is guard)
    answer = judge(act, BAD[known.name])
    if act in known.acts:
        assert isinstance(answer, Refused)
        assert (answer.guard, answer.remedy) == (known.name, known.remedy)
        assert answer.why
    else:
        assert answer == Allowed({})


@pytest.mark.parametrize("act", list(Act))
def test_nothing_refuses_when_all_is_well(act: Act) -> None:
    assert judge(act, Facts("me")) == Allowed({})


@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: guard.name)
def test_an_override_with_a_reason_passes_that_guard_unless_it_is_firm(guard: object) -> None:
    known = next(one for one in GUARDS if one is guard)
    act = min(known.acts)
    assert isinstance(judge(act, BAD[known.name], {known.name: "  "}), Refused)
    answer = judge(act, BAD[known.name], {known.name: "it burns"})
    assert isinstance(answer, Refused) if known.firm else answer == Allowed({known.name: "it burns"})


@given(st.sampled_from(list(Act)), st.sets(st.sampled_from(sorted(BAD))))
def test_an_override_counts_for_its_own_guard_alone(act: Act, given_: set[str]) -> None:
    facts = Facts("me", owner="you", protected="x", used_by=("a",), last_of="web", in_traffic="r", in_service=True)
    refusing = [guard for guard in GUARDS if act in guard.acts and guard.check(facts)]
    answer = judge(act, facts, dict.fromkeys(given_, "why not"))
    left = [guard for guard in refusing if guard.firm or guard.name not in given_]
    assert isinstance(answer, Refused) == bool(left)


def test_the_owner_may_end_what_is_protected() -> None:
    assert judge(Act.DESTROY, Facts("you", owner="you", protected="mine")) == Allowed({})


def test_the_page_of_the_documents_is_the_table() -> None:
    assert table() in (ROOT / "docs/guards.md").read_text()


def test_what_passes_and_what_is_refused_is_told() -> None:
    books = Books(MemoryStore(ManualClock()))
    gate = Gate(books, ManualClock())
    gate.pass_(Act.TAKE_OUT, "machine m1", Facts("me"), Asking("me", "new disk"))
    with pytest.raises(GuardRefused, match="take-out of machine m2: it is in use by env-1/web-0; drain it"):
        gate.pass_(Act.TAKE_OUT, "machine m2", BAD["in-use"], Asking("me", "new disk"))
    passed, refused = books.store.events(AUDIT)
    assert (passed.type, passed.data["target"], passed.data["why"]) == ("audit.take-out", "machine m1", "new disk")
    assert (refused.data["refused"], refused.data["because"]) == ("in-use", "it is in use by env-1/web-0")


def test_an_override_of_a_guard_that_does_not_exist_is_a_mistake() -> None:
    gate = Gate(Books(MemoryStore(ManualClock())), ManualClock())
    with pytest.raises(UserError, match="there is no guard gard; there are: ownership"):
        gate.pass_(Act.TAKE_OUT, "machine m1", Facts("me"), Asking("me", "x", {"gard": "y"}))


@pytest.mark.parametrize("act", [Act.REAP, Act.PREEMPT, Act.DELETE_OBJECT, Act.DESTROY])
def test_a_budget_is_spent_and_comes_back(act: Act) -> None:
    clock = ManualClock()
    gate = Gate(Books(MemoryStore(clock)), clock, {"cloud": Budget(acts=2, interval_s=30)})
    for number in range(2):
        gate.pass_(act, f"env-{number}", OF_CLOUD, BY_ITSELF)
    assert (gate.spent("cloud"), gate.left("cloud")) == (2, 0)
    with pytest.raises(GuardRefused, match="2 of 2 such acts of this interval are done") as refused:
        gate.pass_(act, "env-3", OF_CLOUD, BY_ITSELF)
    assert refused.value.passing
    gate.pass_(act, "env-3", replace(OF_CLOUD, provider="other"), BY_ITSELF)
    clock.sleep(31)
    gate.pass_(act, "env-3", OF_CLOUD, BY_ITSELF)
    assert gate.spent("cloud") == 1
