"""Local nodes that pose as physical machines: registered, leased whole, cleaned in between, over real SSH."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from pipeline.adapters.keys import SshKeys
from pipeline.adapters.transports.openssh import OpenSshTransport
from pipeline.domain.errors import (
    AlreadyExists,
    GuardRefused,
    HostKeyUnknown,
    InvalidTransition,
    NotFound,
    PermanentError,
    Unreachable,
)
from pipeline.domain.inventory import MachineState
from pipeline.domain.qos import QosProfile
from pipeline.domain.registered import Registered, Use
from pipeline.domain.resources import Resources
from pipeline.ports.common import Limits, Secret
from pipeline.ports.drivers import EnvironmentRequest, NodeRequest, NodeStatus
from pipeline.ports.transports import EnvironmentAccess, NodeAccess
from tests.plugins.local_nodes import LocalNodes
from tests.plugins.registered_machines import ASKING, IMAGE, OURS, PROVIDER, Metal, posing

pytestmark = [pytest.mark.local, pytest.mark.timeout(180)]
SHORT = Limits(total_s=30, silence_s=30)
#: Cleans what a lease left, and says how often it did.
RESET = "rm -rf /srv/* && echo cleaned >>/var/tmp/resets"


@dataclass
class Guest:
    """Somebody whose environment has a machine: a key of its own, and the request that brings it."""

    name: str
    private: Secret
    public: str

    @classmethod
    def named(cls, name: str) -> Guest:
        return cls(name, *SshKeys().ed25519(name))

    def request(self, machine: str) -> EnvironmentRequest:
        unused, public = SshKeys().ed25519("a host key that is not installed")
        small = Resources(vcpu=0.5, memory_mib=64, disk_gib=1)
        node = NodeRequest("db-0", "db", IMAGE, small, QosProfile(), unused, public, machine)
        return EnvironmentRequest(OURS, self.name, "shop", self.public, time.time() + 3600, (node,))


@pytest.fixture
def metal(local_nodes: LocalNodes) -> Iterator[tuple[Metal, tuple[Registered, ...]]]:
    with posing(local_nodes, 1) as found:
        yield found


@pytest.fixture
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ssh")


def said(one: Registered, key: Secret, command: str, place: Path) -> tuple[int, str]:
    """What a command says to whoever has this key; PermanentError when he does not get in."""
    heard: list[bytes] = []
    login = one.login
    node = NodeAccess("db-0", "db", login.address, login.port, "root", login.host_key)
    transport = OpenSshTransport(str(place))
    access = EnvironmentAccess("env-test", key, (node,))
    with closing(Closer(transport)), transport.connect(access) as connection:
        status = connection.run("db-0", command, limits=SHORT, output=heard.append)
    return status, b"".join(heard).decode().strip()


class Closer:
    def __init__(self, transport: OpenSshTransport) -> None:
        self.close = transport.close_all


def gets_in(one: Registered, key: Secret, place: Path) -> bool:
    with suppress(PermanentError):
        return said(one, key, "true", place)[0] == 0
    return False


def stands(metal: Metal, one: Registered, reset: str = RESET) -> Registered:
    """Registered, and free."""
    metal.registry.register(replace(one, reset=reset), ASKING)
    metal.clean()
    found = metal.get(one.name)
    assert found.use is Use.FREE, found
    return found


def test_a_whole_lease(metal: tuple[Metal, Sequence[Registered]], local_nodes: LocalNodes, place: Path) -> None:
    books, (new,) = metal
    one = stands(books, new)
    service = local_nodes.keys.login
    driver, ada, bob = books.driver(), Guest.named("env-ada"), Guest.named("env-bob")
    for guest, other in ((ada, bob), (bob, ada)):
        driver.create(guest.request("m1"))
        (view,) = driver.nodes()
        assert (view.environment_id, view.name, view.machine, view.status) == (
            guest.name, "db-0", "m1", NodeStatus.ACTIVE,
        )  # fmt: skip
        assert view.host_public_key == one.login.host_key
        assert gets_in(one, guest.private, place)
        assert gets_in(one, service, place)
        assert not gets_in(one, other.private, place)
        assert said(one, guest.private, "ls /srv; echo left >/srv/by-the-guest", place) == (0, "")
        # what root may do against the next one
        keys = "mkdir -p /var/mail/.ssh; for at in ~root/.ssh /var/mail/.ssh; do echo '{}' >>$at/authorized_keys; done"
        assert said(one, guest.private, keys.format(other.public), place)[0] == 0
        driver.destroy(guest.name)
        assert driver.list().environments == ()
        assert books.get("m1").use is Use.DIRTY
        assert not gets_in(one, guest.private, place)
        assert not gets_in(one, other.private, place)
        books.clean()
        assert books.get("m1").use is Use.FREE
    left = said(one, service, "cat /var/tmp/resets; ls -A /srv; ls -A /var/mail/.ssh", place)
    assert left == (0, "\n".join(["cleaned"] * 3))


def test_the_service_may_come_as_another_user(
    metal: tuple[Metal, Sequence[Registered]], local_nodes: LocalNodes, place: Path
) -> None:
    books, (new,) = metal
    plain = replace(new, login=replace(new.login, user="ops"))
    with pytest.raises(Unreachable, match="refuses SSH"):
        books.registry.register(plain, ASKING)
    key = local_nodes.keys.login_public
    assert (
        said_as_service(books, new, f"useradd -m ops && mkdir ~ops/.ssh && echo '{key}' >~ops/.ssh/authorized_keys")
        == 0
    )
    assert said_as_service(books, new, "chown -R ops: ~ops/.ssh; rm -f /etc/sudoers.d/ops") == 0
    with pytest.raises(Unreachable, match="password is required"):
        books.registry.register(plain, ASKING)
    assert said_as_service(books, new, "echo 'ops ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/ops") == 0
    one = stands(books, plain)
    service, ada = local_nodes.keys.login, Guest.named("env-ada")
    assert not gets_in(one, service, place)
    books.driver().create(ada.request("m1"))
    assert gets_in(one, ada.private, place)
    assert not gets_in(one, service, place)
    books.driver().destroy("env-ada")
    assert not gets_in(one, ada.private, place)
    books.clean()
    assert books.get("m1").use is Use.FREE


def test_a_session_of_the_last_guest_ends(metal: tuple[Metal, Sequence[Registered]], place: Path) -> None:
    books, (new,) = metal
    one = stands(books, new)
    ada = Guest.named("env-ada")
    books.driver().create(ada.request("m1"))
    key, hosts = place / "ada", place / "hosts"
    key.touch(mode=0o600)
    key.write_text(ada.private.reveal())
    hosts.write_text(f"{one.login.address} {one.login.host_key}\n")
    argv = [
        "ssh", "-F", "none", "-i", str(key), "-o", f"UserKnownHostsFile={hosts}", "-o", "BatchMode=yes",
        f"root@{one.login.address}", "echo in; exec sleep 120",
    ]  # fmt: skip
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as session:
        assert session.stdout is not None
        try:
            assert session.stdout.readline() == b"in\n"
            books.driver().destroy("env-ada")
            assert session.wait(20) != 0
        finally:
            session.kill()


def test_who_comes_late_lets_nobody_in(metal: tuple[Metal, Sequence[Registered]], place: Path) -> None:
    books, (new,) = metal
    stands(books, new)
    ada, bob = Guest.named("env-ada"), Guest.named("env-bob")
    books.driver().create(ada.request("m1"))
    late = books.get("m1")
    books.driver().destroy("env-ada")
    with pytest.raises(InvalidTransition, match="later turn"):
        books.hands.hand_over(late, [ada.public])
    books.clean()
    books.driver().create(bob.request("m1"))
    dirty = replace(late, turn=late.turn + 1)
    with pytest.raises(InvalidTransition, match="later turn"):
        books.hands.hand_over(late, [ada.public])
    with pytest.raises(InvalidTransition, match="later turn"):
        books.hands.take_back(dirty)
    one = books.get("m1")
    assert gets_in(one, bob.private, place)
    assert not gets_in(one, ada.private, place)


def test_a_reset_that_fails_and_a_release(metal: tuple[Metal, Sequence[Registered]]) -> None:
    books, (new,) = metal
    stands(books, new, "test ! -e /srv/stuck || { echo the disk is stuck; exit 3; }")
    ada = Guest.named("env-ada")
    books.driver().create(ada.request("m1"))
    one = books.get("m1")
    assert said_as_service(books, one, "touch /srv/stuck") == 0
    with pytest.raises(GuardRefused, match="env-ada/db-0"):
        books.registry.remove(PROVIDER, "m1", ASKING)
    books.driver().destroy("env-ada")
    books.clean()
    spoiled = books.get("m1")
    assert spoiled.use is Use.QUARANTINED
    assert "ended with 3: the disk is stuck" in spoiled.reason
    (machine,) = books.inventories.view(PROVIDER).inventory.machines
    assert (machine.state, "the disk is stuck" in machine.state_reason) == (MachineState.QUARANTINED, True)
    assert said_as_service(books, one, "rm /srv/stuck") == 0
    books.registry.release(PROVIDER, "m1", ASKING)
    books.clean()
    assert books.get("m1").use is Use.FREE
    (machine,) = books.inventories.view(PROVIDER).inventory.machines
    assert machine.state is MachineState.IN_SERVICE


@pytest.mark.parametrize("turn", ["9" * 5000, "99999", "many"])
def test_a_guest_who_forges_the_turn_gets_nothing_but_a_quarantine(
    turn: str, metal: tuple[Metal, Sequence[Registered]]
) -> None:
    books, (new,) = metal
    stands(books, new)
    ada = Guest.named("env-ada")
    books.driver().create(ada.request("m1"))
    one = books.get("m1")
    assert said_as_service(books, one, f"echo {turn} >/etc/greenroom/turn") == 0
    books.driver().destroy("env-ada")
    books.clean()
    assert (books.get("m1").use, "later turn" in books.get("m1").reason) == (Use.QUARANTINED, True)
    assert said_as_service(books, one, "rm -r /etc/greenroom") == 0
    books.registry.release(PROVIDER, "m1", ASKING)
    books.clean()
    assert books.get("m1").use is Use.FREE


def test_a_reset_that_hangs_is_ended(metal: tuple[Metal, Sequence[Registered]]) -> None:
    books, (new,) = metal
    books.registry.register(replace(new, reset="sleep 100", reset_s=1.0), ASKING)
    books.clean()
    assert books.get("m1").use is Use.QUARANTINED
    assert "`sleep 100` was ended" in books.get("m1").reason


def test_only_who_lets_the_service_in_is_registered(metal: tuple[Metal, Sequence[Registered]]) -> None:
    books, (new,) = metal
    unknown = replace(new, login=replace(new.login, host_key=""))
    with pytest.raises(HostKeyUnknown, match="compare it") as caught:
        books.registry.register(unknown, ASKING)
    assert caught.value.shown == new.login.host_key
    _, other = SshKeys().ed25519("")
    dead, strange = replace(new.login, port=2222), replace(new.login, host_key=other)
    for login, says in ((dead, "does not answer SSH"), (strange, "refuses SSH"), (replace(dead, host_key=""), ":2222")):
        with pytest.raises(Unreachable, match=says) as refused:
            books.registry.register(replace(new, login=login), ASKING)
        assert "machine m1 was not registered" in str(refused.value)
    with pytest.raises(NotFound):
        books.get("m1")
    assert books.registry.register(new, replace(ASKING, dry_run=True)).name == "m1"
    assert books.stock.machines() == []


def test_a_machine_has_one_owner_and_tells_who_has_it(metal: tuple[Metal, Sequence[Registered]]) -> None:
    books, (new,) = metal
    stands(books, new)
    with pytest.raises(AlreadyExists, match="is registered as metal"):
        books.registry.register(replace(new, name="m2"), ASKING)
    strangers = Metal(books.hands)
    strangers.registry = replace(strangers.registry, deployment="theirs")
    with pytest.raises(AlreadyExists, match="registered by deployment ours"):
        strangers.registry.register(new, ASKING)
    books.driver().create(Guest.named("env-ada").request("m1"))
    amnesiac = Metal(books.hands)
    found = amnesiac.registry.register(new, ASKING)
    assert (found.use, found.used_by, found.turn) == (Use.LEASED, "env-ada/db-0", books.get("m1").turn)
    assert [one.environment_id for one in amnesiac.driver().list().environments] == ["env-ada"]


def test_a_visit_finds_who_is_away(metal: tuple[Metal, Sequence[Registered]]) -> None:
    books, (new,) = metal
    one = stands(books, new)
    away = replace(one, name="m2", login=replace(one.login, port=2222))
    books.stand(away)
    for _ in range(2):
        books.care.visit(PROVIDER)
    assert (books.get("m1").word, books.get("m2").word) == ("free", "down")
    assert ":2222" in books.get("m2").fault


def said_as_service(books: Metal, one: Registered, command: str) -> int:
    """The exit status of a command that the service runs on a machine, as its reset is."""
    try:
        books.hands.reset(replace(one, reset=command))
    except PermanentError:
        return 1
    return 0
