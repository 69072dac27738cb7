"""Promises measured inside the nodes: the judgement, what cannot be measured, and what is kept of it."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest

from pipeline.adapters.clock import RandomIds
from pipeline.adapters.transports.memory import Call
from pipeline.domain.blueprint import EnvironmentSpec, RoleSpec
from pipeline.domain.errors import InvalidTransition, NotFound
from pipeline.domain.inventory import Machine
from pipeline.domain.promises import DISK, NETWORK
from pipeline.domain.qos import QosProfile
from pipeline.envs.books import QosCheck
from pipeline.envs.qos_checks import QosChecks
from pipeline.envs.qos_scripts import MEASURE_DISK, RECEIVE, SEND
from tests.tools.lab import Lab

BOUNDS = QosProfile(
    disk_read_iops=100,
    disk_write_iops=200,
    disk_read_bytes=3000,
    disk_write_bytes=4000,
    network_in=10_000,
    network_out=20_000,
)
PROMISES = {name: getattr(BOUNDS, name) for name in DISK + NETWORK}


class Nodes:
    """Answers the programs that measure, with a share of what was promised."""

    def __init__(self, share: float = 1.0, rates: Mapping[str, float] | None = None) -> None:
        self.share = share
        self.rates = rates or PROMISES
        self.said = ""
        self.status = 0
        self.links: list[tuple[str, str]] = []

    def __call__(self, call: Call) -> int:
        if call.stdin == SEND.encode():
            self.links.append((call.node, call.command))
            return self._say(call, {})
        if call.stdin == RECEIVE.encode():
            return self._say(call, {"bits": self.rates["network_in" if call.node == "web-0" else "network_out"]})
        assert call.stdin == MEASURE_DISK.encode()
        return self._say(call, {name: self.rates[name] for name in call.command.split()[2:]})

    def _say(self, call: Call, rates: Mapping[str, float]) -> int:
        text = self.said or json.dumps({name: rate * self.share for name, rate in rates.items()})
        call.output(text.encode())
        return self.status


@pytest.fixture
def lab() -> Lab:
    lab = Lab()
    lab.declare(Machine("m1", "z1", {"vcpu": 64.0}))
    return lab


def stand(lab: Lab, *roles: RoleSpec) -> None:
    lab.place(EnvironmentSpec("debian-12", roles))
    lab.lifecycle.advance("env-1")


def checks(lab: Lab) -> QosChecks:
    return QosChecks(lab.books, lambda _: lab.account, lab.secrets, lab.clock, RandomIds())


def checked(lab: Lab, nodes: Nodes) -> QosCheck:
    lab.transport.handlers.append(nodes)
    asked = checks(lab).ask("env-1")
    assert (asked.finished_at, asked.kept) == (None, False)
    checks(lab).carry_out(asked.id)
    return lab.books.qos_checks.get(asked.id).value


PAIR = RoleSpec("web", qos=BOUNDS), RoleSpec("probe")


@pytest.mark.parametrize(
    ("share", "kept"), [(1.0, True), (0.91, True), (1.09, True), (0.89, False), (1.11, False), (0.0, False)]
)
def test_every_direction_is_measured_and_kept_within_a_tenth(lab: Lab, share: float, kept: bool) -> None:
    stand(lab, *PAIR)
    done = checked(lab, Nodes(share))
    assert {one.direction: one.promise for one in done.found} == PROMISES
    assert [one.measured for one in done.found] == [promise * share for promise in PROMISES.values()]
    assert [one.kept for one in done.found] == [kept] * len(PROMISES)
    assert (done.kept, done.fault, done.finished_at) == (kept, "", lab.clock.now())


def test_one_broken_promise_breaks_the_check(lab: Lab) -> None:
    stand(lab, *PAIR)
    done = checked(lab, Nodes(rates={**PROMISES, "disk_write_bytes": 3000}))
    assert [one.direction for one in done.found if not one.kept] == ["disk_write_bytes"]
    assert not done.kept
    (event,) = [one for one in lab.store.events("env-1") if one.type == "qos.checked"]
    assert event.data["kept"] is False
    assert "web-0 disk_write_bytes: 3000 of 4000 (75%), broken" in event.data["found"]


def test_a_network_is_measured_against_the_peer_that_bounds_it_least(lab: Lab) -> None:
    narrow, wide = QosProfile(network_out=1000), QosProfile(network_out=8000)
    stand(lab, RoleSpec("web", qos=QosProfile(network_in=10_000)), RoleSpec("a", qos=narrow), RoleSpec("b", qos=wide))
    nodes = Nodes(rates={"network_in": 8000, "network_out": 1})
    done = checked(lab, nodes)
    (found,) = [one for one in done.found if one.node == "web-0"]
    assert (found.promise, found.kept) == (8000, True), "the tighter of both bounds is the promise"
    assert nodes.links[0][0] == "b-0"


def test_a_node_alone_has_no_network_to_measure(lab: Lab) -> None:
    stand(lab, RoleSpec("web", qos=BOUNDS))
    done = checked(lab, Nodes())
    assert (done.found, done.kept) == ((), False)
    assert "web-0 is alone in env-1: measuring its network needs a second node" in done.fault


def test_nothing_promised_is_nothing_kept(lab: Lab) -> None:
    stand(lab, RoleSpec("web"))
    done = checked(lab, Nodes())
    assert (done.found, done.kept, done.fault) == ((), False, "")


@pytest.mark.parametrize(
    ("said", "status", "told"),
    [
        ("no space left", 1, "node web-0 could not be measured; it said: no space left; try again"),
        ("sh: python3: not found", 127, "it said: sh: python3: not found"),
        ("Welcome!", 0, "it said: Welcome!, where rates were expected"),
        ("[1]", 0, "where rates were expected"),
        ('{"disk_read_iops": "fast"}', 0, "where rates were expected"),
        ('{"disk_read_iops": NaN}', 0, "could not be measured"),
    ],
)
def test_what_cannot_be_measured_is_a_fault(lab: Lab, said: str, status: int, told: str) -> None:
    stand(lab, *PAIR)
    nodes = Nodes()
    nodes.said, nodes.status = said, status
    done = checked(lab, nodes)
    assert told in done.fault
    assert (done.found, done.kept, done.finished_at) == ((), False, lab.clock.now())


def test_a_rate_that_is_not_told_is_a_broken_promise(lab: Lab) -> None:
    stand(lab, *PAIR)
    nodes = Nodes()
    nodes.said = "{}"
    done = checked(lab, nodes)
    assert {one.measured for one in done.found} == {0.0}
    assert not done.kept


def test_a_node_that_does_not_answer_is_a_fault(lab: Lab) -> None:
    stand(lab, *PAIR)
    lab.transport.unreachable["web-0"] = "timeout"
    assert "node web-0 does not answer SSH: timeout" in checked(lab, Nodes()).fault


def test_nodes_that_do_not_stand_are_not_measured(lab: Lab) -> None:
    lab.request()
    with pytest.raises(InvalidTransition, match="env-1 is requested: its nodes cannot be measured"):
        checks(lab).ask("env-1")
    with pytest.raises(NotFound, match="there is no environment env-2"):
        checks(lab).ask("env-2")


def test_an_environment_that_goes_meanwhile_is_a_fault(lab: Lab) -> None:
    stand(lab, *PAIR)
    asked = checks(lab).ask("env-1")
    loaded = lab.books.environments.get("env-1")
    going = loaded.value.to(type(loaded.value.state).DESTROYING, lab.clock.now())
    lab.books.commit(lab.books.environments.kind.put("env-1", going, loaded.version))
    checks(lab).carry_out(asked.id)
    assert "env-1 is destroying" in lab.books.qos_checks.get(asked.id).value.fault


def test_a_check_is_carried_out_once(lab: Lab) -> None:
    stand(lab, *PAIR)
    done = checked(lab, Nodes())
    calls = len(lab.transport.calls)
    lab.clock.sleep(5)
    checks(lab).carry_out(done.id)
    assert lab.books.qos_checks.get(done.id).value == done
    assert len(lab.transport.calls) == calls
