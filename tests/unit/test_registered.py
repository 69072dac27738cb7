"""The states of registered machines, and that nobody who comes late can change anything."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from pipeline.adapters.clock import ManualClock
from pipeline.domain import registered as rules
from pipeline.domain.errors import CapacityError, InvalidTransition, PermanentError, UserError
from pipeline.domain.inventory import Machine, MachineKind, MachineState
from pipeline.domain.registered import MISSES, TRANSITIONS, Lease, Registered, Use, Wanted
from tests.plugins.registered_machines import IMAGE, OURS, PROVIDER, in_memory
from tests.plugins.registered_machines import registered as machine

MARK = Lease(OURS, "env-1", "", 100.0)
LEASE = replace(MARK, node="web-0")


def claimed(machines: list[Registered], *wanted: Wanted) -> dict[str, str]:
    """The node of each machine that a claim took."""
    taken = rules.claimed(machines, wanted, MARK, 7.0)
    return {one.name: one.lease.node for one in taken if one.lease is not None}


@pytest.mark.parametrize("use", Use)
@pytest.mark.parametrize("to", Use)
def test_there_are_only_the_ways_of_the_table(use: Use, to: Use) -> None:
    before = replace(machine("m1"), use=use, turn=4, lease=LEASE if use is Use.LEASED else None)
    if to in TRANSITIONS[use]:
        after = before.to(to, 9.0, lease=LEASE if to is Use.LEASED else None)
        assert (after.use, after.turn, after.since) == (to, 5, 9.0)
        assert (after.lease is not None) == (to is Use.LEASED)
    else:
        with pytest.raises(InvalidTransition, match="m1"):
            before.to(to, 9.0)


def test_a_lease_is_left_only_through_dirt() -> None:
    assert TRANSITIONS[Use.LEASED] == {Use.DIRTY}
    assert [use for use, ways in TRANSITIONS.items() if Use.FREE in ways] == [Use.DIRTY]
    assert [use for use, ways in TRANSITIONS.items() if Use.LEASED in ways] == [Use.FREE]


def test_a_node_gets_the_machine_that_was_named_and_another_one_what_is_left() -> None:
    machines = [machine("m1"), machine("m2"), machine("m3")]
    got = claimed(machines, Wanted("web-0", IMAGE), Wanted("web-1", IMAGE, "m1"))
    assert got == {"m1": "web-1", "m2": "web-0"}


def test_a_claim_takes_only_what_is_missing() -> None:
    machines = [replace(machine("m1"), use=Use.LEASED, lease=LEASE), machine("m2")]
    assert claimed(machines, Wanted("web-0", IMAGE), Wanted("web-1", IMAGE)) == {"m2": "web-1"}


@pytest.mark.parametrize(
    ("one", "says"),
    [
        (replace(machine("m1"), use=Use.LEASED, lease=replace(LEASE, environment="env-2")), "leased .env-2/web-0"),
        (replace(machine("m1"), use=Use.DIRTY), "m1 is dirty"),
        (replace(machine("m1"), use=Use.QUARANTINED, reason="its reset broke"), "its reset broke"),
        (replace(machine("m1"), fault="its power is off"), "m1 is down .its power is off"),
    ],
    ids=["leased", "dirty", "quarantined", "down"],
)
def test_only_a_free_machine_is_given_out(one: Registered, says: str) -> None:
    with pytest.raises(CapacityError, match=says):
        claimed([one, machine("m2")], Wanted("web-0", IMAGE, "m1"))
    assert claimed([one, machine("m2")], Wanted("web-0", IMAGE)) == {"m2": "web-0"}


def test_what_is_not_there_is_told() -> None:
    with pytest.raises(PermanentError, match="no machine m9 is registered"):
        claimed([machine("m1")], Wanted("web-0", IMAGE, "m9"))
    with pytest.raises(PermanentError, match=f"'beos'; there are: {IMAGE}"):
        claimed([machine("m1")], Wanted("web-0", "beos"))


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"kind": MachineKind.HYPERVISOR}, "leased whole"),
        ({"reset": "  "}, "reset command"),
        ({"images": frozenset()}, "image"),
        ({"reset_s": 0.0}, "makes no sense"),
        ({"capacity": {"vcpus": 4.0}}, "vcpus"),
    ],
)
def test_what_makes_no_sense_is_not_registered(wrong: dict[str, object], says: str) -> None:
    with pytest.raises(UserError, match=says):
        rules.checked(replace(machine("m1"), **wrong))  # type: ignore[arg-type]  # one field at a time


def test_a_machine_is_down_after_some_visits_and_clean_before_it_is_free() -> None:
    one = machine("m1")
    for _ in range(MISSES):
        assert one.word == "free"
        one = rules.missed(one, "its power is off")
    assert (one.word, one) == ("down", rules.missed(one, "something else"))
    back = rules.answered(one, 5.0)
    assert (back.word, back.use, back.misses) == ("dirty", Use.DIRTY, 0)


def test_a_leased_machine_that_comes_back_is_still_leased() -> None:
    one = replace(machine("m1"), use=Use.LEASED, lease=LEASE, fault="its power is off", misses=MISSES)
    assert rules.answered(one, 5.0).lease == LEASE


@given(use=st.sampled_from(Use), fault=st.sampled_from(["", "its power is off"]))
def test_the_inventory_takes_nodes_on_free_machines_alone(use: Use, fault: str) -> None:
    one = replace(machine("m1"), use=use, fault=fault)
    stands = rules.as_machine(one).state is MachineState.IN_SERVICE
    assert stands == (not fault and use in {Use.FREE, Use.LEASED})


@given(st.sampled_from(MachineState), st.sampled_from(Use), st.sampled_from(["", "its power is off"]))
def test_what_an_operator_set_stays(state: MachineState, use: Use, fault: str) -> None:
    known = Machine("m1", "rack-a", {}, state=state, state_reason="a new disk" if state != "in-service" else "")
    after = rules.followed(known, replace(machine("m1"), use=use, fault=fault), 5.0)
    if state is not MachineState.IN_SERVICE:
        assert after == known
    else:
        own = rules.as_machine(replace(machine("m1"), use=use, fault=fault))
        assert (after.state, after.state_reason) == (own.state, own.state_reason)
        assert rules.followed(after, machine("m1"), 6.0).state is MachineState.IN_SERVICE


class LateHands(RuleBasedStateMachine):
    """Whoever saw the machine at any time before may act on it now, as a process that hung for long would."""

    def __init__(self) -> None:
        super().__init__()
        self.metal = in_memory(1, ManualClock())
        self.seen = [self.metal.get("m1")]
        self.leases = 0

    @rule()
    def lease(self) -> None:
        if self.metal.get("m1").use is Use.FREE:
            self.leases += 1
            self.metal.stock.claim(OURS, f"env-{self.leases}", 100.0, [Wanted("web-0", IMAGE)])
            self.look()
            self.hand_over(self.metal.get("m1"))

    @rule()
    def give_back(self) -> None:
        lease = self.metal.get("m1").lease
        if lease is not None:
            self.metal.stock.give_back(lease.environment, None)
            self.look()

    @rule()
    def clean(self) -> None:
        self.metal.care.clean(PROVIDER, "m1")
        self.look()

    @rule(which=st.integers(0, 20))
    def act_late(self, which: int) -> None:
        """Go on with what one was about to do with the machine as one saw it."""
        late = self.seen[which % len(self.seen)]
        with contextlib.suppress(InvalidTransition):
            if late.use is Use.LEASED:
                self.hand_over(late)
            elif late.use is Use.DIRTY:
                self.metal.hands.take_back(late)

    def hand_over(self, one: Registered) -> None:
        assert one.lease is not None
        self.metal.hands.hand_over(one, [f"key of {one.lease.environment}"])

    def look(self) -> None:
        if self.metal.get("m1") != self.seen[-1]:
            self.seen.append(self.metal.get("m1"))

    @invariant()
    def only_whose_it_is_gets_in(self) -> None:
        one, keys = self.metal.get("m1"), self.metal.machines.keys.get("m1", ())
        if one.lease is not None:
            assert keys == (f"key of {one.lease.environment}",)
        elif one.use is Use.FREE:
            assert keys == ()


TestLateHands = LateHands.TestCase


def test_a_cleaning_that_loses_its_machine_every_time_ends() -> None:
    clock = ManualClock()
    metal = in_memory(1, clock)
    metal.stock.claim(OURS, "env-1", 100.0, [Wanted("web-0", IMAGE)])
    metal.stock.give_back("env-1", None)
    metal.machines.dead["m1"] = "it reboots"
    for _ in range(rules.MOST_TRIES - 1):
        metal.care.clean(PROVIDER, "m1")
        assert metal.get("m1").use is Use.DIRTY
        clock.sleep(rules.AGAIN_S)
    metal.care.clean(PROVIDER, "m1")
    assert (metal.get("m1").use, "it reboots" in metal.get("m1").reason) == (Use.QUARANTINED, True)


def test_a_machine_is_cleaned_by_one_at_a_time() -> None:
    clock = ManualClock()
    metal = in_memory(1, clock)
    metal.stock.claim(OURS, "env-1", 100.0, [Wanted("web-0", IMAGE)])
    metal.stock.give_back("env-1", None)
    one = rules.being_cleaned(metal.get("m1"), clock.now())
    assert not rules.may_be_cleaned(one, clock.now())
    assert rules.may_be_cleaned(one, clock.now() + one.reset_s + rules.CLEANING_GRACE_S)


def test_a_machine_that_is_down_keeps_the_end_that_it_knows_and_no_other_does() -> None:
    metal = in_memory(2, ManualClock())
    metal.stock.claim(OURS, "env-1", 100.0, [Wanted("web-0", IMAGE, "m1"), Wanted("web-1", IMAGE, "m2")])
    for name in ("m1", "m2"):
        metal.hands.hand_over(metal.get(name), [])
    metal.stock.opened("env-1", {"m1": "", "m2": ""})
    metal.machines.dead["m2"] = "its power is off"
    metal.stock.change("m2", lambda one: replace(one, fault="its power is off"), "it is down")
    metal.driver().mark_end("env-1", 5000.0)
    assert {name: marks.ends_at for name, marks in metal.machines.marks.items()} == {"m1": 5000.0, "m2": 100.0}
    assert [one.ends_at for one in metal.driver().list().environments] == [5000.0]
    metal.stock.change("m1", lambda one: replace(one, fault="its power is off"), "it is down")
    metal.driver().mark_end("env-1", 9000.0)  # as long as the books tell another end, it is tried again
    assert [one.ends_at for one in metal.driver().list().environments] == [5000.0]


def test_of_the_ends_that_machines_tell_the_latest_counts() -> None:
    metal = in_memory(0)
    ends = {"m1": 100.0, "m2": 5000.0, "m3": 100.0}
    metal.stand(
        *(replace(machine(name), use=Use.LEASED, lease=replace(LEASE, ends_at=at)) for name, at in ends.items())
    )
    assert [one.ends_at for one in metal.driver().list().environments] == [5000.0]
