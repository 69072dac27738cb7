"""Every transport does what its port says: the twin, and OpenSSH against a real SSH server and real nodes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.adapters.keys import SshKeys
from pipeline.adapters.transports.memory import MemoryTransport
from pipeline.adapters.transports.openssh import OpenSshTransport
from pipeline.domain.errors import NotFound, PermanentError, TooLarge, TransientError, UserError
from pipeline.ports.common import LimitExceeded, Limits, Secret
from pipeline.ports.transports import Connection, EnvironmentAccess, NodeAccess, Transport
from tests.plugins.local_nodes import LocalNodes
from tests.plugins.ssh_peer import SshPeer

LIMITS = Limits(total_s=30, silence_s=30)
NAMES = ("web-0", "db-0")


class Clock:
    """Time that passes when somebody sleeps."""

    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += seconds


@dataclass
class Case:
    """One transport, nodes that it reaches, a place on them, and a way to lose one."""

    transport: Transport
    access: EnvironmentAccess
    place: str
    lose: Callable[[str], None]


@contextmanager
def memory() -> Iterator[Case]:
    nodes = tuple(NodeAccess(name, name[:-2], "192.0.2.1", 22, "root", "ssh-ed25519 AAAA") for name in NAMES)
    transport = MemoryTransport(Clock())
    access = EnvironmentAccess("env-memory", Secret("key"), nodes)
    yield Case(transport, access, "/srv/place", lambda name: transport.unreachable.update({name: "it is off"}))


@contextmanager
def peer(place: Path) -> Iterator[Case]:
    peer = SshPeer(NAMES, "env-peer")
    with openssh(place) as transport:
        yield Case(transport, peer.access, str(place / "node"), peer.stop)
    peer.close()


@contextmanager
def local(nodes: LocalNodes, place: Path) -> Iterator[Case]:
    with openssh(place) as transport, nodes.environment(*NAMES) as access:
        yield Case(transport, access, "/srv/place", lambda name: nodes.driver.destroy(access.environment_id, [name]))


@contextmanager
def openssh(place: Path) -> Iterator[OpenSshTransport]:
    transport = OpenSshTransport(str(place / "ssh"))
    yield transport
    transport.close_all()


@pytest.fixture(params=["memory", "peer", pytest.param("local", marks=pytest.mark.local)])
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Case]:
    if request.param == "memory":
        context = memory()
    elif request.param == "peer":
        context = peer(tmp_path)
    else:
        context = local(request.getfixturevalue("local_nodes"), tmp_path)
    with context as case:
        yield case


@pytest.fixture
def connection(case: Case) -> Iterator[Connection]:
    with case.transport.connect(case.access) as connection:
        yield connection


def said(connection: Connection, command: str) -> bytes:
    pieces: list[bytes] = []
    assert connection.run("web-0", command, limits=LIMITS, output=pieces.append) == 0
    return b"".join(pieces)


@pytest.mark.parametrize(("command", "status"), [("true", 0), ("false", 1), ("exit 3", 3), ("exit 255", 255)])
def test_the_exit_status_is_the_commands_own(connection: Connection, command: str, status: int) -> None:
    assert connection.run("web-0", command, limits=LIMITS, output=lambda _: None) == status


def test_the_output_reaches_the_sink(connection: Connection) -> None:
    assert said(connection, "echo hello world") == b"hello world\n"


def test_the_last_of_several_lines_counts(connection: Connection) -> None:
    assert said(connection, "cd / || exit 1\nfalse\necho there") == b"there\n"


def test_an_unknown_node_is_not_found(connection: Connection) -> None:
    with pytest.raises(NotFound, match="web-9"):
        connection.run("web-9", "true", limits=LIMITS, output=lambda _: None)


@pytest.mark.parametrize(
    ("command", "limits", "which"),
    [
        ("sleep 60", Limits(total_s=0.2, silence_s=30), "total"),
        ("sleep 60", Limits(total_s=30, silence_s=0.2), "silence"),
        ("echo 0123456789", Limits(total_s=30, silence_s=30, output_bytes=5), "output"),
    ],
)
def test_limits_end_a_command(connection: Connection, command: str, limits: Limits, which: str) -> None:
    with pytest.raises(LimitExceeded) as raised:
        connection.run("web-0", command, limits=limits, output=lambda _: None)
    assert raised.value.which == which
    assert connection.run("web-0", "true", limits=LIMITS, output=lambda _: None) == 0


def test_a_directory_is_put_and_comes_back(case: Case, connection: Connection, tmp_path: Path) -> None:
    source = tree(tmp_path / "source", {"a": b"1", "deep/er/b": b"\0" * 70_000})
    connection.put("web-0", str(source), f"{case.place}/app", limits=LIMITS)
    names = connection.fetch_tree(
        "web-0", f"{case.place}/app", str(tmp_path / "back"), limit_bytes=100_000, limits=LIMITS
    )
    assert sorted(names) == ["app/a", "app/deep/er/b"]
    assert (tmp_path / "back/app/deep/er/b").read_bytes() == b"\0" * 70_000


@pytest.mark.parametrize(("replace", "left"), [(True, ["app/new"]), (False, ["app/new", "app/old"])])
def test_put_replaces_or_adds(
    case: Case, connection: Connection, tmp_path: Path, replace: bool, left: list[str]
) -> None:
    connection.put("web-0", str(tree(tmp_path / "1", {"old": b"1"})), f"{case.place}/app", limits=LIMITS)
    connection.put(
        "web-0", str(tree(tmp_path / "2", {"new": b"2"})), f"{case.place}/app", limits=LIMITS, replace=replace
    )
    names = connection.fetch_tree("web-0", f"{case.place}/app", str(tmp_path / "back"), limit_bytes=100, limits=LIMITS)
    assert sorted(names) == left


def test_a_file_is_put_and_replaced(case: Case, connection: Connection) -> None:
    for content in (b"first", b"\0second\n"):
        connection.put_file("web-0", content, f"{case.place}/etc/app.conf", mode=0o600)
        pieces = connection.fetch("web-0", f"{case.place}/etc/app.conf", limit_bytes=100, limits=LIMITS)
        assert b"".join(pieces) == content


def test_a_single_file_can_be_fetched_as_a_tree(case: Case, connection: Connection, tmp_path: Path) -> None:
    connection.put_file("web-0", b"<xml/>", f"{case.place}/report.xml")
    path = f"{case.place}/report.xml"
    assert connection.fetch_tree("web-0", path, str(tmp_path / "back"), limit_bytes=100, limits=LIMITS) == [
        "report.xml"
    ]
    assert (tmp_path / "back/report.xml").read_bytes() == b"<xml/>"


def test_what_is_missing_is_not_found(case: Case, connection: Connection, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        list(connection.fetch("web-0", f"{case.place}/none", limit_bytes=10, limits=LIMITS))
    with pytest.raises(NotFound):
        connection.fetch_tree("web-0", f"{case.place}/none", str(tmp_path), limit_bytes=10, limits=LIMITS)


def test_what_is_too_large_does_not_come(case: Case, connection: Connection, tmp_path: Path) -> None:
    connection.put_file("web-0", b"x" * 5000, f"{case.place}/large/file")
    with pytest.raises(TooLarge):
        list(connection.fetch("web-0", f"{case.place}/large/file", limit_bytes=4999, limits=LIMITS))
    with pytest.raises(TooLarge):
        connection.fetch_tree("web-0", f"{case.place}/large", str(tmp_path / "back"), limit_bytes=4999, limits=LIMITS)
    assert list((tmp_path / "back").rglob("file")) == []


def test_a_file_of_exactly_the_limit_comes(case: Case, connection: Connection) -> None:
    connection.put_file("web-0", b"x" * 5000, f"{case.place}/file")
    assert len(b"".join(connection.fetch("web-0", f"{case.place}/file", limit_bytes=5000, limits=LIMITS))) == 5000


def test_a_file_is_not_put_over_a_directory(case: Case, connection: Connection) -> None:
    connection.put_file("web-0", b"1", f"{case.place}/directory/file")
    with pytest.raises(PermanentError, match="directory"):
        connection.put_file("web-0", b"2", f"{case.place}/directory")


@pytest.mark.parametrize("target", ["relative", "/", "/srv/../etc"])
def test_a_target_must_be_a_plain_absolute_path(connection: Connection, tmp_path: Path, target: str) -> None:
    with pytest.raises(UserError):
        connection.put("web-0", str(tmp_path), target, limits=LIMITS)
    with pytest.raises(UserError):
        connection.put_file("web-0", b"", target)


def test_a_probe_names_who_does_not_answer(case: Case) -> None:
    assert case.transport.probe(case.access, 10.0) == {}
    case.lose("db-0")
    reasons = case.transport.probe(case.access, 0.3)
    assert list(reasons) == ["db-0"]
    assert reasons["db-0"]


def test_a_lost_node_is_a_transient_error(case: Case, connection: Connection) -> None:
    connection.run("web-0", "true", limits=LIMITS, output=lambda _: None)
    case.lose("web-0")
    with pytest.raises(TransientError, match="web-0"):
        connection.run("web-0", "true", limits=LIMITS, output=lambda _: None)
    assert connection.run("db-0", "true", limits=LIMITS, output=lambda _: None) == 0


@pytest.mark.parametrize(("command", "answer"), [("false", (1, b"")), ("echo here\nexit 3", (3, b"here\n"))])
def test_what_is_asked_in_passing_is_answered(connection: Connection, command: str, answer: tuple[int, bytes]) -> None:
    for _ in range(2):  # the second time over the connection that is kept
        assert connection.ask("web-0", command, timeout_s=20) == answer


def test_who_does_not_answer_in_time_is_a_transient_error(connection: Connection) -> None:
    with pytest.raises(TransientError, match="web-0"):
        connection.ask("web-0", "sleep 60", timeout_s=0.3)
    assert connection.ask("web-0", "true", timeout_s=20) == (0, b"")


def test_a_lost_node_is_not_asked(case: Case, connection: Connection) -> None:
    connection.ask("web-0", "true", timeout_s=20)
    case.lose("web-0")
    with pytest.raises(TransientError, match="web-0"):
        connection.ask("web-0", "true", timeout_s=20)
    with pytest.raises(NotFound, match="web-9"):
        connection.ask("web-9", "true", timeout_s=20)


def test_closing_is_repeatable_and_reconnects(case: Case) -> None:
    case.transport.close(case.access.environment_id)
    for _ in range(2):
        with case.transport.connect(case.access) as connection:
            assert connection.run("web-0", "true", limits=LIMITS, output=lambda _: None) == 0
        case.transport.close(case.access.environment_id)
        case.transport.close(case.access.environment_id)


def test_a_command_line_names_the_node(case: Case, tmp_path: Path) -> None:
    line = case.transport.command_line(case.access, "db-0", str(tmp_path / "for me"))
    assert (line[0], line[-1]) == ("ssh", "db-0")
    assert (tmp_path / "for me").stat().st_mode & 0o777 == 0o700


def test_keys_are_one_line_and_readable_again() -> None:
    private, public = SshKeys().ed25519("env-1")
    assert public.startswith("ssh-ed25519 ")
    assert public.endswith(" env-1")
    assert private.reveal().startswith("-----BEGIN OPENSSH PRIVATE KEY-----")
    assert "***" in repr(private)


def tree(root: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root
