"""Servers against the books: each difference once, with what is safe to do; strangers are left alone."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.domain.blueprint import Priority
from pipeline.domain.changes import REPORTED, changes
from pipeline.domain.drift import Drift, Row, Server, Told, compare, without_others
from pipeline.domain.environments import STANDING_STATES, Environment, EnvironmentState, Node, NodeState, Purpose
from pipeline.domain.inventory import Inventory, Machine, MachineState, Zone
from pipeline.domain.resizing import MAX_REPLACED
from pipeline.domain.resources import Resources

OURS = "gr1"
NODE = Node(
    "web-0", "web", "debian", Resources(1, 512, 5), state=NodeState.IN_SERVICE, driver_id="s1", machine="m1", zone="a"
)
SIZE = {"vcpu": 1.0, "memory_mib": 512.0, "disk_gib": 5.0}
SERVER = Server(
    "s1", "web-0", "active", flavor="m1.tiny", size=SIZE, zone="a", machine="m1", deployment=OURS,
    environment_id="env-1", node="web-0",
)  # fmt: skip
TOLD = Told(OURS, frozenset({"env-1"}), frozenset({"a", "b"}), frozenset({"m1", "m2"}))


def environment(*nodes: Node, id: str = "env-1", state: EnvironmentState = EnvironmentState.LEASED) -> Environment:
    return Environment(id, "shop-team", "shop", "run-1", "cloud", state, nodes, Priority.PUSH, 0.0, 0.0, 1e9)


def drifts(*rows: Row) -> list[Drift]:
    return [alert.drift for row in rows for alert in row.alerts]


def test_a_server_that_is_as_it_should_be_has_no_alert() -> None:
    (row,) = compare([environment(NODE)], [SERVER], TOLD)
    assert (row.server, row.node, row.environment, row.service, row.alerts) == (SERVER, NODE, "env-1", "shop", ())


@pytest.mark.parametrize(
    ("server", "drift", "words"),
    [
        (replace(SERVER, status="shutoff"), Drift.STATE, "server is shutoff"),
        (replace(SERVER, status="error", fault="no valid host"), Drift.STATE, "error: no valid host"),
        (replace(SERVER, size={"vcpu": 1.0, "memory_mib": 256.0}), Drift.SIZE, "memory_mib 256 instead of 512"),
        (replace(SERVER, zone="b"), Drift.ZONE, "zone a, but it stands in b"),
        (replace(SERVER, machine="m2"), Drift.MACHINE, "machine m1, but it stands on m2"),
        (replace(SERVER, name="renamed"), Drift.NAME, "called renamed"),
    ],
)
def test_each_difference_of_a_node_is_told(server: Server, drift: Drift, words: str) -> None:
    ((alert,),) = [row.alerts for row in compare([environment(NODE)], [server], TOLD)]
    assert alert.drift is drift
    assert words in alert.text
    by_renaming = f"openstack server set --name web-0 {SERVER.id}"  # nothing is lost by another name
    assert alert.action.startswith(by_renaming if drift is Drift.NAME else "greenroom destroy env-1 --reason ")


def test_a_node_without_a_server_is_missing() -> None:
    (row,) = compare([environment(NODE)], [], TOLD)
    assert drifts(row) == [Drift.MISSING]
    assert row.alerts[0].action == 'greenroom destroy env-1 --reason "web-0 is gone"'


@pytest.mark.parametrize(
    ("state", "replaced", "action"),
    [
        (EnvironmentState.LEASED, 0, "greenroom env show env-1"),
        (EnvironmentState.HELD, 0, 'greenroom destroy env-1 --reason "web-0 is gone"'),
        (EnvironmentState.LEASED, MAX_REPLACED, 'greenroom destroy env-1 --reason "web-0 is gone"'),
    ],
)
def test_nothing_needs_to_be_done_for_a_node_that_is_replaced(
    state: EnvironmentState, replaced: int, action: str
) -> None:
    staging = replace(environment(NODE, state=state), purpose=Purpose.STAGING, replaced=replaced)
    (row,) = compare([staging], [], TOLD)
    assert [(one.drift, one.action) for one in row.alerts] == [(Drift.MISSING, action)]


def test_nothing_is_missing_of_what_changed_meanwhile_is_built_or_goes() -> None:
    changing = replace(TOLD, steady=frozenset())
    assert drifts(*compare([environment(NODE)], [], changing)) == []
    assert drifts(*compare([environment(replace(NODE, state=NodeState.BUILDING))], [], TOLD)) == []
    assert drifts(*compare([environment(NODE, state=EnvironmentState.DESTROYING)], [], TOLD)) == []


def test_a_provider_that_tells_no_places_has_none_that_are_wrong() -> None:
    told = Told(OURS, TOLD.steady)
    assert drifts(*compare([environment(NODE)], [replace(SERVER, zone="b", machine="m2")], told)) == []


def test_servers_with_our_mark_that_are_no_nodes() -> None:
    orphan = replace(SERVER, id="s2", environment_id="env-gone")
    second = replace(SERVER, id="s3")
    extra = replace(SERVER, id="s4", node="db-0")
    rows = compare([environment(NODE)], [orphan, second, SERVER, extra], TOLD)
    found = {row.server.id: row for row in rows if row.server}
    assert drifts(found["s1"]) == []
    assert drifts(found["s2"], found["s3"], found["s4"]) == [Drift.UNKNOWN] * 3
    assert found["s2"].alerts[0].action == "greenroom audit"
    assert "goes with the environment" in found["s3"].alerts[0].text
    over = compare([environment(NODE, state=EnvironmentState.DESTROYED)], [SERVER], TOLD)
    assert [drifts(row) for row in over] == [[Drift.UNKNOWN]]


def test_a_flavor_that_the_project_named_has_to_be_that_one() -> None:
    named = replace(NODE, custom=replace(NODE.custom, flavor="m1.large"))
    assert drifts(*compare([environment(named)], [SERVER], TOLD)) == [Drift.SIZE]
    right = replace(SERVER, flavor="m1.large", size={"vcpu": 0.0})
    assert drifts(*compare([environment(named)], [right], TOLD)) == []


IDS = st.sampled_from(["env-1", "env-2", "env-3"])
NAMES = st.sampled_from(["web-0", "web-1", "db-0"])
SERVERS = st.builds(
    Server,
    id=st.uuids().map(str),
    name=NAMES,
    status=st.sampled_from(["active", "error", "building", "shutoff"]),
    zone=st.sampled_from(["", "a", "b"]),
    machine=st.sampled_from(["", "m1", "m2"]),
    deployment=st.sampled_from(["", OURS, "other"]),
    environment_id=IDS,
    node=NAMES,
)
NODES = st.builds(lambda name, state: replace(NODE, name=name, state=state), NAMES, st.sampled_from(list(NodeState)))
ENVIRONMENTS = st.builds(
    lambda name, state, nodes: environment(*nodes, id=name, state=state),
    IDS,
    st.sampled_from(list(EnvironmentState)),
    st.lists(NODES, max_size=3, unique_by=lambda node: node.name),
)


@given(
    st.lists(ENVIRONMENTS, max_size=3, unique_by=lambda one: one.id),
    st.lists(SERVERS, max_size=6, unique_by=lambda one: one.id),
    st.frozensets(IDS),
)
def test_every_server_and_node_stands_there_once_and_strangers_are_left_alone(
    books: list[Environment], servers: list[Server], steady: frozenset[str]
) -> None:
    rows = compare(books, servers, replace(TOLD, steady=steady))
    assert Counter(row.server.id for row in rows if row.server) == Counter(one.id for one in servers)
    standing = [(one.id, node.name) for one in books if one.state in STANDING_STATES for node in one.nodes]
    assert Counter((row.environment, row.node.name) for row in rows if row.node) == Counter(standing)
    for row in rows:
        strange = row.server is not None and row.server.deployment != OURS
        assert (Drift.STRANGER in drifts(row)) == strange
        assert all(bool(alert.action) != strange for alert in row.alerts)


def test_what_others_use_of_a_machine_is_not_there_for_us() -> None:
    machine = Machine(
        "m1", "a", {"vcpu": 16.0, "memory_mib": 8192.0, "hugepages_mib": 1024.0}, overcommit={"vcpu": 4.0}
    )
    inventory = Inventory((machine, Machine("m2", "a", {"vcpu": 1.0})), (Zone("a"),))
    used = {"m1": {"vcpu": 9.0, "memory_mib": 4608.0}, "m2": {"vcpu": 99.0}}
    rows = compare([environment(NODE)], [SERVER], TOLD)
    first, second = without_others(inventory, used, rows).machines
    assert first.capacity == {"vcpu": 14.0, "memory_mib": 4096.0, "hugepages_mib": 1024.0}
    assert second.capacity == {"vcpu": 0.0}
    misplaced = compare([environment(NODE)], [replace(SERVER, machine="m2")], TOLD)
    assert without_others(inventory, used, misplaced).machines[0].capacity["memory_mib"] == 8192.0 - 4608.0


def test_what_a_flavor_has_beyond_its_node_is_promised_to_nobody_else() -> None:
    inventory = Inventory((Machine("m1", "a", {"vcpu": 16.0, "memory_mib": 8192.0}),), (Zone("a"),))
    large = {"vcpu": 4.0, "memory_mib": 2048.0, "disk_gib": 5.0}
    rows = compare([environment(NODE)], [replace(SERVER, size=large)], TOLD)
    (machine,) = without_others(inventory, {"m1": large}, rows).machines
    assert machine.capacity == {"vcpu": 13.0, "memory_mib": 8192.0 - 1536.0}
    smaller = compare([environment(NODE)], [replace(SERVER, size={"vcpu": 1.0, "memory_mib": 256.0})], TOLD)
    (machine,) = without_others(inventory, {"m1": {"vcpu": 1.0, "memory_mib": 512.0}}, smaller).machines
    assert machine.capacity == {"vcpu": 16.0, "memory_mib": 8192.0 - 256.0}


def test_a_state_that_the_cloud_reports_follows_it_unless_an_operator_gave_another() -> None:
    machine = Machine("m1", "a", {})
    off = replace(machine, state=MachineState.MAINTENANCE, state_reason=f"{REPORTED}disabled, a new disk")
    zones = (Zone("a"),)

    def after(known: Machine, declared: Machine) -> Machine:
        found = changes(Inventory((known,), zones), Inventory((declared,), zones), frozenset(), 9.0)
        return found.changed[0][1] if found.changed else known

    out = after(machine, off)
    assert (out.state, out.state_reason, out.state_since) == (MachineState.MAINTENANCE, off.state_reason, 9.0)
    assert after(out, off) is out
    assert after(out, machine).state is MachineState.IN_SERVICE
    drained = machine.to(MachineState.DRAINING, 1.0, "by hand")
    assert after(drained, off) is drained
    assert after(drained, machine) is drained
