"""The state machine of environments and nodes, as data and in every order of events."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.domain import environments
from pipeline.domain.blueprint import EnvironmentSpec, Priority, RoleSpec
from pipeline.domain.environments import (
    FINAL_STATES,
    MOVING_STATES,
    NODE_TRANSITIONS,
    QUOTA_STATES,
    STANDING_STATES,
    TIMED_STATES,
    TRANSITIONS,
    Environment,
    EnvironmentState,
    NodeState,
    begin_destroying,
    destroyed,
    hold,
    place_again,
    planned_nodes,
    rebuilt_later,
    take_over,
)
from pipeline.domain.errors import InvalidTransition

E, N = EnvironmentState, NodeState
SPEC = EnvironmentSpec("debian-12", (RoleSpec("web", 2), RoleSpec("db", image="debian-13")))


def make(state: EnvironmentState, node: NodeState = N.PLANNED) -> Environment:
    nodes = tuple(replace(one, state=node, sealed_host_key="sealed") for one in planned_nodes(SPEC))
    return Environment(
        "env-1", "shop", "shop", "run-1", "cloud", state, nodes, Priority.PUSH, 0.0, 0.0, 100.0, sealed_key="sealed"
    )


def test_every_state_has_its_transitions() -> None:
    assert TRANSITIONS.keys() == set(E)
    assert NODE_TRANSITIONS.keys() == set(N)
    assert {state for state in E if not TRANSITIONS[state]} == FINAL_STATES
    assert {state for state in N if not NODE_TRANSITIONS[state]} == {N.GONE}


def test_where_servers_may_exist_only_destroying_leads_to_the_end() -> None:
    for state in STANDING_STATES - {E.DESTROYING}:
        assert not TRANSITIONS[state] & FINAL_STATES
    assert TRANSITIONS[E.DESTROYING] == {E.DESTROYED}
    reached = {state for state in E if E.DESTROYED in TRANSITIONS[state]}
    assert reached == {E.DESTROYING}


def test_groups_of_states_agree() -> None:
    assert set(E) - FINAL_STATES - {E.REQUESTED} == QUOTA_STATES
    assert STANDING_STATES < QUOTA_STATES
    assert MOVING_STATES <= QUOTA_STATES
    assert TIMED_STATES <= STANDING_STATES
    assert not TIMED_STATES & MOVING_STATES


def test_every_state_can_come_to_its_end() -> None:
    for state in set(E) - FINAL_STATES:
        seen, front = {state}, [state]
        while front:
            front = [after for before in front for after in TRANSITIONS[before] if after not in seen]
            seen |= set(front)
        assert seen & FINAL_STATES, state


@pytest.mark.parametrize("before", list(E))
@pytest.mark.parametrize("after", list(E))
def test_only_what_the_table_says_is_done(before: EnvironmentState, after: EnvironmentState) -> None:
    environment = make(before)
    if after in TRANSITIONS[before]:
        moved = environment.to(after, 7.0, "why")
        assert (moved.state, moved.state_since, moved.reason, moved.not_before) == (after, 7.0, "why", 0.0)
    else:
        with pytest.raises(InvalidTransition, match=f"env-1 is {before} and cannot become {after}"):
            environment.to(after, 7.0)


@pytest.mark.parametrize("before", list(N))
@pytest.mark.parametrize("after", list(N))
def test_nodes_do_only_what_the_table_says(before: NodeState, after: NodeState) -> None:
    node = replace(planned_nodes(SPEC)[0], state=before)
    if after is before:
        assert node.to(after) is node
    elif after in NODE_TRANSITIONS[before]:
        assert node.to(after).state is after
    else:
        with pytest.raises(InvalidTransition, match=f"web-0 is {before} and cannot become {after}"):
            node.to(after)


def test_one_node_is_planned_for_each_that_is_counted() -> None:
    nodes = planned_nodes(SPEC)
    assert [(node.name, node.role, node.image) for node in nodes] == [
        ("web-0", "web", "debian-12"),
        ("web-1", "web", "debian-12"),
        ("db-0", "db", "debian-13"),
    ]
    assert {node.state for node in nodes} == {N.PLANNED}


#: The state in which it is taken back, and the state after that.
TAKEN_BACK = [
    (E.REQUESTED, E.WITHDRAWN),
    (E.RESERVED, E.WITHDRAWN),
    (E.BUILDING, E.DESTROYING),
    (E.READY, E.DESTROYING),
    (E.LEASED, E.DESTROYING),
    (E.HELD, E.DESTROYING),
    (E.RECYCLING, E.DESTROYING),
    (E.ADOPTED, E.DESTROYING),
]


@pytest.mark.parametrize(("before", "after"), TAKEN_BACK)
@pytest.mark.parametrize("node", list(N))
def test_whatever_stands_is_taken_back(before: EnvironmentState, after: EnvironmentState, node: NodeState) -> None:
    gone = begin_destroying(make(before, node), 7.0, "enough")
    assert (gone.state, gone.reason) == (after, "enough")
    if after is E.DESTROYING:
        ended = destroyed(gone, 8.0)
        assert (ended.state, ended.reason, ended.sealed_key) == (E.DESTROYED, "enough", "")
        gone = ended
    assert {node.state for node in gone.nodes} == {N.GONE}
    assert {node.sealed_host_key for node in gone.nodes} == {""}


@pytest.mark.parametrize("state", sorted(FINAL_STATES | {E.DESTROYING}))
def test_what_is_on_its_way_out_is_left_alone(state: EnvironmentState) -> None:
    environment = make(state)
    assert begin_destroying(environment, 7.0, "again") is environment


def test_the_table_of_taking_back_is_whole() -> None:
    assert {before for before, _ in TAKEN_BACK} | FINAL_STATES | {E.DESTROYING} == set(E)


def test_holding_again_moves_the_end() -> None:
    held = hold(make(E.LEASED), 50.0, 7.0, "failed")
    assert (held.state, held.ends_at, held.state_since) == (E.HELD, 50.0, 7.0)
    longer = hold(held, 90.0, 8.0, "still")
    assert (longer.state, longer.ends_at, longer.state_since) == (E.HELD, 90.0, 7.0)


@pytest.mark.parametrize("state", sorted(set(E) - {E.LEASED, E.HELD, E.BUILDING}))
def test_what_nobody_uses_is_not_held(state: EnvironmentState) -> None:
    with pytest.raises(InvalidTransition):
        hold(make(state), 50.0, 7.0, "why")


def test_a_new_run_takes_over_what_is_held() -> None:
    taken = take_over(hold(make(E.LEASED), 50.0, 7.0, "failed"), "run-2", 300.0, 9.0)
    assert (taken.state, taken.owner, taken.ends_at) == (E.LEASED, "run-2", 300.0)
    with pytest.raises(InvalidTransition):
        take_over(make(E.DESTROYING), "run-2", 300.0, 9.0)


STEPS = st.lists(st.sampled_from(["take back", "end", "hold", *E]), max_size=30)


@given(STEPS)
def test_servers_are_counted_until_they_were_seen_to_be_gone(steps: list[str]) -> None:
    environment, stood, was_destroying = make(E.REQUESTED), False, False
    for now, step in enumerate(steps):
        try:
            environment = _step(environment, step, float(now))
        except InvalidTransition:
            continue
        taken_back = environment.state is E.RESERVED  # before it is built once more
        stood = environment.state in STANDING_STATES or (stood and not taken_back)
        was_destroying = was_destroying or environment.state is E.DESTROYING
        if environment.final and stood:
            assert was_destroying


def _step(environment: Environment, step: str, now: float) -> Environment:
    match step:
        case "take back":
            return begin_destroying(environment, now, step)
        case "end":
            return destroyed(environment, now)
        case "hold":
            return environments.hold(environment, now + 10, now, step)
    return environment.to(EnvironmentState(step), now)


def test_what_is_placed_again_has_no_place_and_remembers_where_it_failed() -> None:
    building = make(E.BUILDING, N.BUILDING)
    nodes = [replace(node, machine=f"m{at}", zone="z", fault="no disk") for at, node in enumerate(building.nodes)]
    building = replace(building.with_nodes(nodes), placed_at=5.0, avoid=("m9", "m1"), placed_again=1)
    reserved = rebuilt_later(building, 7.0, "no disk")
    assert reserved.state is E.RESERVED
    assert {(node.state, node.fault, node.zone) for node in reserved.nodes} == {(N.PLANNED, "", "z")}
    again = place_again(reserved, ["m1", "m0"], 8.0, "placed again")
    assert (again.state, again.avoid, again.placed_again, again.placed_at) == (E.REQUESTED, ("m9", "m1", "m0"), 2, 0.0)
    assert {(node.machine, node.zone) for node in again.nodes} == {("", "")}
    with pytest.raises(InvalidTransition):
        place_again(building, [], 8.0, "servers may exist")
