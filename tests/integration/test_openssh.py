"""What only a real SSH client has to get right: processes, kept connections, keys, and a node that cheats."""

from __future__ import annotations

import io
import os
import signal
import socket
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.adapters.keys import SshKeys
from pipeline.adapters.transports.openssh import OpenSshTransport, connection, masters
from pipeline.adapters.transports.openssh import archive as archives
from pipeline.adapters.transports.openssh.archive import unpack
from pipeline.domain.errors import PermanentError, TooLarge, TransientError, UserError
from pipeline.ports.common import LimitExceeded, Limits
from pipeline.ports.transports import Connection, EnvironmentAccess, NodeAccess
from tests.plugins.local_nodes import eventually
from tests.plugins.ssh_peer import SshPeer

LIMITS = Limits(total_s=30, silence_s=30)


@pytest.fixture
def transport(tmp_path: Path, ssh_peer: SshPeer) -> Iterator[OpenSshTransport]:
    transport = OpenSshTransport(str(tmp_path / "ssh"))
    yield transport
    transport.close(ssh_peer.access.environment_id)


@pytest.fixture
def nodes(transport: OpenSshTransport, ssh_peer: SshPeer) -> Iterator[Connection]:
    with transport.connect(ssh_peer.access) as connection:
        yield connection


def run(nodes: Connection, command: str, *, stdin: bytes = b"", limits: Limits = LIMITS, **env: str) -> tuple[int, str]:
    pieces: list[bytes] = []
    status = nodes.run("web-0", command, limits=limits, output=pieces.append, stdin=stdin, env=env)
    return status, b"".join(pieces).decode()


def master_of(directory: Path, name: str = "web-0") -> int:
    """The process of a kept connection."""
    note = next(directory.glob(f"ssh/*/{name}-*.sock.pid"))
    return int(note.read_text().split()[0])


def alive(pid: int) -> bool:
    """Whether a process runs; one that only waits to be collected does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


# Commands


def test_output_and_errors_are_one_stream(nodes: Connection) -> None:
    assert run(nodes, "echo one; echo two >&2; echo three") == (0, "one\ntwo\nthree\n")


def test_variables_and_input_arrive_and_stand_in_no_argument_list(nodes: Connection) -> None:
    command = (
        "cat; printf '%s\\n' \"$A\"; echo $B; cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' ' | grep -c 'q[u]ack'"
    )
    status, said = run(nodes, command, stdin=b"input quack\n", A='it\'s "quack"\\n', B="one\ntwo")
    assert (status, said) == (1, 'input quack\nit\'s "quack"\\n\none two\n0\n')


@pytest.mark.parametrize("command", ["cat | wc -c", "head -c 10 >/dev/null; echo 3000000", "sleep 0.1; echo 3000000"])
def test_much_input_is_read_or_not_read(nodes: Connection, command: str) -> None:
    status, said = run(nodes, command, stdin=b"x" * 3_000_000)
    assert (status, said.strip()) == (0, "3000000")


def test_a_command_without_input_sees_its_end(nodes: Connection) -> None:
    assert run(nodes, "cat; echo over") == (0, "over\n")


def test_much_output_comes_whole(nodes: Connection) -> None:
    status, said = run(nodes, "head -c 5000000 /dev/zero | tr '\\0' x; exit 9")
    assert (status, len(said)) == (9, 5_000_000)


def test_backslashes_quotes_and_lines_arrive_as_they_are(nodes: Connection) -> None:
    command = "cat <<'END'\n\\n \\\\ %s ' \" $HOME `id`\tü\nEND"
    assert run(nodes, command) == (0, "\\n \\\\ %s ' \" $HOME `id`\tü\n")


@pytest.mark.parametrize(
    ("command", "status"),
    [
        ("exit 255", 255),
        ("kill -TERM $$", 0),
        ("sh -c 'kill -9 $$'", 137),
        ("kill 0", 143),
        ("kill -9 0", 137),
        ("exec false", 1),
    ],
)
def test_however_a_command_ends_its_status_is_known(nodes: Connection, command: str, status: int) -> None:
    assert run(nodes, command)[0] == status


@pytest.mark.parametrize(
    "bad", [{"command": "echo \0"}, {"command": "true", "A B": "x"}, {"command": "true", "A": "\0"}]
)
def test_what_a_shell_cannot_hold_is_the_users_error(nodes: Connection, bad: dict[str, str]) -> None:
    with pytest.raises(UserError):
        run(nodes, **bad)  # type: ignore[arg-type]  # only strings are passed


def test_what_a_command_starts_in_the_background_lives_on(nodes: Connection) -> None:
    status, said = run(nodes, "sleep 300 & echo $!; exit 3")
    pid = int(said)
    assert status == 3
    assert alive(pid)
    os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("limits", [Limits(0.5, 30), Limits(30, 0.5)])
@pytest.mark.parametrize("stdin", [b"", b"x" * 3_000_000])
def test_an_overrun_ends_all_of_a_command_on_the_node(
    nodes: Connection, tmp_path: Path, limits: Limits, stdin: bytes
) -> None:
    with pytest.raises(LimitExceeded):
        run(
            nodes,
            f"sleep 300 & echo $! >{tmp_path}/child; echo $$ >{tmp_path}/shell; sleep 300",
            limits=limits,
            stdin=stdin,
        )
    pids = [int((tmp_path / name).read_text()) for name in ("child", "shell")]
    eventually(lambda: not any(map(alive, pids)), "the command is gone")


def test_a_sink_that_raises_ends_the_command(nodes: Connection, tmp_path: Path) -> None:
    def sink(_: bytes) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        nodes.run("web-0", f"echo $$ >{tmp_path}/shell; echo now; sleep 300", limits=LIMITS, output=sink)
    eventually(lambda: not alive(int((tmp_path / "shell").read_text())), "the command is gone")


WORKER = """
import sys
from pipeline.adapters.transports.openssh import OpenSshTransport
from pipeline.ports.common import Limits, Secret
from pipeline.ports.transports import EnvironmentAccess, NodeAccess
directory, key, port, public, command = sys.argv[1:]
node = NodeAccess("web-0", "web", "127.0.0.1", int(port), "root", public)
access = EnvironmentAccess("env-peer", Secret(open(key).read()), (node,))
with OpenSshTransport(directory).connect(access) as connection:
    sys.exit(connection.run("web-0", command, limits=Limits(60, 60), output=lambda data: None))
"""


def worker(tmp_path: Path, node: NodeAccess, command: str) -> subprocess.Popen[bytes]:
    """Another process that runs a command over the same directory."""
    directory = tmp_path / "ssh"
    argv = [sys.executable, "-W", "ignore", "-c", WORKER, str(directory), str(directory / "env-peer/key")]
    return subprocess.Popen([*argv, str(node.port), node.host_public_key, command])


def test_a_command_ends_when_its_worker_is_killed(nodes: Connection, ssh_peer: SshPeer, tmp_path: Path) -> None:
    run(nodes, "true")
    process = worker(tmp_path, ssh_peer.access.node("web-0"), f"echo $$ >{tmp_path}/shell; sleep 300")
    eventually(lambda: (tmp_path / "shell").exists() and bool((tmp_path / "shell").read_text()), "the command runs")
    process.kill()
    process.wait()
    eventually(lambda: not alive(int((tmp_path / "shell").read_text())), "the command is gone")
    assert run(nodes, "true")[0] == 0


# Kept connections


def test_one_login_serves_many_commands_threads_and_processes(
    nodes: Connection, ssh_peer: SshPeer, tmp_path: Path
) -> None:
    threads = [threading.Thread(target=run, args=(nodes, "true")) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    process = worker(tmp_path, ssh_peer.access.node("web-0"), "exit 5")
    assert process.wait() == 5
    assert ssh_peer.logins("web-0") == 1


def test_a_kept_connection_that_died_is_opened_again(nodes: Connection, ssh_peer: SshPeer, tmp_path: Path) -> None:
    run(nodes, "true")
    os.kill(master_of(tmp_path), signal.SIGKILL)
    assert run(nodes, "echo again") == (0, "again\n")
    assert ssh_peer.logins("web-0") == 2


def test_a_kept_connection_that_hangs_is_replaced(
    nodes: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "_START_S", 3)
    monkeypatch.setattr(masters, "_ANSWER_S", 0.5)
    run(nodes, "true")
    hung = master_of(tmp_path)
    os.kill(hung, signal.SIGSTOP)
    assert run(nodes, "echo again") == (0, "again\n")
    eventually(lambda: not alive(hung), "the old one is gone")


def test_what_is_asked_in_passing_has_input_and_output(nodes: Connection, ssh_peer: SshPeer) -> None:
    much = b"0123456789abcdef\n" * 10_000
    assert nodes.ask("web-0", "cat; echo $$ >&2; exit 5", timeout_s=20, stdin=much)[0] == 5
    assert nodes.ask("web-0", "cat", timeout_s=20, stdin=much) == (0, much)
    with pytest.raises(TransientError, match="more than 262144 bytes"):
        nodes.ask("web-0", "yes", timeout_s=20)
    assert ssh_peer.logins("web-0") == 1


def test_who_was_killed_did_not_do_what_it_was_asked(nodes: Connection) -> None:
    assert nodes.ask("web-0", "kill -9 $$", timeout_s=20)[0] != 0


def test_what_is_asked_in_passing_needs_no_connection_that_lives(
    nodes: Connection, ssh_peer: SshPeer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(masters, "_ANSWER_S", 0.5)
    nodes.ask("web-0", "true", timeout_s=20)
    os.kill(master_of(tmp_path), signal.SIGKILL)
    assert nodes.ask("web-0", "echo again", timeout_s=20) == (0, b"again\n")
    os.kill(hung := master_of(tmp_path), signal.SIGSTOP)
    assert nodes.ask("web-0", "echo again", timeout_s=3) == (0, b"again\n")
    eventually(lambda: not alive(hung), "the old one is gone")
    assert ssh_peer.logins("web-0") == 3


def test_a_link_that_breaks_in_the_middle_is_transient(nodes: Connection, ssh_peer: SshPeer) -> None:
    def sink(_: bytes) -> None:
        threading.Thread(target=ssh_peer.stop, args=("web-0",)).start()

    with pytest.raises(TransientError, match="broke during a command"):
        nodes.run("web-0", "echo now; sleep 300", limits=LIMITS, output=sink)
    ssh_peer.start("web-0")
    assert run(nodes, "true")[0] == 0


def test_another_process_can_end_it(nodes: Connection, ssh_peer: SshPeer, tmp_path: Path) -> None:
    run(nodes, "true")
    pid = master_of(tmp_path)
    script = (
        "import sys; from pipeline.adapters.transports.openssh import OpenSshTransport as T; T(sys.argv[1]).close_all()"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", script, str(tmp_path / "ssh")], check=True)
    eventually(lambda: not alive(pid), "the kept connection is gone")
    assert list((tmp_path / "ssh").iterdir()) == []


def test_one_that_hangs_is_ended_as_well(
    transport: OpenSshTransport, nodes: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(masters, "_ANSWER_S", 0.3)
    run(nodes, "true")
    pid = master_of(tmp_path)
    os.kill(pid, signal.SIGSTOP)
    transport.close("env-peer")
    eventually(lambda: not alive(pid), "the kept connection is gone")


def test_the_directory_may_have_any_length(ssh_peer: SshPeer, tmp_path: Path) -> None:
    transport = OpenSshTransport(str(tmp_path / "with a space, 100%" / ("long" * 40)))
    with transport.connect(ssh_peer.access) as nodes:
        assert run(nodes, "true")[0] == 0
        assert nodes.ask("web-0", "true", timeout_s=20)[0] == 0
    transport.close("env-peer")


def test_a_node_that_was_replaced_gets_a_connection_of_its_own(transport: OpenSshTransport, ssh_peer: SshPeer) -> None:
    for name in ("web-0", "web-1"):
        node = replace(ssh_peer.access.node(name), name="web-0")
        with transport.connect(replace(ssh_peer.access, nodes=(node,))) as nodes:
            assert run(nodes, "true")[0] == 0
    assert (ssh_peer.logins("web-0"), ssh_peer.logins("web-1")) == (1, 1)


# Keys


def test_keys_are_private_files(nodes: Connection, tmp_path: Path) -> None:
    run(nodes, "true")
    place = tmp_path / "ssh/env-peer"
    assert [path.stat().st_mode & 0o777 for path in (place.parent, place, place / "key")] == [0o700, 0o700, 0o600]


def test_a_wrong_host_key_is_final(transport: OpenSshTransport, nodes: Connection, ssh_peer: SshPeer) -> None:
    ssh_peer.swap_host_keys("web-0", "web-1")
    with pytest.raises(PermanentError, match="Host key verification failed"):
        run(nodes, "true")
    reasons = transport.probe(ssh_peer.access, 5)
    assert sorted(reasons) == ["web-0", "web-1"]
    assert "another host key" in reasons["web-0"]


def test_a_refused_key_is_final(transport: OpenSshTransport, ssh_peer: SshPeer) -> None:
    stranger = replace(ssh_peer.access, private_key=SshKeys().ed25519("stranger")[0])
    with transport.connect(stranger) as nodes, pytest.raises(PermanentError, match="Permission denied"):
        run(nodes, "true")
    assert "web-0" in transport.probe(stranger, 0.3)


def test_the_users_agent_and_configuration_are_not_used(
    nodes: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "agent"))
    monkeypatch.setenv("SSH_ASKPASS", str(tmp_path / "askpass"))
    run(nodes, "true")
    assert b"SSH_" not in Path(f"/proc/{master_of(tmp_path)}/environ").read_bytes()


def test_a_person_logs_in_with_the_command_line(transport: OpenSshTransport, ssh_peer: SshPeer, tmp_path: Path) -> None:
    line = transport.command_line(ssh_peer.access, "db-0", str(tmp_path / "a person's 50%"))
    done = subprocess.run([*line, "echo hello"], cwd="/", stdin=subprocess.DEVNULL, capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (0, b"hello\n"), done.stderr


@pytest.mark.parametrize("name", ["-oProxyCommand=x", "a b", "../x", "", "x\ny", "x" * 64])
def test_odd_names_are_refused(transport: OpenSshTransport, ssh_peer: SshPeer, name: str) -> None:
    node = replace(ssh_peer.access.nodes[0], name=name)
    with pytest.raises(UserError), transport.connect(replace(ssh_peer.access, nodes=(node,))):
        pass
    with pytest.raises(UserError):
        transport.close(name)


@pytest.mark.parametrize(
    "change", [{"address": "1.2.3.4\nUser x"}, {"user": "a b"}, {"host_public_key": "ssh-rsa A\nB C"}]
)
def test_odd_addresses_are_refused(transport: OpenSshTransport, ssh_peer: SshPeer, change: dict[str, str]) -> None:
    node = replace(ssh_peer.access.nodes[0], **change)  # type: ignore[arg-type]  # only strings are changed
    with pytest.raises(UserError), transport.connect(replace(ssh_peer.access, nodes=(node,))):
        pass


# Readiness


def test_a_probe_waits_for_a_node_that_is_still_starting(transport: OpenSshTransport, ssh_peer: SshPeer) -> None:
    ssh_peer.stop("web-1")
    starting = threading.Timer(0.3, ssh_peer.start, ["web-1"])
    starting.start()
    assert transport.probe(ssh_peer.access, 10) == {}
    starting.join()


def test_a_probe_gives_up_a_node_that_says_nothing(transport: OpenSshTransport, ssh_peer: SshPeer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        node = replace(ssh_peer.access.nodes[0], port=silent.getsockname()[1])
        reasons = transport.probe(EnvironmentAccess("env-x", ssh_peer.access.private_key, (node,)), 0.3)
    assert "did not answer" in reasons["web-0"]


# Files


def test_links_and_modes_of_a_commit_arrive_and_nothing_odd(nodes: Connection, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "bin").mkdir(parents=True)
    (source / "bin/start").write_text("#!/bin/sh\necho started\n")
    (source / "bin/start").chmod(0o755)
    (source / "passwd").symlink_to("/etc/passwd")
    os.mkfifo(source / "pipe")
    nodes.put("web-0", str(source), f"{tmp_path}/app", limits=LIMITS)
    assert run(nodes, f"{tmp_path}/app/bin/start") == (0, "started\n")
    assert (tmp_path / "app/passwd").readlink() == Path("/etc/passwd")
    assert not (tmp_path / "app/pipe").exists()


def test_an_upload_to_a_bad_place_says_why(nodes: Connection, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    with pytest.raises(PermanentError, match="web-0 could not take /proc/no/where"):
        nodes.put("web-0", str(tmp_path / "source"), "/proc/no/where", limits=LIMITS)


def test_a_written_file_has_its_mode_and_leaves_no_other(nodes: Connection, tmp_path: Path) -> None:
    nodes.put_file("web-0", b"secret", f"{tmp_path}/d/key", mode=0o600)
    assert [(path.name, path.stat().st_mode & 0o777) for path in (tmp_path / "d").iterdir()] == [("key", 0o600)]


def test_only_files_and_directories_come_from_a_node(nodes: Connection, tmp_path: Path) -> None:
    place = f"{tmp_path}/n"
    run(
        nodes,
        f"mkdir -p {place}/d && cd {place} && echo 1 >d/f && ln -s /etc/passwd link && mkfifo pipe && ln d/f hard",
    )
    names = nodes.fetch_tree("web-0", f"{tmp_path}/n", str(tmp_path / "back"), limit_bytes=1000, limits=LIMITS)
    assert "n/d/f" in names or "n/hard" in names
    found = list((tmp_path / "back").rglob("*"))
    assert all(path.is_dir() or (path.is_file() and not path.is_symlink()) for path in found)


def test_an_endless_file_is_cut_off(nodes: Connection, tmp_path: Path) -> None:
    run(nodes, f"truncate -s 20G {tmp_path}/sparse")
    with pytest.raises(TooLarge):
        list(nodes.fetch("web-0", f"{tmp_path}/sparse", limit_bytes=1_000_000, limits=LIMITS))
    with pytest.raises(TooLarge):
        nodes.fetch_tree("web-0", f"{tmp_path}/sparse", str(tmp_path / "back"), limit_bytes=1_000_000, limits=LIMITS)


def test_a_fetch_that_is_given_up_leaves_nothing_running(nodes: Connection, tmp_path: Path) -> None:
    run(nodes, f"head -c 3000000 /dev/zero >{tmp_path}/large")
    pieces = nodes.fetch("web-0", f"{tmp_path}/large", limit_bytes=3_000_000, limits=LIMITS)
    next(iter(pieces))
    pieces.close()  # type: ignore[attr-defined]  # every fetch is a generator
    assert run(nodes, "echo free") == (0, "free\n")


def archive(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for info, content in members:
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return file.getvalue()


def entry(name: str, type: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = type, link, 0o4777
    return info


def test_an_archive_cannot_leave_its_target(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    evil = archive(
        (entry("../outside"), b"1"),
        (entry(f"{tmp_path}/absolute"), b"2"),
        (entry("a/../../outside"), b"3"),
        (entry("door", tarfile.SYMTYPE, str(tmp_path)), b""),
        (entry("door/outside"), b"4"),
        (entry("hard", tarfile.LNKTYPE, "/etc/passwd"), b""),
        (entry("device", tarfile.CHRTYPE), b""),
        (entry("pipe", tarfile.FIFOTYPE), b""),
        (entry("good/file"), b"5"),
    )
    assert unpack([evil], target, limit_bytes=1000, what="it") == ["door/outside", "good/file"]
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()) == [
        "target/door/outside",
        "target/good/file",
    ]
    assert (target / "good/file").stat().st_mode & 0o7777 == 0o644


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"no archive at all" * 100, PermanentError),
        (archive((entry("a"), b"x" * 5000))[:2000], TransientError),
        (archive((entry("a"), b"1"), (entry("a/b"), b"2")), PermanentError),
        (archive((entry("a"), b"x" * 10_001)), TooLarge),
    ],
)
def test_a_broken_archive_is_told_from_a_large_one(tmp_path: Path, content: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        unpack([content], tmp_path, limit_bytes=10_000, what="it")


def test_an_archive_of_too_many_entries_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_ENTRIES", 10)
    members = [(entry(f"d{i}", tarfile.DIRTYPE), b"") for i in range(11)]
    with pytest.raises(TooLarge):
        unpack([archive(*members)], tmp_path, limit_bytes=1000, what="it")
