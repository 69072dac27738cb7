"""The acceptance of a machine: what is delivered on it before it goes into service, and how the result decides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from pipeline.domain.blueprint import Blueprint, CommandSpec, EnvironmentSpec, QosSpec, RoleSpec, TestinfraSpec
from pipeline.domain.changes import is_reported
from pipeline.domain.environments import Environment
from pipeline.domain.errors import InvalidTransition, UserError
from pipeline.domain.inventory import WHOLE, Inventory, Machine, MachineState
from pipeline.domain.promises import DISK, NETWORK, Measured, promised
from pipeline.domain.qos import QosProfile
from pipeline.domain.resources import SIZES
from pipeline.domain.rules import Affinity, Attribute, PlacementRules, Stance
from pipeline.domain.runs import Run, TestCounts, Verdict

#: The roles of its two nodes: the one that is judged, and the one with which its network is measured.
MACHINE, PEER = "machine", "peer"
SERVICE = "acceptance"
#: The suite that comes with Greenroom.
SUITE = TestinfraSpec("test_machine.py", roles=(MACHINE,), timeout_s=300.0, silence_s=120.0, shipped=True)
TIMEOUT_S = 1800.0
#: What is asked of a machine where nothing else is said.
SIZE, IMAGE, PROFILE, AT_LEAST = "small", "debian-12", "steady", 0.8
#: Only a machine that somebody took out of service is accepted.
ACCEPTABLE = frozenset({MachineState.MAINTENANCE, MachineState.QUARANTINED})
#: Failed tests that a reason names.
MOST_NAMED = 5
Entry = TestinfraSpec | CommandSpec | QosSpec


@dataclass(frozen=True)
class Terms:
    """What is asked of the machine: a node of this size and image, promised `profile`, of which `at_least` is enough.

    `peer`: the machine of the other node; empty: any other one in service. `tests`: whose suites run beside ours, as
    `repository@sha`, empty for none.
    """

    size: str
    image: str
    profile: str
    at_least: float
    peer: str = ""
    tests: str = ""


@dataclass(frozen=True)
class Acceptance:
    """One acceptance, which `run` carries out. Times are seconds since the epoch.

    `state_since` is the machine's when it was asked for: whoever changes its state in between has the last word.
    `notes` are what a person should know besides. `verdict` None: it goes on.
    """

    id: str
    provider: str
    machine: str
    who: str
    why: str
    run: str
    terms: Terms
    asked_at: float
    state_since: float
    notes: tuple[str, ...] = ()
    environment: str = ""
    finished_at: float | None = None
    verdict: Verdict | None = None
    reason: str = ""
    tests: TestCounts = field(default_factory=TestCounts)
    measured: tuple[Measured, ...] = ()

    @property
    def open(self) -> bool:
        return self.verdict is None

    @property
    def summary(self) -> str:
        """What came of it, as the reason of the machine's state."""
        if self.verdict is Verdict.PASSED:
            return f"accepted ({self.id}): {self.tests.passed} tests passed, {len(self.measured)} promises kept"
        return f"acceptance {self.id} {self.verdict}: {self.reason}"


def check_acceptable(machine: Machine) -> None:
    """InvalidTransition when the machine is in a state in which it is not accepted."""
    if machine.state not in ACCEPTABLE:
        first = f"`greenroom machine maintenance {machine.name} --reason WHY` first"
        raise InvalidTransition(f"machine {machine.name} is {machine.state}: put it into maintenance, {first}")
    if is_reported(machine):
        told = f"machine {machine.name} is out of service in the cloud itself ({machine.state_reason})"
        after = f"`greenroom cloud machine-in {machine.name}`, then `greenroom machine maintenance {machine.name}`"
        raise InvalidTransition(f"{told}, so no node can be delivered there: {after} keeps out our nodes alone")


def beside(machine: Machine, inventory: Inventory) -> list[str]:
    """The machines that a node may stand on instead where only its zone is kept to; none for a registered machine."""
    others = (one for one in inventory.machines if one.zone == machine.zone and one.name != machine.name)
    return [] if machine.registered else [one.name for one in others if not one.registered]


def check_terms(terms: Terms) -> None:
    """UserError says what of the terms makes no sense."""
    if terms.size not in SIZES:
        raise UserError(f"size {terms.size!r}: there is no such size; known are {', '.join(SIZES)}")
    if not 0 < terms.at_least <= 1:
        raise UserError(f"at least {terms.at_least:g} of a promise: expected more than 0, and at most 1")


def check_profile(name: str, profile: QosProfile) -> None:
    """UserError when a profile promises nothing that could be measured."""
    if not promised(profile, (*DISK, *NETWORK)):
        raise UserError(f"qos {name!r} promises neither disk nor network rates; name a profile that does")


def peer_rules(terms: Terms, machine: Machine, inventory: Inventory) -> tuple[PlacementRules, str]:
    """Where the other node stands, and what a person should know of it; UserError when there is no place for it.

    It stands on another machine in service; where there is none, on the machine itself, unless that is leased whole.
    """
    if terms.peer:
        other = inventory.machine(terms.peer)
        if other.name == machine.name or other.state is not MachineState.IN_SERVICE:
            what = "the machine itself" if other.name == machine.name else other.state
            raise UserError(f"peer {other.name} is {what}; name another machine that is in service")
        return PlacementRules((_on(Stance.REQUIRE, other.name),)), ""
    others = [one for one in inventory.machines if one.state is MachineState.IN_SERVICE]
    if others:
        return PlacementRules((_on(Stance.FORBID, machine.name),)), ""
    if machine.kind in WHOLE:
        raise UserError(f"no other machine is in service: the network of {machine.name} cannot be measured")
    note = "no other machine is in service: its network was measured between two nodes on it"
    return admitted(machine.name), note


def admitted(machine: str) -> PlacementRules:
    """The permission to stand on a machine out of service, and nowhere else; nobody but an acceptance gives it."""
    return PlacementRules((_on(Stance.REQUIRE, machine),), admitted=machine)


def _on(stance: Stance, machine: str) -> Affinity:
    return Affinity(stance, Attribute.MACHINE, (machine,), "its acceptance")


def blueprint_of(
    terms: Terms, machine: str, qos: QosProfile, peer: PlacementRules, provider: str, more: Sequence[Entry] = ()
) -> Blueprint:
    """What the run of an acceptance delivers and tests; `more` are the tests of a repository."""
    node = RoleSpec(MACHINE, size=terms.size, qos=qos, rules=admitted(machine))
    other = RoleSpec(PEER, size=terms.size, qos=qos, rules=peer)
    own: tuple[Entry, ...] = (QosSpec(MACHINE, terms.at_least), SUITE)
    spec = EnvironmentSpec(terms.image, (node, other), provider)
    return Blueprint(SERVICE, spec, test=(*own, *map(_on_the_machine, more)), timeout_s=TIMEOUT_S)


def _on_the_machine(entry: Entry) -> Entry:
    """A test of a repository, run on the node that is judged."""
    if isinstance(entry, TestinfraSpec):
        return replace(entry, roles=(MACHINE,))
    return replace(entry, on=MACHINE) if isinstance(entry, CommandSpec) else replace(entry, qos=MACHINE)


def concluded(
    acceptance: Acceptance, run: Run, environment: Environment | None, now: float, failed_tests: Sequence[str] = ()
) -> Acceptance:
    """The acceptance with its verdict, of a run that is over and whose nodes are gone; the reason names failed tests.

    What failed on our side says nothing of the machine: only what was measured, what the suites found, and nodes that
    were built elsewhere and not on it.
    """
    verdict = run.verdict or Verdict.ERROR
    if verdict not in {Verdict.PASSED, Verdict.FAILED}:
        failed = run.stop is None and environment is not None and _failed_there(environment, acceptance.machine)
        verdict = Verdict.FAILED if failed else Verdict.ERROR
    return replace(
        acceptance,
        environment=run.environment_id,
        finished_at=now,
        verdict=verdict,
        reason=f"{run.reason} ({', '.join(failed_tests[:MOST_NAMED])})" if failed_tests else run.reason,
        tests=run.tests,
        measured=run.measured,
    )


def lost(acceptance: Acceptance, now: float) -> Acceptance:
    """The acceptance whose run was forgotten before anybody looked at it."""
    return replace(acceptance, finished_at=now, verdict=Verdict.ERROR, reason=f"run {acceptance.run} was forgotten")


def _failed_there(environment: Environment, machine: str) -> bool:
    """Whether its nodes were given up for what failed on this machine alone, and another one could have failed, too."""
    elsewhere = any(node.machine not in {"", machine} for node in environment.nodes)
    return bool(environment.fault) and environment.avoid == (machine,) and elsewhere


def decided(acceptance: Acceptance, machine: Machine, now: float) -> Machine:
    """The machine as the verdict leaves it; unchanged after an error, or when somebody changed its state meanwhile.

    A quarantine that ends by itself ends by hand alone after a failure, and begins anew where it had just ended.
    """
    as_it_was = machine.state in ACCEPTABLE and machine.state_since == acceptance.state_since
    if acceptance.verdict is Verdict.ERROR or not (as_it_was or machine.probation):
        return machine
    if acceptance.verdict is Verdict.PASSED:
        return machine.to(MachineState.IN_SERVICE, now, acceptance.summary)
    if machine.probation:
        return machine.to(MachineState.QUARANTINED, now, acceptance.summary)
    return replace(machine, state_reason=acceptance.summary, back_at=None)
