"""What an acceptance delivers, who may stand where for it, and what its verdict makes of the machine."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline.domain.acceptances import (
    MACHINE,
    PEER,
    SERVICE,
    SUITE,
    Acceptance,
    Terms,
    admitted,
    blueprint_of,
    check_acceptable,
    check_profile,
    concluded,
    decided,
    peer_rules,
)
from pipeline.domain.blueprint import (
    Blueprint,
    CommandSpec,
    EnvironmentSpec,
    Priority,
    QosSpec,
    RoleSpec,
    TestinfraSpec,
)
from pipeline.domain.changes import REPORTED
from pipeline.domain.environments import Environment, EnvironmentState, planned_nodes
from pipeline.domain.errors import InvalidTransition, UserError
from pipeline.domain.inventory import Inventory, Machine, MachineKind, MachineState, Zone
from pipeline.domain.placement import engine
from pipeline.domain.placement.fleet import Fleet
from pipeline.domain.placement.keeping import lost_place
from pipeline.domain.placement.model import Infeasible, Placed, Unschedulable
from pipeline.domain.placement.requests import request_of, with_placement
from pipeline.domain.preemption import may_preempt
from pipeline.domain.promises import Measured
from pipeline.domain.qos import PROFILES, QosProfile
from pipeline.domain.rules import Affinity, Attribute, PlacementRules, Stance
from pipeline.domain.runs import Run, RunState, Stop, StopKind, TestCounts, Verdict
from pipeline.domain.triggers import Trigger, TriggerKind

S = MachineState
TERMS = Terms("small", "debian-12", "steady", 0.8)
STEADY = PROFILES["steady"]
TRIGGER = Trigger(TriggerKind.API, "plain", "", "")
ASKED = Acceptance("acc-1", "lab", "new", "ada", "a new disk", "run-1", TERMS, asked_at=10.0, state_since=5.0)
KEPT = (Measured("machine-0", "network_in", 100, 90.0, 0.8),)


def lab(
    new: MachineState = S.MAINTENANCE, *others: MachineState, kind: MachineKind = MachineKind.HYPERVISOR
) -> Inventory:
    made = [Machine("new", "rack-a", {"vcpu": 4.0}, state=new, state_since=5.0, kind=kind)]
    made += [Machine(f"m{number}", "rack-a", {"vcpu": 4.0}, state=state) for number, state in enumerate(others, 1)]
    return Inventory(tuple(made), (Zone("rack-a"),))


def environment(blueprint: Blueprint) -> Environment:
    return Environment(
        id="env-1",
        project="",
        service=SERVICE,
        owner="run-1",
        provider="lab",
        state=EnvironmentState.REQUESTED,
        nodes=planned_nodes(blueprint.environment),
        priority=Priority.INTERACTIVE,
        created_at=0.0,
        state_since=0.0,
        ends_at=100.0,
        rules=blueprint.environment.rules,
    )


def accepting(inventory: Inventory, terms: Terms = TERMS) -> Environment:
    peer, _ = peer_rules(terms, inventory.machine("new"), inventory)
    return environment(blueprint_of(terms, "new", STEADY, peer, "lab"))


@pytest.mark.parametrize("state", S)
def test_only_what_somebody_took_out_is_accepted(state: MachineState) -> None:
    machine = lab(state).machine("new")
    if state in {S.MAINTENANCE, S.QUARANTINED}:
        check_acceptable(machine)
    else:
        with pytest.raises(InvalidTransition, match="put it into maintenance"):
            check_acceptable(machine)


def test_a_machine_that_is_out_in_the_cloud_itself_is_put_in_there_first() -> None:
    machine = replace(lab().machine("new"), state_reason=f"{REPORTED}disabled, new")
    with pytest.raises(InvalidTransition, match="greenroom cloud machine-in new"):
        check_acceptable(machine)


def test_its_run_measures_and_runs_the_suites_on_the_one_node() -> None:
    more = (TestinfraSpec("infra", roles=("web",)), CommandSpec("true", on="web[0]"))
    made = blueprint_of(TERMS, "new", STEADY, PlacementRules(), "lab", more)
    assert made.test == (
        QosSpec(MACHINE, 0.8), SUITE, TestinfraSpec("infra", roles=(MACHINE,)), CommandSpec("true", on=MACHINE),
    )  # fmt: skip
    assert made.environment.node_names == ("machine-0", "peer-0")


@pytest.mark.parametrize(
    ("others", "place"), [((S.IN_SERVICE,), "m1"), ((S.DRAINING, S.IN_SERVICE), "m2"), ((S.DOWN,), "new"), ((), "new")]
)
def test_the_peer_stands_on_another_machine_in_service_where_there_is_one(
    others: tuple[MachineState, ...], place: str
) -> None:
    inventory = lab(S.MAINTENANCE, *others)
    answer = engine.decide(Fleet(inventory), request_of(accepting(inventory)), 0.0)
    assert isinstance(answer, Placed)
    assert answer.machines == {MACHINE: ("new",), PEER: (place,)}


def test_the_peer_may_be_named() -> None:
    inventory = lab(S.MAINTENANCE, S.IN_SERVICE, S.IN_SERVICE, S.DRAINING)
    rules, note = peer_rules(replace(TERMS, peer="m2"), inventory.machine("new"), inventory)
    assert (rules.affinities[0].stance, rules.affinities[0].values, note) == (Stance.REQUIRE, ("m2",), "")
    with pytest.raises(UserError, match="peer m3 is draining"):
        peer_rules(replace(TERMS, peer="m3"), inventory.machine("new"), inventory)


def test_bare_metal_alone_cannot_be_measured() -> None:
    inventory = lab(S.MAINTENANCE, kind=MachineKind.BARE_METAL)
    with pytest.raises(UserError, match="no other machine is in service"):
        peer_rules(TERMS, inventory.machine("new"), inventory)


def test_only_the_role_that_is_admitted_gets_in_though_it_asks_for_the_same() -> None:
    """The kept shape of one must not serve the other, whichever came first."""
    fleet = Fleet(lab())
    there = Affinity(Stance.REQUIRE, Attribute.MACHINE, ("new",), "its acceptance")

    def asks(rules: PlacementRules) -> Environment:
        spec = EnvironmentSpec("debian-12", (RoleSpec(MACHINE, rules=rules),), "lab")
        return environment(Blueprint(SERVICE, spec))

    let_in, others = asks(admitted("new")), asks(PlacementRules((there,)))
    for _ in range(2):
        assert isinstance(engine.decide(fleet, request_of(let_in), 0.0), Placed)
        refused = engine.decide(fleet, request_of(others), 0.0)
        assert isinstance(refused, Unschedulable)
        assert "maintenance" in refused.explanation.groups[0].why
    elsewhere = asks(replace(admitted("new"), admitted="gone"))
    assert isinstance(engine.decide(fleet, request_of(elsewhere), 0.0), Unschedulable | Infeasible)


def test_its_place_is_kept_though_the_machine_is_out() -> None:
    inventory = lab()
    fleet, asked = Fleet(inventory), accepting(inventory)
    answer = engine.decide(fleet, request_of(asked), 0.0)
    assert isinstance(answer, Placed)
    placed = with_placement(asked, answer, {"new": "rack-a"}, 0.0)
    assert lost_place(fleet, placed) == ""
    nobody = {role: replace(rules, admitted="") for role, rules in placed.rules.roles.items()}
    assert "is maintenance" in lost_place(fleet, replace(placed, rules=replace(placed.rules, roles=nobody)))


def test_it_takes_nobodys_place() -> None:
    asked = accepting(lab())
    assert not may_preempt(asked)
    assert may_preempt(replace(asked, rules=replace(asked.rules, roles={})))


def over(verdict: Verdict, **changes: object) -> Run:
    run = Run("run-1", "", TRIGGER, RunState.FINISHED, 10.0, verdict=verdict, reason="why", environment_id="env-1")
    return replace(run, **changes)  # type: ignore[arg-type]  # dataclasses.replace is not generic in its fields


def gone(fault: str, avoid: tuple[str, ...], peer: str = "m1") -> Environment:
    made = accepting(lab(S.MAINTENANCE, S.IN_SERVICE))
    nodes = [replace(node, machine="new" if node.role == MACHINE else peer) for node in made.nodes]
    return replace(made, fault=fault, avoid=avoid).with_nodes(nodes)


@pytest.mark.parametrize(
    ("run", "delivered", "verdict"),
    [
        (over(Verdict.PASSED), gone("", ()), Verdict.PASSED),
        (over(Verdict.FAILED), gone("", ()), Verdict.FAILED),
        (over(Verdict.ERROR), None, Verdict.ERROR),
        (over(Verdict.ERROR), gone("", ()), Verdict.ERROR),
        (over(Verdict.ERROR), gone("no disk", ("new",)), Verdict.FAILED),
        (over(Verdict.ERROR), gone("no disk", ("m1", "new")), Verdict.ERROR),
        (over(Verdict.ERROR), gone("no disk", ("new",), peer="new"), Verdict.ERROR),
        (over(Verdict.CANCELLED), gone("", ()), Verdict.ERROR),
        (over(Verdict.CANCELLED, stop=Stop(StopKind.CANCEL, "", 9.0)), gone("no disk", ("new",)), Verdict.ERROR),
    ],
)
def test_only_what_the_machine_did_is_its_fault(run: Run, delivered: Environment | None, verdict: Verdict) -> None:
    done = concluded(ASKED, run, delivered, 20.0)
    assert (done.verdict, done.finished_at, done.reason, done.open) == (verdict, 20.0, "why", False)


def test_what_was_measured_and_which_tests_failed_is_kept() -> None:
    run = over(Verdict.FAILED, measured=KEPT, tests=TestCounts(passed=6, failed=1))
    done = concluded(ASKED, run, None, 20.0, ["test_clock_is_right"])
    assert (done.measured, done.tests.failed, done.reason) == (KEPT, 1, "why (test_clock_is_right)")
    assert done.summary == "acceptance acc-1 failed: why (test_clock_is_right)"


def ended(verdict: Verdict) -> Acceptance:
    return replace(ASKED, verdict=verdict, reason="why")


@pytest.mark.parametrize("state", [S.MAINTENANCE, S.QUARANTINED])
def test_the_verdict_decides_on_the_state(state: MachineState) -> None:
    machine = replace(lab(state).machine("new"), back_at=99.0 if state is S.QUARANTINED else None)
    passed, failed, error = (
        decided(ended(one), machine, 20.0) for one in (Verdict.PASSED, Verdict.FAILED, Verdict.ERROR)
    )
    assert (passed.state, passed.state_reason[:8], passed.back_at) == (S.IN_SERVICE, "accepted", None)
    assert (failed.state, failed.state_since, failed.back_at) == (state, 5.0, None)
    assert failed.state_reason == "acceptance acc-1 failed: why"
    assert error == machine


def test_somebody_who_changed_the_state_meanwhile_has_the_last_word() -> None:
    machine = replace(lab().machine("new"), state_since=6.0)
    assert decided(ended(Verdict.PASSED), machine, 20.0) == machine
    assert decided(ended(Verdict.FAILED), machine, 20.0) == machine


def test_a_quarantine_that_ended_by_itself_meanwhile_decides_nothing() -> None:
    back = replace(lab(S.IN_SERVICE).machine("new"), state_since=15.0, probation=True)
    trusted, out = decided(ended(Verdict.PASSED), back, 20.0), decided(ended(Verdict.FAILED), back, 20.0)
    assert (trusted.state, trusted.probation) == (S.IN_SERVICE, False)
    assert (out.state, out.back_at, out.probation) == (S.QUARANTINED, None, False)


@pytest.mark.parametrize(
    ("measured", "at_least", "kept"),
    [(90, 0.9, True), (89, 0.9, False), (80, 0.8, True), (110, 0.8, True), (111, 0.8, False)],
)
def test_a_promise_is_kept_from_what_is_enough_to_a_tenth_above(measured: float, at_least: float, kept: bool) -> None:
    assert Measured("machine-0", "network_in", 100, measured, at_least).kept is kept


def test_a_profile_without_bounds_is_no_promise() -> None:
    check_profile("steady", STEADY)
    with pytest.raises(UserError, match="promises neither disk nor network"):
        check_profile("loose", QosProfile(cpu_shares=1024))
