"""Machines are accepted or not: by what is measured and what the suites say, whoever dies in between."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from pipeline.adapters.transports.memory import Call
from pipeline.domain.acceptances import SUITE, Acceptance, Terms
from pipeline.domain.environments import EnvironmentState
from pipeline.domain.errors import AlreadyExists, InvalidTransition, NotFound, PermanentError, UserError
from pipeline.domain.inventory import QUARANTINE_S, Inventory, Machine, MachineState, Zone
from pipeline.domain.runs import RunState, Verdict
from pipeline.envs.gate import AUDIT, Asking
from pipeline.ports.stores import Delete
from pipeline.ports.verifiers import VerifyResult
from pipeline.stages.acceptances import Wish
from tests.scenarios.player import USUAL
from tests.scenarios.world import World, repository_of

TERMS = Terms(size="small", image="debian-12", profile="steady", at_least=0.8)
WISH = Wish("cloud", "new", TERMS)
BY_ADA = Asking("ada", "its disk was replaced")
OUT = Asking("ada", "a new disk")
REST_S = 30.0


def racks(*states: MachineState) -> Inventory:
    """`new`, and so many others in other states."""
    new = Machine("new", "rack-a", {"vcpu": 8.0})
    others = (Machine(f"m{number}", "rack-b", {"vcpu": 8.0}, state=state) for number, state in enumerate(states, 1))
    return Inventory((new, *others), (Zone("rack-a"), Zone("rack-b")))


def measuring(share: float) -> dict[str, float]:
    """What a node gets of every promise of `steady`."""
    rates = {"disk_read_iops": 1000, "disk_write_iops": 1000, "disk_read_bytes": 5e7, "disk_write_bytes": 5e7}
    return {**{name: share * rate for name, rate in rates.items()}, "bits": share * 2e8}


def world_of(place: Path, share: float = 1.0, *, suite: bool = True, others: tuple[MachineState, ...] = ()) -> World:
    """`new` is in maintenance; its nodes get this share of what they are promised."""
    world = World(str(place))
    world.inventories.sync("cloud", racks(*(others or (MachineState.IN_SERVICE,))))
    world.inventories.set_state("cloud", "new", MachineState.MAINTENANCE, OUT)
    world.suites.answers[SUITE.path] = VerifyResult(suite, "7 passed" if suite else "1 failed, 6 passed")

    def answer(call: Call) -> int:
        call.output(json.dumps(measuring(share)).encode())
        return 0

    world.program("^python3 -", answer)
    return world


def accepted(world: World, wish: Wish = WISH) -> Acceptance:
    asked = world.acceptances.ask(wish, BY_ADA)
    world.settle()
    world.advance(REST_S)
    return world.books.acceptances.get(asked.id).value


def machine(world: World, name: str = "new") -> Machine:
    return world.inventories.view("cloud").inventory.machine(name)


def nothing_is_left(world: World) -> bool:
    return not world.cloud.marks and all(one.final for one in world.all_environments())


def places_of_nodes(world: World) -> dict[str, str]:
    (environment,) = world.all_environments()
    return {node.name: node.machine for node in environment.nodes}


def test_a_machine_that_keeps_its_promises_goes_into_service(tmp_path: Path) -> None:
    world = world_of(tmp_path)
    done = accepted(world)
    assert (done.verdict, done.environment) == (Verdict.PASSED, world.all_environments()[0].id)
    assert places_of_nodes(world) == {"machine-0": "new", "peer-0": "m1"}
    assert {one.node for one in done.measured} == {"machine-0"}
    assert {one.direction: one.ratio for one in done.measured} == dict.fromkeys(
        ("disk_read_iops", "disk_write_iops", "disk_read_bytes", "disk_write_bytes", "network_in", "network_out"), 1.0
    )
    now = machine(world)
    assert (now.state, now.state_reason) == (MachineState.IN_SERVICE, done.summary)
    assert done.id in done.summary
    assert nothing_is_left(world)


@pytest.mark.parametrize(("share", "state"), [(1.0, MachineState.IN_SERVICE), (0.5, MachineState.QUARANTINED)])
def test_a_quarantine_does_not_end_while_its_machine_is_measured(
    share: float, state: MachineState, tmp_path: Path
) -> None:
    world = world_of(tmp_path, share)
    world.inventories.set_state("cloud", "new", MachineState.IN_SERVICE, OUT)
    world.inventories.quarantine("cloud", "new", Asking("tick", "its builds failed"))
    world.clock.sleep(QUARANTINE_S - 10.0)
    world.cloud.slow = True
    asked = world.acceptances.ask(WISH, BY_ADA)
    world.advance(20.0)
    assert machine(world).state is MachineState.QUARANTINED
    world.cloud.finish()
    world.advance(REST_S)
    now = machine(world)
    assert (now.state, now.probation, now.back_at) == (state, False, None)
    assert now.state_reason == world.books.acceptances.get(asked.id).value.summary


def test_it_is_told_in_events_and_in_the_audit(tmp_path: Path) -> None:
    world = world_of(tmp_path)
    done = accepted(world)
    assert [event.type for event in world.store.events(done.id)] == ["acceptance.asked", "acceptance.passed"]
    told = [event.type for event in world.store.events("machines")]
    assert told == ["machine.maintenance", "acceptance.asked", "acceptance.passed", "machine.in-service"]
    audit = [
        (event.data["who"], event.data["why"]) for event in world.store.events(AUDIT) if event.type == "audit.accept"
    ]
    assert audit == [("ada", BY_ADA.why), ("tick", done.summary)]


@pytest.mark.parametrize(("share", "verdict"), [(0.79, Verdict.FAILED), (0.81, Verdict.PASSED), (1.2, Verdict.FAILED)])
def test_what_is_measured_decides(share: float, verdict: Verdict, tmp_path: Path) -> None:
    world = world_of(tmp_path, share)
    done = accepted(world)
    assert done.verdict is verdict
    assert (machine(world).state is MachineState.IN_SERVICE) is (verdict is Verdict.PASSED)
    assert nothing_is_left(world)


def test_a_machine_whose_suite_fails_stays_out_and_says_why(tmp_path: Path) -> None:
    world = world_of(tmp_path, suite=False)
    done = accepted(world)
    assert done.verdict is Verdict.FAILED
    now = machine(world)
    assert (now.state, now.state_reason) == (MachineState.MAINTENANCE, done.summary)
    assert "1 failed, 6 passed" in now.state_reason
    assert nothing_is_left(world)


def test_tests_of_a_repository_judge_as_well(tmp_path: Path) -> None:
    world = world_of(tmp_path)
    tests = [{"testinfra": "infra", "roles": ["web"]}, {"run": "lshw", "on": "web[0]"}]
    blueprint = {**USUAL, "deploy": [], "test": tests, "environment": {"image": "debian-12", "roles": {"web": {}}}}
    world.repositories.commit(repository_of("ops"), "main", {"greenroom.yml": json.dumps(blueprint).encode()})
    world.suites.answers["infra"] = VerifyResult(False, "no second disk")
    world.program("lshw", lambda call: int(call.node != "machine-0"))
    done = accepted(world, Wish("cloud", "new", TERMS, repository=repository_of("ops"), ref="main"))
    assert (done.verdict, done.reason) == (Verdict.FAILED, "test: no second disk")
    assert done.terms.tests.startswith(f"{repository_of('ops')}@")


def test_the_tests_of_a_projects_own_repository_need_its_name_alone(tmp_path: Path) -> None:
    world = world_of(tmp_path)
    world.project("shop")
    world.repositories.commit(repository_of("shop"), "main", {"greenroom.yml": json.dumps(USUAL).encode()})
    world.program(r"\./check", lambda _: 1)
    done = accepted(world, Wish("cloud", "new", TERMS, project="shop", ref="main"))
    assert done.terms.tests.startswith(f"{repository_of('shop')}@")
    assert (done.verdict, done.reason) == (Verdict.FAILED, "test: machine-0: exit status 1")


def test_an_acceptance_whose_run_was_forgotten_ends(tmp_path: Path) -> None:
    world = world_of(tmp_path)
    asked = world.acceptances.ask(WISH, BY_ADA)
    run = world.books.runs.get(asked.run)
    world.books.commit(Delete("run", asked.run, run.version))
    world.settle()
    done = world.books.acceptances.get(asked.id).value
    assert (done.verdict, done.reason) == (Verdict.ERROR, f"run {asked.run} was forgotten")
    assert machine(world).state is MachineState.MAINTENANCE


def test_a_cloud_that_is_down_says_nothing_of_the_machine(tmp_path: Path) -> None:
    world = world_of(tmp_path)
    before = machine(world)
    world.cloud.fail_create += [PermanentError("the cloud is down")]
    done = accepted(world)
    assert (done.verdict, "the cloud is down" in done.reason) == (Verdict.ERROR, True)
    assert machine(world) == before
    told = world.store.events(AUDIT)[-1]
    assert (told.type, told.data["target"], told.data["why"]) == ("audit.accept", "machine cloud/new", done.summary)
    assert nothing_is_left(world)


@pytest.mark.parametrize(("bad", "verdict"), [(("new",), Verdict.FAILED), (("new", "m1"), Verdict.ERROR)])
def test_a_machine_on_which_alone_nodes_do_not_boot_fails(
    bad: tuple[str, ...], verdict: Verdict, tmp_path: Path
) -> None:
    world = world_of(tmp_path)
    world.cloud.bad_machines.update(dict.fromkeys(bad, "no bootable disk"))
    done = accepted(world)
    assert done.verdict is verdict
    assert "no bootable disk" in done.reason
    assert (machine(world).state_reason == done.summary) is (verdict is Verdict.FAILED)
    assert nothing_is_left(world)


def test_a_cancelled_run_says_nothing_of_the_machine(tmp_path: Path) -> None:
    world = world_of(tmp_path)
    before = machine(world)
    asked = world.acceptances.ask(WISH, BY_ADA)
    world.control.cancel(asked.run, Asking("ada", "not today"))
    world.advance(REST_S)
    done = world.books.acceptances.get(asked.id).value
    assert (done.verdict, done.reason) == (Verdict.ERROR, "not today")
    assert machine(world) == before


def test_whoever_changes_the_state_meanwhile_has_the_last_word(tmp_path: Path) -> None:
    world = world_of(tmp_path)
    asked = world.acceptances.ask(WISH, BY_ADA)
    world.clock.sleep(1)
    world.inventories.set_state("cloud", "new", MachineState.QUARANTINED, Asking("eve", "it smokes"))
    world.advance(REST_S)
    assert world.books.acceptances.get(asked.id).value.verdict is Verdict.PASSED
    assert (machine(world).state, machine(world).state_reason) == (MachineState.QUARANTINED, "it smokes")


def test_without_another_machine_its_network_is_measured_on_it(tmp_path: Path) -> None:
    world = world_of(tmp_path, others=(MachineState.DRAINING,))
    done = accepted(world)
    assert done.verdict is Verdict.PASSED
    assert places_of_nodes(world) == {"machine-0": "new", "peer-0": "new"}
    assert "no other machine is in service" in done.notes[0]


def test_everybody_else_is_still_refused_there(tmp_path: Path) -> None:
    world = world_of(tmp_path, suite=False, others=(MachineState.DRAINING,))
    world.project("shop")
    roles = {"version": 1, "service": "shop", "environment": {"image": "debian-12", "roles": {"web": {}}}, "test": []}
    world.push("shop", roles)
    world.settle()
    accepted(world)
    (waiting,) = [one for one in world.all_environments() if one.project == "shop"]
    assert waiting.state is EnvironmentState.REQUESTED
    assert "maintenance" in waiting.reason


def test_the_run_of_an_acceptance_is_not_run_again(tmp_path: Path) -> None:
    world = world_of(tmp_path, suite=False)
    done = accepted(world)
    with pytest.raises(InvalidTransition, match="ask for another acceptance"):
        world.control.rerun(done.run, None)


def test_what_makes_no_sense_is_refused(tmp_path: Path) -> None:
    world = world_of(tmp_path)
    for wish, error, says in (
        (Wish("cloud", "m1", TERMS), InvalidTransition, "greenroom machine maintenance m1"),
        (Wish("cloud", "m9", TERMS), NotFound, "no machine m9"),
        (Wish("moon", "new", TERMS), UserError, "no provider 'moon'"),
        (Wish("cloud", "new", TERMS, project="none"), NotFound, "no project none"),
        (Wish("cloud", "new", Terms("huge", "debian-12", "steady", 0.8)), UserError, "known are tiny, small"),
        (Wish("cloud", "new", Terms("small", "debian-12", "mad", 0.8)), UserError, "known are frugal, steady"),
        (Wish("cloud", "new", Terms("small", "debian-12", "steady", 8)), UserError, "at most 1"),
        (Wish("cloud", "new", Terms("small", "debian-12", "steady", 0.8, peer="new")), UserError, "itself"),
        (Wish("cloud", "new", TERMS, repository="--upload-pack=x"), UserError, "upload-pack"),
        (Wish("cloud", "new", TERMS, ref="main"), UserError, "a project that has one"),
    ):
        with pytest.raises(error, match=says):
            world.acceptances.ask(wish, BY_ADA)
    assert not world.all_runs()


def test_a_machine_is_not_judged_by_a_node_that_may_stand_on_another(tmp_path: Path) -> None:
    """Such a provider keeps to zones: a machine is accepted where it is alone in its own."""
    world = world_of(tmp_path)
    world.cloud.exact = False
    assert world.acceptances.ask(WISH, BY_ADA)
    neighbours = (Machine(name, "rack-a", {"vcpu": 8.0}) for name in ("m2", "m3"))
    world.inventories.sync("cloud", Inventory((*racks(MachineState.IN_SERVICE).machines, *neighbours), racks().zones))
    with pytest.raises(UserError, match=r"might stand on m2, m3 instead of new.*`choose_machine`"):
        world.acceptances.ask(WISH, BY_ADA)


def test_a_machine_is_accepted_once_at_a_time(tmp_path: Path) -> None:
    world = world_of(tmp_path, suite=False)
    first = world.acceptances.ask(WISH, BY_ADA)
    with pytest.raises(AlreadyExists, match=f"accepted by {first.id}"):
        world.acceptances.ask(WISH, BY_ADA)
    world.advance(REST_S)
    assert world.acceptances.ask(WISH, BY_ADA).id != first.id


def test_a_dry_run_stores_no_acceptance(tmp_path: Path) -> None:
    world = world_of(tmp_path)
    world.acceptances.ask(WISH, Asking("ada", "a look", dry_run=True))
    world.settle()
    assert not world.all_runs()
    assert not world.books.acceptances.in_index("acceptances")
    assert world.store.events(AUDIT)[-1].data["dry_run"] is True


PLACES = {
    "worker before write": 20,
    "worker after write": 20,
    "tick before write": 4,
    "tick after write": 4,
    "before create": 1,
    "after create": 1,
    "before destroy": 1,
    "after destroy": 1,
}
KILLS = [(place, time) for place, count in PLACES.items() for time in range(1, count + 1)]


def test_the_places_are_all_there(tmp_path: Path) -> None:
    world = world_of(tmp_path)
    accepted(world)
    passed = Counter(world.grave.passed)
    assert {place: passed[place] for place in PLACES if not 0 < passed[place] <= PLACES[place]} == {}


@pytest.mark.parametrize("suite", [True, False])
@pytest.mark.parametrize(("place", "time"), KILLS, ids=str)
def test_whoever_dies_the_verdict_is_the_same_and_nothing_is_left(
    place: str, time: int, suite: bool, tmp_path: Path
) -> None:
    world = world_of(tmp_path, suite=suite)
    world.grave.dig(place, time)
    asked = world.acceptances.ask(WISH, BY_ADA)
    world.settle()
    world.advance(2 * REST_S)
    done = world.books.acceptances.get(asked.id).value
    assert done.verdict is (Verdict.PASSED if suite else Verdict.FAILED), done.reason
    assert machine(world).state is (MachineState.IN_SERVICE if suite else MachineState.MAINTENANCE)
    assert machine(world).state_reason == done.summary
    assert [one.state for one in world.all_runs()] == [RunState.FINISHED]
    assert nothing_is_left(world)
