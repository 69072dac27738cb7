"""What the Vagrant driver makes of a provider's machines and of calls that fail: Vagrant and the provider are posed."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pipeline.adapters.drivers.vagrant.driver import VagrantDriver
from pipeline.adapters.drivers.vagrant.locks import Locks
from pipeline.adapters.drivers.vagrant.openstack.provider import Around, OpenStack
from pipeline.adapters.drivers.vagrant.place import Place
from pipeline.adapters.drivers.vagrant.provider import Found, Provider
from pipeline.adapters.drivers.vagrant.sessions import Vagrant
from pipeline.adapters.drivers.vagrant.terms import Terms
from pipeline.adapters.drivers.vagrant.this_machine import OnThisMachine
from pipeline.domain.errors import CapacityError, PermanentError, TransientError
from pipeline.domain.qos import QosProfile
from pipeline.domain.resources import Resources
from pipeline.ports.common import Secret
from pipeline.ports.drivers import Capabilities, EnvironmentRequest, NodeRequest, NodeStatus, NodeView

TEMPLATES = Path(__file__).parents[2] / "vagrant"
ENVIRONMENT = "env-1"
SIZE = Resources(vcpu=1, memory_mib=64, disk_gib=1)
WORDS = "vagrant up in a directory failed with status 1"
NO_HOST = "server 1 is ERROR: No valid host was found."


def machine(node: str, *, running: bool = True, fault: str = "", full: bool = False) -> Found:
    address = "10.0.0.9" if running else None
    return Found(ENVIRONMENT, node, f"id-{node}", running, address, fault=fault, full=full)


def request(*names: str) -> EnvironmentRequest:
    nodes = (NodeRequest(name, "web", "plain", SIZE, QosProfile(), Secret("private"), "public") for name in names)
    return EnvironmentRequest("ours", ENVIRONMENT, "shop", "login", 2_000_000_000.0, tuple(nodes))


@dataclass
class Posing(OnThisMachine):
    """A provider and what Vagrant does there: `comes` are the machines after a call, and `fails` what it says then.

    `room` is for how many nodes. `silent`: the provider does not answer once Vagrant was called. `unknown`: why Vagrant
    cannot be told of a machine.
    """

    there: dict[str, Found] = field(default_factory=dict)
    comes: Sequence[Found] = ()
    fails: str = ""
    room: int = 9
    silent: bool = False
    unknown: str = ""
    calls: list[Sequence[str]] = field(default_factory=list)
    settled: list[str] = field(default_factory=list)
    ends: dict[str, float] = field(default_factory=dict)

    name = "lxc"
    capabilities = Capabilities()

    def call(self, place: Path, arguments: Sequence[str], **_: object) -> None:
        """Stands for `Vagrant.call`."""
        assert place.name == ENVIRONMENT
        self.calls.append(arguments)
        self.there |= {one.node: one for one in self.comes}
        if self.fails:
            raise TransientError(self.fails)

    def missing(self) -> Sequence[str]:
        return ()

    def admit(self, request: EnvironmentRequest, nodes: Sequence[NodeRequest]) -> None:
        if len(self.there) + len(nodes) > self.room:
            raise CapacityError(f"the quota has room for {self.room}")

    def found(self) -> Sequence[Found]:
        if self.silent and self.calls:
            raise TransientError("listing servers: nobody answers")
        return list(self.there.values())

    def environments(self) -> Mapping[str, float]:
        return self.ends

    def mark_end(self, environment_id: str, ends_at: float) -> None:
        self.ends[environment_id] = ends_at

    def prepare(
        self,
        place: Place,
        request: EnvironmentRequest,
        nodes: Sequence[NodeRequest],
        standing: Sequence[Found],
    ) -> Mapping[str, Mapping[str, Any]]:
        return {node.name: {} for node in nodes}

    def settle(self, request: EnvironmentRequest) -> None:
        self.settled.append(request.environment_id)

    def known(self, found: Found) -> Mapping[str, Any]:
        if self.unknown:
            raise PermanentError(self.unknown)
        return {"id": found.id}

    def reason(self, place: Place, found: Found) -> str:
        assert place.environment_id == found.environment_id
        return found.fault

    def remove(self, found: Found) -> None:
        del self.there[found.node]

    def release(self, environment_id: str, nodes: Sequence[str] | None) -> None:
        """Nothing was made around them."""


def driver_of(posing: Posing, home: Path, monkeypatch: pytest.MonkeyPatch) -> VagrantDriver:
    monkeypatch.setattr(Vagrant, "call", lambda _, *args, **more: posing.call(*args, **more))
    return made(home, posing)


def made(home: Path, provider: Provider) -> VagrantDriver:
    """Nobody hears what Vagrant says."""
    terms = Terms(TEMPLATES, dict)
    return VagrantDriver("ours", terms, home, lambda _: contextlib.nullcontext(lambda _: None), lambda _: provider)


def test_a_node_that_does_not_run_stays_when_others_are_added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped = machine("db-0", running=False)
    posing = Posing(there={"db-0": stopped}, comes=[machine("web-1")])
    driver_of(posing, tmp_path, monkeypatch).create(request("web-1"))
    assert posing.there["db-0"] == stopped
    assert posing.calls == [["up", "web-1"]]
    assert Place(tmp_path / "environments" / ENVIRONMENT, "lxc").machines().keys() == {"db-0", "web-1"}


def test_what_was_left_half_made_of_a_node_that_is_asked_for_goes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    half = replace(machine("web-0", running=False), id="half")
    posing = Posing(there={"web-0": half}, comes=[machine("web-0")])
    driver_of(posing, tmp_path, monkeypatch).create(request("web-0"))
    assert posing.there == {"web-0": machine("web-0")}


@pytest.mark.parametrize("full", [False, True])
def test_a_fault_that_the_provider_shows_is_left_to_be_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, full: bool
) -> None:
    """Whoever looks at nodes sends the build elsewhere for it, or waits for room."""
    posing = Posing(comes=[machine("web-0", running=False, fault=NO_HOST, full=full)], fails=WORDS)
    driver = driver_of(posing, tmp_path, monkeypatch)
    driver.create(request("web-0", "web-1"))
    [view] = driver.nodes()
    assert (view.status, view.full, view.fault) == (NodeStatus.ERROR, full, f"it does not run: {NO_HOST}")
    assert posing.settled == []


def test_a_machine_that_only_does_not_run_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    posing = Posing(comes=[machine("web-0", running=False)], fails=WORDS)
    with pytest.raises(TransientError, match=f"^{WORDS}$"):
        driver_of(posing, tmp_path, monkeypatch).create(request("web-0"))


def test_room_that_went_while_vagrant_worked_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    others = machine("others")
    posing = Posing(comes=[machine("web-0"), replace(others, environment_id="env-2")], fails=WORDS, room=2)
    with pytest.raises(CapacityError, match="room for 2"):
        driver_of(posing, tmp_path, monkeypatch).create(request("web-0", "web-1"))


def test_a_provider_that_is_silent_afterwards_does_not_hide_what_failed_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    posing = Posing(fails=WORDS, silent=True)
    with pytest.raises(TransientError, match=f"^{WORDS}$"):
        driver_of(posing, tmp_path, monkeypatch).create(request("web-0"))


def test_faults_of_servers_are_told_by_one_list(tmp_path: Path) -> None:
    failed = [NodeView(ENVIRONMENT, name, f"id-{name}", NodeStatus.ERROR, fault=NO_HOST) for name in ("web-0", "web-1")]
    lists = [failed]  # a second one is not to be had
    provider = OpenStack(cast("Around", SimpleNamespace(nodes=lists.pop)))
    assert [view.fault for view in made(tmp_path, provider).nodes()] == [f"it does not run: {NO_HOST}"] * 2


def test_a_machine_of_which_vagrant_can_be_told_nothing_is_removed_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The directory is lost, and the account has no password any more."""
    posing = Posing(there={"web-0": machine("web-0")}, unknown="its entry lacks password")
    driver_of(posing, tmp_path, monkeypatch).destroy(ENVIRONMENT)
    assert (posing.there, posing.calls) == ({}, [])


def test_a_mark_is_not_written_while_somebody_is_at_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    posing = Posing(comes=[machine("web-0")])
    driver = driver_of(posing, tmp_path, monkeypatch)
    driver.create(request("web-0"))
    said = Place(tmp_path / "environments" / ENVIRONMENT, "lxc")
    before = said.machines()
    with Locks(tmp_path / "locks").environment(ENVIRONMENT), pytest.raises(TransientError, match=ENVIRONMENT):
        driver.mark_end(ENVIRONMENT, 5.0)
    assert (said.ends_at(), posing.ends) == (2_000_000_000.0, {})
    driver.mark_end(ENVIRONMENT, 5.0)
    assert (said.ends_at(), posing.ends, said.machines()) == (5.0, {ENVIRONMENT: 5.0}, before)
