"""Servers leave a machine: each past the gate, a bounded number at a time, seen elsewhere, whoever dies in between."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.adapters.clouds.memory import MemoryEstate
from pipeline.domain import moving_off
from pipeline.domain.cloud_acts import CloudAct, CloudObject, ObjectKind, Verb
from pipeline.domain.drift import Server
from pipeline.domain.environments import NodeState, Purpose
from pipeline.domain.errors import PermanentError, TransientError, UserError
from pipeline.domain.inventory import Inventory, Machine, MachineState, Zone
from pipeline.domain.moving_off import TRIES, How, Move, MoveState, Policy, Trial
from pipeline.envs.cloud_acts import LOST_S, NEXT_S
from pipeline.envs.gate import AUDIT, Asking
from pipeline.envs.providers import Provider
from tests.unit.test_cloud_acts import MACHINE, WHY, Death, Scene
from tests.unit.test_drift import NODE, environment

OTHER = CloudObject(ObjectKind.MACHINE, "s-2", "rack-1-b")
FENCED = Asking("alice", "it is dead", {"dead": "its power is off"})
M = MoveState


def server(
    number: int, status: str = "active", deployment: str = "", environment_id: str = "", node: str = ""
) -> Server:
    return Server(
        f"id-{number}", f"vm-{number}", status, machine=MACHINE.name, project="their", deployment=deployment,
        environment_id=environment_id, node=node,
    )  # fmt: skip


class Floor(Scene):
    """Two machines, and servers on the first one."""

    def __init__(self, *servers: Server) -> None:
        super().__init__()
        self.estate.objects[OTHER.id] = OTHER
        machines = tuple(Machine(one.name, "rack-1", {}) for one in (MACHINE, OTHER))
        self.inventories.sync("cloud", Inventory(machines, (Zone("rack-1"),)))
        for one in servers:
            self.estate.servers[one.id] = one

    def ask(self, policy: Policy, asking: Asking = WHY, at_once: int = 2) -> str:
        return self.acts.ask("cloud", Verb.TAKE_OUT, MACHINE.kind, MACHINE.name, asking, policy, at_once).id

    def at(self, id: str) -> CloudAct:
        return self.books.cloud_acts.get(id).value

    def to_the_end(self, id: str, each: Callable[[], None] = lambda: None) -> CloudAct:
        """Step by step, as the tick would."""
        for _ in range(40):
            self.acts.carry_out(id)
            each()
            if self.at(id).finished_at is not None:
                return self.at(id)
            self.clock.sleep(NEXT_S)
            assert [one.id for one in self.acts.due()] == [id]
        raise AssertionError(f"not done: {self.at(id)}")

    def states(self, id: str) -> list[MoveState]:
        return [one.state for one in self.at(id).moves]


def test_servers_move_one_by_one_and_the_machine_is_empty_then() -> None:
    floor = Floor(server(1), server(2, "shutoff"), server(3, "paused"))
    id = floor.ask(Policy.MIGRATE, at_once=1)
    under_way: list[int] = []
    done = floor.to_the_end(id, lambda: under_way.append(floor.states(id).count(M.MOVING)))
    assert [(one.name, one.state, one.to) for one in done.moves] == [
        (f"vm-{n}", M.MOVED, OTHER.name) for n in (1, 2, 3)
    ]
    assert floor.estate.told == [("id-1", How.LIVE), ("id-2", How.COLD), ("id-3", How.LIVE)]
    assert max(under_way) == 1
    assert (done.left, floor.state) == ((), MachineState.MAINTENANCE)
    assert "its agent may be restarted" in done.outcome
    assert floor.estate.servers["id-2"].status == "shutoff"  # it was confirmed


def test_the_machine_takes_nothing_new_before_anything_moves() -> None:
    floor = Floor(server(1))
    id = floor.ask(Policy.MIGRATE)
    floor.acts.carry_out(id)
    assert (floor.state, floor.estate.out) == (MachineState.DRAINING, {"s-1": "it is old"})
    assert floor.at(id).finished_at is None


def test_what_cannot_move_is_named_with_the_clouds_words_and_the_others_go() -> None:
    floor = Floor(server(1), server(2), server(3, "rescue"))
    floor.estate.stuck["id-1"] = "No valid host was found."
    done = floor.to_the_end(floor.ask(Policy.MIGRATE))
    assert [one.state for one in done.moves] == [M.FAILED, M.MOVED, M.FAILED]
    assert "No valid host was found." in done.moves[0].fault
    assert "rescue" in done.moves[2].fault
    assert all(word in done.outcome for word in ("vm-1 (id-1)", "No valid host", "2 failed", "1 moved"))
    assert (len(done.left), floor.state) == (2, MachineState.DRAINING)
    floor.estate.stuck.clear()
    again = floor.to_the_end(floor.ask(Policy.MIGRATE))
    assert [one.state for one in again.moves] == [M.MOVED, M.FAILED]


@pytest.mark.parametrize("policy", [Policy.MIGRATE, Policy.EVACUATE])
def test_a_size_that_its_owner_has_not_confirmed_keeps_nobody_waiting(policy: Policy) -> None:
    floor = Floor(server(1, "verify_resize"))
    floor.estate.dead.add(MACHINE.id)
    done = floor.to_the_end(floor.ask(policy))
    assert (done.moves[0].state, floor.estate.told, len(done.left)) == (M.FAILED, [], 1)
    assert "confirm or revert" in done.moves[0].fault
    assert floor.estate.servers["id-1"].status == "verify_resize"


def test_a_server_that_changes_its_size_is_waited_for_and_then_its_owner_is_asked() -> None:
    floor = Floor(server(1, "resize"))
    id = floor.ask(Policy.MIGRATE)
    floor.acts.carry_out(id)
    assert floor.states(id) == [M.MOVING]
    floor.estate.servers["id-1"] = replace(server(1, "verify_resize"), machine=OTHER.name)
    assert "confirm or revert" in floor.to_the_end(id).moves[0].fault


def test_what_somebody_else_tried_before_is_no_try_of_ours() -> None:
    floor = Floor(server(1, "rebuild"))
    floor.estate.trials["id-1"] = Trial("old", over=True, fault="No valid host was found.")
    id = floor.ask(Policy.MIGRATE)
    floor.acts.carry_out(id)
    floor.estate.servers["id-1"] = server(1)
    assert floor.to_the_end(id).moves[0].state is M.MOVED


def test_a_dry_run_says_what_would_move_and_how() -> None:
    floor = Floor(server(1), server(2, "shutoff"), server(3, "rescue"))
    id = floor.ask(Policy.MIGRATE, replace(WHY, dry_run=True))
    floor.acts.carry_out(id)
    assert [(one.how, one.state) for one in floor.at(id).moves] == [
        (How.LIVE, M.WAITING),
        (How.COLD, M.WAITING),
        (None, M.FAILED),
    ]
    assert (floor.state, floor.estate.out, floor.estate.told) == (MachineState.IN_SERVICE, {}, [])


def test_an_evacuation_waits_for_the_death_of_the_machine() -> None:
    floor = Floor(server(1, deployment="scene"))
    refused = floor.to_the_end(floor.ask(Policy.EVACUATE))
    assert (refused.refused, floor.state, floor.estate.told) == ("dead", MachineState.IN_SERVICE, [])
    floor.estate.dead.add(MACHINE.id)
    done = floor.to_the_end(floor.ask(Policy.EVACUATE))
    assert (done.moves[0].state, floor.estate.told) == (M.MOVED, [("id-1", How.REBUILD)])


def test_whoever_overrides_forces_the_machine_down_and_putting_it_back_lifts_that() -> None:
    floor = Floor(server(1, deployment="scene"))
    done = floor.to_the_end(floor.ask(Policy.EVACUATE, FENCED))
    assert (done.moves[0].state, floor.estate.dead) == (M.MOVED, {MACHINE.id})
    floor.act(Verb.PUT_BACK, MACHINE)
    assert floor.estate.dead == set()


def test_what_is_not_ours_is_moved_but_never_built_anew() -> None:
    """A move takes nothing from its owner; an evacuation takes what was on its disk."""
    floor = Floor(server(1))
    floor.estate.dead.add(MACHINE.id)
    done = floor.to_the_end(floor.ask(Policy.EVACUATE, Asking("alice", "dead", {"ownership": "I am the operator"})))
    assert (done.moves[0].state, floor.estate.told) == (M.REFUSED, [])
    assert "ownership" in done.moves[0].fault
    assert floor.to_the_end(floor.ask(Policy.MIGRATE)).moves[0].state is M.MOVED


def own(floor: Floor, purpose: Purpose = Purpose.STAGING, machine: str = MACHINE.name) -> None:
    """The first server is the only node of an environment of ours, placed on the machine, as the books have it."""
    stands = environment(replace(NODE, machine=machine, zone="rack-1", driver_id="id-1"), id="env-9")
    stands = replace(stands, purpose=purpose)
    floor.books.commit(floor.books.environments.kind.put(stands.id, stands, 0))
    marked = server(1, deployment="scene", environment_id="env-9", node="web-0")
    floor.estate.servers["id-1"] = marked


def test_the_books_follow_a_node_of_ours() -> None:
    floor = Floor()
    own(floor)
    override = Asking("alice", "new kernel", {"last-node": "it stays up"})
    floor.to_the_end(floor.ask(Policy.MIGRATE, override))
    assert floor.books.environments.get("env-9").value.nodes[0].machine == OTHER.name
    told = [event.data for event in floor.books.store.events("env-9") if event.type == "environment.node-moved"]
    assert [(one["from"], one["to"]) for one in told] == [(MACHINE.name, OTHER.name)]
    assert floor.state is MachineState.MAINTENANCE  # nothing stands there in the books any more


@pytest.mark.parametrize("purpose", Purpose)
def test_a_node_that_was_built_anew_is_lost(purpose: Purpose) -> None:
    floor = Floor()
    own(floor, purpose)
    floor.estate.dead.add(MACHINE.id)
    floor.to_the_end(floor.ask(Policy.EVACUATE, Asking("alice", "dead", {"last-node": "it is dead"})))
    (node,) = floor.books.environments.get("env-9").value.nodes
    assert (node.state, node.machine) == (NodeState.LOST, OTHER.name)
    assert "environment.node-lost" in [event.type for event in floor.books.store.events("env-9")]


def test_a_node_that_was_built_anew_is_lost_although_the_books_guessed_its_machine() -> None:
    """They had it where it went to."""
    floor = Floor()
    own(floor, machine=OTHER.name)
    floor.estate.dead.add(MACHINE.id)
    floor.to_the_end(floor.ask(Policy.EVACUATE, Asking("alice", "dead", {"last-node": "it is dead"})))
    (node,) = floor.books.environments.get("env-9").value.nodes
    assert (node.state, node.machine) == (NodeState.LOST, OTHER.name)


def test_a_node_that_was_replaced_since_is_not_lost() -> None:
    floor = Floor()
    own(floor)
    loaded = floor.books.environments.get("env-9")
    newer = loaded.value.with_nodes(replace(node, driver_id="id-7") for node in loaded.value.nodes)
    floor.books.commit(floor.books.environments.kind.put("env-9", newer, loaded.version))
    floor.estate.dead.add(MACHINE.id)
    floor.to_the_end(floor.ask(Policy.EVACUATE, Asking("alice", "dead", {"last-node": "it is dead"})))
    assert floor.books.environments.get("env-9").value.nodes[0].state is NodeState.IN_SERVICE


def test_the_last_healthy_node_of_a_role_stays_unless_somebody_says_why() -> None:
    floor = Floor()
    own(floor)
    done = floor.to_the_end(floor.ask(Policy.MIGRATE))
    assert (done.moves[0].state, floor.estate.told, len(done.left)) == (M.REFUSED, [], 1)
    assert "last-node" in done.moves[0].fault
    assert "audit.move" in [event.type for event in floor.books.store.events(AUDIT)]


def test_a_server_that_ends_meanwhile_is_gone() -> None:
    floor = Floor(server(1), server(2))
    id = floor.ask(Policy.MIGRATE, at_once=1)
    floor.acts.carry_out(id)
    del floor.estate.servers["id-2"]
    assert [one.state for one in floor.to_the_end(id).moves] == [M.MOVED, M.GONE]


def test_a_cloud_that_is_away_for_a_while_ends_nothing() -> None:
    floor = Floor(server(1))
    id = floor.ask(Policy.MIGRATE)
    floor.acts.carry_out(id)
    floor.estate.fail += [TransientError("no answer")] * 3
    assert floor.to_the_end(id).moves[0].state is M.MOVED


def test_a_cloud_that_refuses_a_move_is_not_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    floor = Floor(server(1))

    def refuse(_id: str, _how: How) -> None:
        raise PermanentError("server id-1 is locked")

    monkeypatch.setattr(floor.estate, "move", refuse)
    done = floor.to_the_end(floor.ask(Policy.MIGRATE))
    assert (done.moves[0].state, done.moves[0].told) == (M.FAILED, 1)
    assert "locked" in done.moves[0].fault


class Slow(MemoryEstate):
    """It rests on the old machine until somebody hears that its trial is over: the cloud writes down both at once."""

    def move(self, id: str, how: How) -> None:
        super().move(id, how)
        self.servers[id] = replace(self.servers[id], status="active")

    def server(self, id: str) -> Server | None:
        return self.servers.get(id)

    def last_trial(self, id: str) -> Trial | None:
        self.servers[id] = self._ends.pop(id, self.servers[id])
        return super().last_trial(id)


def test_a_server_that_arrives_while_it_is_looked_at_has_not_failed() -> None:
    floor = Floor()
    slow = Slow(dict(floor.estate.objects), servers={"id-1": server(1)})
    floor.acts = floor.acts_of(Provider("cloud", floor.driver, floor.transport, cloud=floor.sky, estate=slow))
    done = floor.to_the_end(floor.ask(Policy.MIGRATE))
    assert [(one.state, one.to, one.fault) for one in done.moves] == [(M.MOVED, OTHER.name, "")]


@pytest.mark.parametrize("call", range(1, 24))
def test_whoever_dies_at_any_call_of_the_cloud_the_next_one_goes_on(call: int, monkeypatch: pytest.MonkeyPatch) -> None:
    floor = Floor(server(1), server(2, "shutoff"))
    id, answer, left = floor.ask(Policy.MIGRATE), floor.estate._answer, [call]

    def mortal() -> None:
        left[0] -= 1
        if left[0] == 0:
            raise Death
        answer()

    monkeypatch.setattr(floor.estate, "_answer", mortal)
    for _ in range(30):
        try:
            floor.acts.carry_out(id)
        except Death:
            floor.clock.sleep(LOST_S)  # the tick finds it without a worker
        if floor.at(id).finished_at is not None:
            break
        floor.clock.sleep(NEXT_S)
        assert [one.id for one in floor.acts.due()] == [id]
    assert floor.states(id) == [M.MOVED, M.MOVED]
    assert floor.state is MachineState.MAINTENANCE


def test_a_death_between_the_write_and_the_call_tells_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    floor = Floor(server(1))
    id = floor.ask(Policy.MIGRATE)
    with monkeypatch.context() as patch:

        def die(_id: str, _how: How) -> None:
            raise Death

        patch.setattr(floor.estate, "move", die)
        with pytest.raises(Death):
            floor.acts.carry_out(id)
    done = floor.to_the_end(id)
    assert (done.moves[0].state, done.moves[0].told, len(floor.estate.told)) == (M.MOVED, 2, 1)


def test_a_policy_is_for_a_machine_that_goes_out() -> None:
    floor = Floor()
    with pytest.raises(UserError, match="policy"):
        floor.acts.ask("cloud", Verb.PUT_BACK, MACHINE.kind, MACHINE.name, WHY, Policy.MIGRATE)
    with pytest.raises(UserError, match="at a time"):
        floor.ask(Policy.MIGRATE, at_once=0)


statuses = st.sampled_from(["active", "shutoff", "error", "migrating", "resize", "verify_resize", "rescue"])
trials = st.none() | st.builds(
    Trial, st.sampled_from(["a", "b"]), over=st.booleans(), fault=st.sampled_from(["", "no"])
)
moves = st.builds(
    Move,
    server=st.just("id-1"),
    name=st.just("vm"),
    project=st.just("p"),
    state=st.sampled_from(MoveState),
    how=st.none() | st.sampled_from(How),
    told=st.integers(0, TRIES),
    before=st.sampled_from(["", "a"]),
)


@given(moves, st.none() | st.builds(server, st.just(1), statuses), st.sampled_from([MACHINE.name, OTHER.name]), trials)
def test_a_server_counts_as_moved_only_where_it_was_seen(
    move: Move, seen: Server | None, machine: str, trial: Trial | None
) -> None:
    now = None if seen is None else replace(seen, machine=machine)
    after = moving_off.looked_at(move, now, MACHINE.name, trial)
    if move.over:
        assert after == move
    elif after.state is M.MOVED:
        assert now is not None
        assert now.machine == after.to != MACHINE.name
        assert now.status not in {*moving_off.UNDER_WAY, moving_off.UNCONFIRMED}
    assert moving_off.looked_at(after, now, MACHINE.name, trial) == after or after.state is not move.state


@given(st.lists(st.sampled_from(MoveState), max_size=12), st.integers(1, 5))
def test_no_more_are_under_way_than_are_let(states: list[MoveState], at_once: int) -> None:
    all_ = [Move(f"id-{n}", "vm", "p", state) for n, state in enumerate(states)]
    fresh = moving_off.next_ones(all_, at_once)
    assert all(one.state is M.WAITING for one in fresh)
    assert len(fresh) + states.count(M.MOVING) <= max(at_once, states.count(M.MOVING))
