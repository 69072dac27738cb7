"""Acts on a cloud: each passes the gate, is verified, and says what came of it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest

from pipeline.adapters.clock import ManualClock, RandomIds
from pipeline.adapters.clouds.memory import MemoryEstate, MemorySky
from pipeline.adapters.drivers.memory import MemoryCloud, MemoryDriver
from pipeline.adapters.stores.memory import MemoryStore
from pipeline.adapters.transports.memory import MemoryTransport
from pipeline.domain.cloud_acts import CloudAct, CloudObject, ObjectKind, Verb
from pipeline.domain.errors import PermanentError, TransientError, UserError
from pipeline.domain.inventory import Inventory, Machine, MachineState, Zone
from pipeline.domain.leftovers import SECOND_SIGHTING_S, Thing, ThingKind
from pipeline.domain.moving_off import Policy
from pipeline.envs.books import Books
from pipeline.envs.cloud_acts import GONE_S, LOST_S, CloudActs
from pipeline.envs.gate import AUDIT, Asking, Gate
from pipeline.envs.inventories import Inventories
from pipeline.envs.leftovers import Leftovers
from pipeline.envs.moving_off import MovingOff
from pipeline.envs.providers import Provider
from pipeline.envs.removals import Removals
from tests.unit.test_drift import NODE, environment

FLAVOR = CloudObject(ObjectKind.FLAVOR, "f-1", "m1.tiny")
MACHINE = CloudObject(ObjectKind.MACHINE, "s-1", "rack-1-a")
SERVER = "server web-0 (id-1) of project shop"
WHY = Asking("alice", "it is old")


@dataclass
class Scene:
    """A provider with one machine, one flavor, and whoever uses them."""

    estate: MemoryEstate = field(default_factory=lambda: MemoryEstate({one.id: one for one in (FLAVOR, MACHINE)}))

    def __post_init__(self) -> None:
        self.clock = ManualClock(1000.0)
        self.books = Books(MemoryStore(self.clock))
        gate = Gate(self.books, self.clock)
        self.inventories = Inventories(self.books, self.clock, gate)
        self.inventories.sync("cloud", Inventory((Machine("rack-1-a", "rack-1", {}),), (Zone("rack-1"),)))
        self.cloud = MemoryCloud()
        driver, transport = MemoryDriver(self.cloud, "scene"), MemoryTransport(self.clock)
        self.driver, self.sky = driver, MemorySky()
        self.gate, self.transport = gate, transport
        self.acts = self.acts_of(Provider("cloud", driver, transport, cloud=self.sky, estate=self.estate))

    def acts_of(self, provider: Provider) -> CloudActs:
        self.leftovers = Leftovers(self.books, lambda _: provider, self.clock, "scene")
        removals = Removals(self.books, self.gate, self.clock)
        return CloudActs(
            self.books,
            lambda _: provider,
            self.inventories,
            self.leftovers,
            removals,
            MovingOff(self.books, self.inventories, self.gate, self.clock, "scene"),
            self.gate,
            self.clock,
            RandomIds(),
        )

    def act(self, verb: Verb, one: CloudObject, asking: Asking = WHY) -> CloudAct:
        """Ask, and what came of it."""
        id = self.acts.ask("cloud", verb, one.kind, one.name, asking).id
        self.acts.carry_out(id)
        return self.books.cloud_acts.get(id).value

    @property
    def state(self) -> MachineState:
        return self.inventories.view("cloud").inventory.machine("rack-1-a").state

    def stands(self) -> None:
        """In the books a node of ours is on the machine."""
        one = environment(replace(NODE, machine=MACHINE.name, zone="rack-1"), id="env-9")
        self.books.commit(self.books.environments.kind.put(one.id, one, 0))

    def is_in(self, state: MachineState) -> None:
        """By hand, while the cloud lets servers come there."""
        self.inventories.set_state("cloud", MACHINE.name, state, WHY)

    def audited(self) -> list[str]:
        return [event.type for event in self.books.store.events(AUDIT)]


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_what_is_in_use_is_not_deleted_until_it_is_not(scene: Scene) -> None:
    scene.estate.used_by[FLAVOR.id] = [SERVER]
    done = scene.act(Verb.DELETE, FLAVOR)
    assert (done.refused, done.outcome) == ("in-use", "")
    assert SERVER in done.fault
    assert FLAVOR.id in scene.estate.objects
    scene.estate.used_by.clear()
    done = scene.act(Verb.DELETE, FLAVOR)
    assert (done.refused, done.outcome) == ("", "flavor m1.tiny is deleted")
    assert FLAVOR.id not in scene.estate.objects
    assert scene.audited().count("audit.delete-object") == 2


def test_a_dry_run_asks_the_guards_and_deletes_nothing(scene: Scene) -> None:
    done = scene.act(Verb.DELETE, FLAVOR, Asking("alice", "a look", dry_run=True))
    assert "could be deleted" in done.outcome
    assert FLAVOR.id in scene.estate.objects


def test_an_override_deletes_what_is_in_use_and_is_told(scene: Scene) -> None:
    scene.estate.used_by[FLAVOR.id] = [SERVER]
    done = scene.act(Verb.DELETE, FLAVOR, Asking("alice", "it is old", {"in-use": "that server is dead"}))
    assert done.outcome
    [event] = scene.books.store.events(AUDIT)
    assert event.data["overridden"] == {"in-use": "that server is dead"}


def test_what_is_still_there_afterwards_is_a_fault(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scene.estate, "delete", lambda _: None)
    done = scene.act(Verb.DELETE, FLAVOR)
    assert (done.outcome, done.refused) == ("", "")
    assert "still there" in done.fault
    assert scene.clock.now() >= 1000.0 + GONE_S


class Death(BaseException):
    """Of a worker."""


@pytest.mark.parametrize("gone", [False, True])
def test_whoever_dies_while_it_is_deleted_the_next_one_says_what_came_of_it(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, *, gone: bool
) -> None:
    id = scene.acts.ask("cloud", Verb.DELETE, FLAVOR.kind, FLAVOR.name, WHY).id

    def die(one: CloudObject) -> None:
        if gone:
            del scene.estate.objects[one.id]
        raise Death

    with monkeypatch.context() as patch:
        patch.setattr(scene.estate, "delete", die)
        with pytest.raises(Death):
            scene.acts.carry_out(id)
    scene.clock.sleep(LOST_S)
    assert [one.id for one in scene.acts.due()] == [id]
    scene.estate.objects["f-2"] = replace(FLAVOR, id="f-2")  # somebody's new one of the name
    scene.acts.carry_out(id)
    done = scene.books.cloud_acts.get(id).value
    assert (done.outcome, done.fault) == ("flavor m1.tiny is deleted", "")
    assert set(scene.estate.objects) == {MACHINE.id, "f-2"}


@pytest.mark.parametrize(("name", "told"), [("m9", "no flavor 'm9'"), ("m1.tiny", "f-1, f-2")])
def test_a_name_that_is_not_one_object_is_a_fault(scene: Scene, name: str, told: str) -> None:
    scene.estate.objects["f-2"] = CloudObject(ObjectKind.FLAVOR, "f-2", "m1.tiny")
    assert told in scene.act(Verb.DELETE, CloudObject(ObjectKind.FLAVOR, "", name)).fault


def test_a_machine_goes_out_when_nothing_is_on_it_any_more(scene: Scene) -> None:
    scene.estate.used_by[MACHINE.id] = [SERVER]
    done = scene.act(Verb.TAKE_OUT, MACHINE)
    assert done.left == (SERVER,)
    assert (scene.state, scene.estate.out) == (MachineState.DRAINING, {"s-1": "it is old"})
    refused = scene.act(Verb.RESTART_AGENT, MACHINE)
    assert refused.refused
    scene.estate.used_by.clear()
    done = scene.act(Verb.TAKE_OUT, MACHINE)
    assert (done.left, scene.state) == ((), MachineState.MAINTENANCE)
    assert scene.act(Verb.RESTART_AGENT, MACHINE).outcome


def test_what_the_books_only_guess_keeps_no_machine_in_use_that_the_cloud_shows_empty(scene: Scene) -> None:
    scene.stands()
    assert scene.act(Verb.TAKE_OUT, MACHINE).refused == "in-use"  # a node that is to be built there may be on its way
    scene.cloud.exact = False
    assert "empty" in scene.act(Verb.TAKE_OUT, MACHINE).outcome
    assert scene.state is MachineState.MAINTENANCE
    assert scene.act(Verb.RESTART_AGENT, MACHINE).outcome


def test_what_the_cloud_shows_keeps_a_machine_in_use_wherever_the_books_have_it(scene: Scene) -> None:
    scene.cloud.exact = False
    scene.estate.used_by[MACHINE.id] = [SERVER]
    assert scene.act(Verb.TAKE_OUT, MACHINE).left == (SERVER,)
    assert scene.state is MachineState.DRAINING


def test_the_agent_of_a_machine_in_service_is_left_alone(scene: Scene) -> None:
    done = scene.act(Verb.RESTART_AGENT, MACHINE)
    assert done.refused == "out-of-service"
    assert "in service" in done.fault


def test_a_machine_comes_back(scene: Scene) -> None:
    scene.act(Verb.TAKE_OUT, MACHINE)
    assert scene.act(Verb.PUT_BACK, MACHINE).outcome == "machine rack-1-a is in service"
    assert (scene.state, scene.estate.out) == (MachineState.IN_SERVICE, {})


@pytest.mark.parametrize("verb", [Verb.TAKE_OUT, Verb.PUT_BACK])
def test_dry_runs_leave_a_machine_as_it_is_and_are_told(scene: Scene, verb: Verb) -> None:
    done = scene.act(verb, MACHINE, Asking("alice", "a look", dry_run=True))
    assert "would take" in done.outcome
    assert (scene.state, scene.estate.out) == (MachineState.IN_SERVICE, {})
    assert [event.data["dry_run"] for event in scene.books.store.events(AUDIT)] == [True]


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        (MachineState.IN_SERVICE, MachineState.DRAINING, "drain"),
        (MachineState.DRAINING, MachineState.DRAINING, "drain"),
        (MachineState.QUARANTINED, MachineState.DRAINING, "drain"),
        (MachineState.MAINTENANCE, MachineState.MAINTENANCE, "take-out"),
        (MachineState.DOWN, MachineState.DOWN, "down"),
    ],
    ids=str,
)
def test_whatever_the_books_say_whoever_closes_a_machine_in_the_cloud_is_told(
    scene: Scene, before: MachineState, after: MachineState, told: str
) -> None:
    scene.is_in(before)
    scene.estate.used_by[MACHINE.id] = [SERVER]
    known = len(scene.audited())
    scene.act(Verb.TAKE_OUT, MACHINE)
    assert (scene.state, scene.estate.out) == (after, {"s-1": "it is old"})
    assert scene.audited()[known:] == [f"audit.{told}"]
    scene.act(Verb.TAKE_OUT, MACHINE)  # as whoever waits asks again and again
    assert len(scene.audited()) == known + 1


def test_whoever_opens_a_machine_in_the_cloud_is_told_although_the_books_have_it_in_service(scene: Scene) -> None:
    scene.estate.out[MACHINE.id] = "somebody's"
    scene.act(Verb.PUT_BACK, MACHINE)
    assert (scene.audited(), scene.estate.out) == (["audit.return"], {})


@pytest.mark.parametrize("verb", [Verb.TAKE_OUT, Verb.PUT_BACK])
def test_a_machine_that_the_inventory_does_not_name_stays_in_the_cloud_as_it_is(scene: Scene, verb: Verb) -> None:
    other = CloudObject(ObjectKind.MACHINE, "s-9", "rack-9-a")
    scene.estate.objects[other.id] = other
    scene.estate.out = {other.id: "somebody's"} if verb is Verb.PUT_BACK else {}
    before = dict(scene.estate.out)
    assert "no machine rack-9-a" in scene.act(verb, other).fault
    assert scene.estate.out == before


def test_nothing_of_such_a_machine_is_forced_down(scene: Scene) -> None:
    other = CloudObject(ObjectKind.MACHINE, "s-9", "rack-9-a")
    scene.estate.objects[other.id] = other
    fenced = Asking("alice", "its power is cut", {"dead": "its power is cut"})
    id = scene.acts.ask("cloud", Verb.TAKE_OUT, other.kind, other.name, fenced, Policy.EVACUATE).id
    scene.acts.carry_out(id)
    assert "no machine rack-9-a" in scene.books.cloud_acts.get(id).value.fault
    assert scene.estate.dead == set()


def test_a_machine_that_the_cloud_does_not_put_back_stays_out_in_the_books(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.act(Verb.TAKE_OUT, MACHINE)

    def refuse(*_: object, **__: object) -> None:
        raise PermanentError("the agent was not restarted")

    monkeypatch.setattr(scene.estate, "set_service", refuse)
    assert scene.act(Verb.PUT_BACK, MACHINE).fault == "the agent was not restarted"
    assert scene.state is MachineState.MAINTENANCE


def test_a_cloud_that_does_not_answer_is_a_fault_and_may_be_asked_again(scene: Scene) -> None:
    scene.estate.fail.append(TransientError("no answer of the cloud"))
    assert scene.act(Verb.DELETE, FLAVOR).fault == "no answer of the cloud"
    assert scene.act(Verb.DELETE, FLAVOR).outcome


def test_an_act_is_carried_out_once(scene: Scene) -> None:
    id = scene.acts.ask("cloud", Verb.DELETE, FLAVOR.kind, FLAVOR.name, WHY).id
    scene.acts.carry_out(id)
    scene.estate.objects[FLAVOR.id] = FLAVOR
    scene.acts.carry_out(id)
    assert FLAVOR.id in scene.estate.objects


LEFT = Thing(ThingKind.PORT, "p-1", "env-9-web-0", deployment="scene", environment_id="env-9")
ENVIRONMENT = CloudObject(ObjectKind.ENVIRONMENT, "", "env-9")


@pytest.fixture
def left(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A port of an environment in no book, which the driver removes; the environments that it was told to destroy."""
    told: list[str] = []

    def destroy(environment_id: str, _nodes: object = None) -> None:
        told.append(environment_id)
        scene.sky.there.clear()

    monkeypatch.setattr(scene.driver, "destroy", destroy)
    scene.sky.there.append(LEFT)
    return told


def test_what_an_environment_left_is_taken_back_on_its_second_sighting(scene: Scene, left: list[str]) -> None:
    assert "nothing was seen" in scene.act(Verb.TAKE_BACK, ENVIRONMENT).fault
    scene.leftovers.look("cloud")
    assert scene.act(Verb.TAKE_BACK, ENVIRONMENT).refused == "known"
    scene.clock.sleep(SECOND_SIGHTING_S)
    dry = scene.act(Verb.TAKE_BACK, ENVIRONMENT, Asking("alice", "a look", dry_run=True))
    assert ("could be taken back" in dry.outcome, left) == (True, [])
    assert "is taken back" in scene.act(Verb.TAKE_BACK, ENVIRONMENT).outcome
    assert (left, scene.leftovers.last("cloud").found) == (["env-9"], ())


def test_what_is_still_there_after_it_was_taken_back_is_a_fault(scene: Scene, left: list[str]) -> None:
    scene.sky.there = TenaciousList([LEFT])
    scene.leftovers.look("cloud")
    scene.clock.sleep(SECOND_SIGHTING_S)
    done = scene.act(Verb.TAKE_BACK, ENVIRONMENT)
    assert (left, done.outcome) == (["env-9"], "")
    assert f"{LEFT.kind} {LEFT.name} ({LEFT.id}) is still there" in done.fault


class TenaciousList(list[Thing]):
    """Things that do not go."""

    def clear(self) -> None:
        """Not these."""


def test_what_stands_in_the_books_is_not_taken_back(scene: Scene, left: list[str]) -> None:
    scene.leftovers.look("cloud")
    scene.clock.sleep(SECOND_SIGHTING_S)
    stands = environment(id="env-9")
    scene.books.commit(scene.books.environments.kind.put(stands.id, stands, 0))
    assert "greenroom destroy env-9" in scene.act(Verb.TAKE_BACK, ENVIRONMENT).fault
    assert left == []


@pytest.mark.parametrize(
    ("verb", "kind"),
    [(Verb.DELETE, ObjectKind.MACHINE), (Verb.TAKE_OUT, ObjectKind.IMAGE), (Verb.TAKE_BACK, ObjectKind.FLAVOR)],
    ids=str,
)
def test_what_makes_no_sense_is_not_stored(scene: Scene, verb: Verb, kind: ObjectKind) -> None:
    with pytest.raises(UserError, match="expected a"):
        scene.acts.ask("cloud", verb, kind, "any", WHY)


def test_a_provider_without_an_operators_account_is_told_so(scene: Scene) -> None:
    bare = Provider("cloud", MemoryDriver(MemoryCloud(), "scene"), MemoryTransport(scene.clock))
    acts = scene.acts_of(bare)
    with pytest.raises(UserError, match="admin_cloud"):
        acts.ask("cloud", Verb.DELETE, ObjectKind.FLAVOR, "m1.tiny", WHY)
