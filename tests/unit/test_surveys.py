"""Surveys: what a provider shows is compared, kept and taken over; a failure is told beside what was seen before."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline.adapters.clock import ManualClock
from pipeline.adapters.clouds.memory import MemorySky
from pipeline.adapters.drivers.memory import MemoryCloud, MemoryDriver
from pipeline.adapters.transports.memory import MemoryTransport
from pipeline.domain.drift import Drift, Server
from pipeline.domain.errors import InvalidTransition, TransientError
from pipeline.domain.inventory import Inventory, Machine, Zone
from pipeline.envs.books import Books
from pipeline.envs.inventories import Inventories
from pipeline.envs.providers import Provider
from pipeline.envs.surveys import Surveys
from pipeline.ports.clouds import Sight
from pipeline.ports.drivers import NodeStatus, NodeView
from tests.unit.test_drift import NODE, OURS, SERVER, environment

FOUND = Inventory((Machine("m1", "a", {"vcpu": 8.0}), Machine("m2", "a", {"vcpu": 8.0})), (Zone("a"), Zone("b")))
STRANGER = Server("s9", "theirs", "active", size={"vcpu": 3.0}, zone="a", machine="m2")
USED = {"m1": {"vcpu": 1.0}, "m2": {"vcpu": 3.0}}
SIGHT = Sight((SERVER, STRANGER), FOUND, USED, frozenset({"a", "b"}))


class Lab:
    """One provider whose sky is set by hand."""

    def __init__(self, books: Books, inventories: Inventories, clock: ManualClock) -> None:
        self.cloud = MemoryCloud()
        self.sky = MemorySky(SIGHT)
        self.file: Inventory | None = None
        driver = MemoryDriver(self.cloud, OURS)
        self.provider = Provider("lab", driver, MemoryTransport(clock), cloud=self.sky)
        self.surveys = Surveys(books, lambda _: self.provider, inventories, clock, OURS, lambda _: self.file)


@pytest.fixture
def lab(books: Books, inventories: Inventories, clock: ManualClock) -> Lab:
    made = replace(environment(NODE), provider="lab")
    books.commit(books.environments.kind.put(made.id, made, 0))
    return Lab(books, inventories, clock)


def alerts(lab: Lab) -> dict[str, list[Drift]]:
    survey = lab.surveys.last("lab")
    assert survey is not None
    return {row.server.id if row.server else "-": [one.drift for one in row.alerts] for row in survey.rows}


def test_a_survey_is_kept_and_its_machines_are_taken_over(lab: Lab, inventories: Inventories) -> None:
    lab.surveys.survey("lab", takes_over=True)
    assert alerts(lab) == {"s1": [], "s9": [Drift.STRANGER]}
    machines = inventories.view("lab").inventory.machines
    assert {one.name: one.capacity["vcpu"] for one in machines} == {"m1": 8.0, "m2": 5.0}
    version = inventories.version("lab")
    lab.surveys.survey("lab", takes_over=True)
    assert inventories.version("lab") == version


def test_a_look_alone_changes_no_machine_until_it_is_taken_over(lab: Lab, inventories: Inventories) -> None:
    lab.surveys.survey("lab", takes_over=False)
    assert inventories.version("lab") == 0
    lab.surveys.take_over("lab")
    assert {one.name for one in inventories.view("lab").inventory.machines} == {"m1", "m2"}


def test_a_file_goes_before_what_the_cloud_tells(lab: Lab, inventories: Inventories) -> None:
    lab.file = Inventory((Machine("m7", "a", {}),), (Zone("a"),))
    lab.surveys.survey("lab", takes_over=True)
    assert inventories.version("lab") == 0
    assert lab.surveys.seen("lab") is lab.file


def test_a_failure_is_told_beside_what_was_seen_before(lab: Lab, clock: ManualClock) -> None:
    lab.surveys.survey("lab", takes_over=False)
    before = lab.surveys.last("lab")
    assert before is not None
    clock.sleep(60)
    lab.sky.fail = [TransientError("nobody answers")]
    with pytest.raises(TransientError):
        lab.surveys.survey("lab", takes_over=False)
    assert lab.surveys.last("lab") == replace(before, tried_at=clock.now(), fault="nobody answers")
    lab.surveys.survey("lab", takes_over=False)
    after = lab.surveys.last("lab")
    assert after is not None
    assert (after.fault, after.at) == ("", clock.now())


def test_whoever_wants_machines_that_nobody_tells_is_told_what_to_do(lab: Lab) -> None:
    with pytest.raises(InvalidTransition, match="providers sync lab"):
        lab.surveys.take_over("lab")
    lab.sky.sight = replace(SIGHT, inventory=None)
    lab.surveys.survey("lab", takes_over=True)
    with pytest.raises(InvalidTransition, match="admin_cloud"):
        lab.surveys.take_over("lab")


def test_without_a_cloud_the_drivers_own_nodes_are_compared(lab: Lab) -> None:
    lab.provider = replace(lab.provider, cloud=None)
    lab.surveys.survey("lab", takes_over=True)
    assert alerts(lab) == {"-": [Drift.MISSING]}
    lab.cloud.marks["env-1"] = (OURS, 1e9)
    lab.cloud.nodes["env-1", "web-0"] = NodeView("env-1", "web-0", "s1", NodeStatus.ACTIVE, "192.0.2.1")
    lab.surveys.survey("lab", takes_over=True)
    assert alerts(lab) == {"s1": []}
