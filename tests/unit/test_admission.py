"""Who goes first, and who gets room."""

from __future__ import annotations

from collections import deque
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.adapters.clock import ManualClock
from pipeline.adapters.stores.memory import MemoryStore
from pipeline.domain.admission import (
    AGING_S,
    RANK,
    Fits,
    Infeasible,
    Line,
    Unschedulable,
    Use,
    Waiting,
    admissible,
    in_turn,
    largest_part,
    over_quota,
    rank,
    room_for,
    shares_of,
    total,
    use_of,
)
from pipeline.domain.blueprint import EnvironmentSpec, Priority, RoleSpec
from pipeline.domain.environments import QUOTA_STATES, Environment, EnvironmentState, planned_nodes
from pipeline.domain.projects import Quota
from pipeline.domain.runs import Run, RunState
from pipeline.domain.triggers import Trigger, TriggerKind
from pipeline.envs.books import Books

TRIGGER = Trigger(TriggerKind.PUSH, "plain", "/srv/shop.git", "1" * 40, branch="main")
NOW, PUSH, NIGHT = Priority.INTERACTIVE, Priority.PUSH, Priority.NIGHTLY
E = EnvironmentState


def run(id: str, project: str, created_at: float, priority: Priority = PUSH) -> Run:
    return Run(id, project, TRIGGER, RunState.PENDING, created_at, priority=priority)


def chosen(pending: list[Run], running: dict[str, int] | None = None, limits: dict[str, int] | None = None) -> str:
    every = {one.project: 100 for one in pending}
    return " ".join(one.id for one in admissible(pending, running or {}, every if limits is None else limits))


@pytest.mark.parametrize(
    ("pending", "running", "limits", "expected"),
    [
        ([], {}, {}, ""),
        ([run("b", "x", 2), run("a", "x", 1)], {}, {"x": 9}, "a b"),
        ([run("n", "x", 1, NIGHT), run("p", "x", 2, PUSH), run("i", "x", 3, NOW)], {}, {"x": 9}, "i p n"),
        ([run("a", "x", 1), run("b", "x", 2), run("c", "y", 3)], {}, {"x": 9, "y": 9}, "a c b"),
        ([run("a", "x", 1), run("b", "y", 2)], {"x": 3}, {"x": 9, "y": 9}, "b a"),
        ([run("a", "x", 1), run("b", "x", 2), run("c", "x", 3)], {"x": 1}, {"x": 3}, "a b"),
        ([run("a", "x", 1)], {"x": 3}, {"x": 3}, ""),
        ([run("a", "x", 1)], {"x": 5}, {"x": 3}, ""),
        ([run("a", "x", 1), run("b", "y", 2)], {}, {"y": 1}, "b"),
        ([run("n", "x", 1, NIGHT), run("p", "y", 2, PUSH)], {"y": 8}, {"x": 9, "y": 9}, "p n"),
    ],
)
def test_order(pending: list[Run], running: dict[str, int], limits: dict[str, int], expected: str) -> None:
    assert chosen(pending, running, limits) == expected


RUNS = st.lists(st.tuples(st.sampled_from("xyz"), st.integers(0, 5), st.sampled_from(list(Priority))), max_size=25).map(
    lambda rows: [run(f"r{i}", project, at, priority) for i, (project, at, priority) in enumerate(rows)]
)
COUNTS = st.fixed_dictionaries({name: st.integers(0, 6) for name in "xyz"})


@given(RUNS, COUNTS, COUNTS)
def test_limits_are_kept_and_used_up(pending: list[Run], running: dict[str, int], limits: dict[str, int]) -> None:
    admitted = admissible(pending, running, limits)
    assert len({one.id for one in admitted}) == len(admitted)
    for name in "xyz":
        wanted = sum(one.project == name for one in pending)
        got = sum(one.project == name for one in admitted)
        assert got == min(wanted, max(0, limits[name] - running[name]))


@given(RUNS, COUNTS)
def test_within_a_project_nobody_overtakes_but_by_priority(pending: list[Run], running: dict[str, int]) -> None:
    admitted = admissible(pending, running, dict.fromkeys("xyz", 100))
    for name in "xyz":
        keys = [(RANK[one.priority], one.created_at) for one in admitted if one.project == name]
        assert keys == sorted(keys)


def environment(
    id: str, nodes: int, state: EnvironmentState = E.REQUESTED, created_at: float = 0.0, priority: Priority = PUSH
) -> Environment:
    planned = planned_nodes(EnvironmentSpec("debian-12", (RoleSpec("web", nodes),)))
    return Environment(id, "x", "shop", "", "cloud", state, planned, priority, created_at, created_at, 0.0)


@pytest.mark.parametrize(
    ("need", "standing", "expected"),
    [
        (5, [], Fits),
        (6, [], Infeasible),
        (6, [5], Infeasible),
        (3, [2], Fits),
        (3, [2, 1], Unschedulable),
        (1, [5], Unschedulable),
        (1, [9], Unschedulable),
    ],
)
def test_room(need: int, standing: list[int], expected: type[object]) -> None:
    assert isinstance(room_for(environment("new", need), sum(standing), 5), expected)


@pytest.mark.parametrize("state", list(E))
def test_what_counts_takes_room(state: EnvironmentState) -> None:
    store = MemoryStore(ManualClock())
    books = Books(store)
    books.commit(books.environments.kind.put("other", environment("other", 5, state), 0))
    assert store.count("environments:standing:cloud") == (state in QUOTA_STATES)


def test_answers_say_how_much_is_wanted_and_free() -> None:
    answer = room_for(environment("new", 3), 4, 5)
    assert answer == Unschedulable("3 nodes are wanted, 1 of 5 are free at cloud")
    assert room_for(environment("new", 6), 0, 5) == Infeasible("6 nodes are wanted, and provider cloud takes 5 in all")


def waiting(id: str, project: str, since: float, priority: Priority = PUSH) -> Waiting:
    return Waiting(id, project, priority, since)


def turns(requests: list[Waiting], shares: dict[str, float] | None = None, now: float = 0.0) -> str:
    return " ".join(one.id for one in in_turn(requests, lambda name: (shares or {}).get(name, 0.0), now))


def test_a_turn_goes_by_rank_then_share_then_age() -> None:
    requests = [waiting("n", "x", 0, NIGHT), waiting("p", "x", 2), waiting("q", "y", 3), waiting("i", "x", 4, NOW)]
    assert turns(requests) == "i p q n"
    assert turns(requests, {"x": 0.9, "y": 0.1}) == "i q p n"


def test_what_waits_long_enough_goes_before_what_came_later() -> None:
    requests = [waiting("night", "x", 0, NIGHT), waiting("push", "y", 2 * AGING_S, PUSH)]
    assert turns(requests, now=2 * AGING_S) == "night push"


def test_what_was_placed_meanwhile_counts() -> None:
    share = {"x": 0.0, "y": 0.1}
    order = []
    for one in in_turn([waiting(f"x{i}", "x", i) for i in range(3)] + [waiting("y", "y", 9)], share.__getitem__, 0.0):
        order.append(one.id)
        share[one.project] += 0.2
    assert order == ["x0", "y", "x1", "x2"]


@given(st.lists(st.tuples(st.sampled_from("xyz"), st.integers(0, 9), st.sampled_from(list(Priority))), max_size=20))
def test_everybody_has_a_turn_once(rows: list[tuple[str, int, Priority]]) -> None:
    requests = [waiting(f"r{i}", project, since, priority) for i, (project, since, priority) in enumerate(rows)]
    assert sorted(turns(requests).split()) == sorted(one.id for one in requests)


REQUESTS = st.lists(
    st.tuples(st.sampled_from("xyz"), st.integers(0, 9000), st.sampled_from(list(Priority))), max_size=12
).map(lambda rows: [waiting(f"r{i}", project, since, priority) for i, (project, since, priority) in enumerate(rows)])
SHARES = st.fixed_dictionaries({name: st.floats(0, 1) for name in "xyz"})


@given(REQUESTS, SHARES)
def test_a_kept_line_is_in_the_order_of_a_new_one(requests: list[Waiting], shares: dict[str, float]) -> None:
    line = Line(requests[::2])
    for one in requests[1::2]:
        line.add(one)
    assert list(line.in_turn(shares.__getitem__, 9000)) == list(in_turn(requests, shares.__getitem__, 9000))
    for one in requests[::3]:
        line.remove(one)
    left = [one for one in requests if one not in requests[::3]]
    assert list(line.in_turn(shares.__getitem__, 9000)) == list(in_turn(left, shares.__getitem__, 9000))


def test_what_is_taken_out_during_a_look_is_gone_at_the_next() -> None:
    line = Line([waiting("a", "x", 0), waiting("b", "x", 1)])
    for one in line.in_turn(lambda _: 0.0, 0.0):
        line.remove(one)
    assert list(line.in_turn(lambda _: 0.0, 0.0)) == []


def test_an_old_flood_does_not_go_before_those_who_hold_less() -> None:
    flood = [waiting(f"x{i}", "x", i) for i in range(3)]
    others = [waiting("now", "x", AGING_S, NOW), waiting("push", "y", AGING_S, PUSH)]
    shares = {"x": 0.9, "y": 0.1}
    assert turns(flood + others, shares, now=AGING_S + 5) == "now push x0 x1 x2"
    assert turns(flood + others, now=AGING_S + 5) == "x0 x1 x2 now push"


def test_aging_ends_whatever_a_project_holds() -> None:
    old = waiting("old", "x", 0, NIGHT)
    assert [rank(old, now, even_shares=2.0) for now in (AGING_S, 2 * AGING_S, 4 * AGING_S)] == [2, 1, -1]
    assert rank(old, 9 * AGING_S, even_shares=2.0) == -6
    assert rank(old, AGING_S, even_shares=0.1) == 1


@given(
    st.sampled_from(list(Priority)),
    st.dictionaries(st.tuples(st.sampled_from("xyz"), st.sampled_from(list(Priority))), st.integers(1, 3), min_size=1),
    st.integers(1, 6),
    st.integers(0, 9),
)
def test_nobody_starves(priority: Priority, floods: dict[tuple[str, Priority], int], lasts: int, stays: int) -> None:
    """One request of x, which holds something for good; at each step new ones of others, more than the one place takes
    that is free a step.
    """
    step, line, held = 300.0, Line([waiting("!", "x", 0, priority)]), deque(["-"] * lasts)
    for turn in range(1, 400):
        now = turn * step
        for (project, which), count in floods.items():
            for i in range(count):
                line.add(waiting(f"{project}{which}{turn}-{i}", project, now, which))
        uses = {name: Use(nodes=held.count(name) + stays * (name == "x")) for name in "xyz"}
        first = next(line.in_turn(shares_of(uses, lambda _: 1.0), now))
        if first.id == "!":
            return
        line.remove(first)
        held.append(first.project)
        held.popleft()
    raise AssertionError(f"it waits since {now} s")


def test_a_share_is_the_largest_part_of_any_resource_by_weight() -> None:
    uses = {"x": Use(nodes=1, vcpu=6, memory_mib=100), "y": Use(nodes=3, vcpu=2, memory_mib=300)}
    share = shares_of(uses, {"x": 1.0, "y": 3.0, "z": 1.0}.__getitem__)
    assert (share("x"), share("y"), share("z")) == (0.75, 0.25, 0.0)
    assert largest_part(uses["x"], total(uses.values())) == 0.75
    uses["x"] = Use()
    assert share("x") == 0.0


def test_a_quota_says_what_is_short_and_what_to_do() -> None:
    use = use_of(environment("new", 3))
    assert over_quota(Quota(), Use(), use) == ""
    assert over_quota(Quota(nodes=3), Use(), use) == ""
    told = over_quota(Quota(nodes=5), Use(nodes=4), use)
    assert told.startswith("over the project's own quota of nodes: 3 are wanted, 4 of 5 are in use; give")


def test_floating_addresses_count_where_a_blueprint_asks_for_them() -> None:
    roles = (RoleSpec("web", 2, floating=True), RoleSpec("db"))
    wired = replace(environment("new", 0), nodes=planned_nodes(EnvironmentSpec("debian-12", roles)))
    use = use_of(wired)
    assert (use.nodes, use.floating_addresses) == (3, 2)
    assert use.plus(use, -1) == Use()
    quota = Quota(floating_addresses=2)
    assert over_quota(quota, Use(), use) == ""
    assert "quota of floating_addresses: 2 are wanted, 1 of 2 are in use" in over_quota(
        quota, Use(floating_addresses=1), use
    )
    assert over_quota(quota, Use(floating_addresses=3), use_of(environment("none", 3))) == ""


def test_requests_are_served_by_priority_then_age() -> None:
    requests = [
        environment("late", 1, created_at=3),
        environment("early", 1, created_at=1),
        environment("night", 1, created_at=0, priority=NIGHT),
        environment("now", 1, created_at=9, priority=NOW),
        environment("built", 1, E.BUILDING, created_at=0),
    ]
    store = MemoryStore(ManualClock())
    books = Books(store)
    books.commit(*(books.environments.kind.put(one.id, one, 0) for one in requests))
    assert list(store.index("environments:requested")) == ["now", "early", "late", "night"]
