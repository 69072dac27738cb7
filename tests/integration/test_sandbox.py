"""The bubblewrap sandbox: what it lets through, and what it keeps from a repository's code."""

from __future__ import annotations

import os
import re
import shutil
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipeline.adapters.sandboxes.bubblewrap import BubblewrapSandbox
from pipeline.domain.errors import PermanentError, UserError
from pipeline.ports.common import LimitExceeded, Limits, Secret
from pipeline.ports.sandboxes import SandboxCommand
from pipeline.ports.transports import NodeAccess

LIMITS = Limits(total_s=30, silence_s=30)
PYTHON = "/usr/bin/python3"

pytestmark = pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")


@pytest.fixture
def sandbox(tmp_path: Path) -> BubblewrapSandbox:
    return BubblewrapSandbox(str(tmp_path / "sandboxes"))


def run(sandbox: BubblewrapSandbox, script: str, **more: object) -> tuple[int, str]:
    """Run a shell script; its exit status and its output."""
    command = SandboxCommand(("/bin/sh", "-c", script), "/tmp", **more)  # type: ignore[arg-type]  # one fixture for all fields
    pieces: list[bytes] = []
    status = sandbox.run(command, limits=LIMITS, output=pieces.append)
    return status, b"".join(pieces).decode()


def run_python(sandbox: BubblewrapSandbox, script: str, **more: object) -> tuple[int, str]:
    return run(sandbox, f"exec {PYTHON} -I -c '{script}'", **more)


@contextmanager
def echo_node(name: str = "web-0") -> Iterator[NodeAccess]:
    """A node whose SSH port says who it is, then repeats what it gets until the end."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection, connection.makefile("rb") as file:
                    connection.sendall(f"I am {name}\n".encode())
                    while piece := file.read1():
                        connection.sendall(piece)

        thread = threading.Thread(target=serve)
        thread.start()
        yield NodeAccess(name, "web", "127.0.0.1", server.getsockname()[1], "root", "ssh-ed25519 AAAA")
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.mark.parametrize("status", [0, 1, 7, 255])
def test_the_exit_status_is_the_commands(sandbox: BubblewrapSandbox, status: int) -> None:
    assert run(sandbox, f"echo out; echo err >&2; exit {status}") == (status, "out\nerr\n")


def test_a_command_that_kills_itself_is_no_broken_sandbox(sandbox: BubblewrapSandbox) -> None:
    assert run(sandbox, "kill -9 $$")[0] == 137


def test_it_is_an_ordinary_user_without_privileges(sandbox: BubblewrapSandbox) -> None:
    _, said = run(sandbox, "id -u; grep ^CapBnd /proc/self/status; cat /etc/passwd | wc -l")
    assert said.split() == ["1000", "CapBnd:", "0000000000000000", "1"]


def test_it_cannot_make_namespaces_to_gain_any(sandbox: BubblewrapSandbox) -> None:
    assert run(sandbox, "unshare --user --map-root-user true")[0] != 0


@pytest.mark.parametrize(
    "path", ["/home", "/root", "/var", "/run", "/srv", "/sys", "/etc/shadow", "/etc/ssh", "/etc/ssl"]
)
def test_the_machines_own_directories_do_not_exist(sandbox: BubblewrapSandbox, path: str) -> None:
    assert run(sandbox, f"test -e {path}")[0] == 1


@pytest.mark.parametrize("path", ["/usr/x", "/etc/x", "/x", "/dev/x", "/relay/x", "/source/x"])
def test_nothing_but_its_own_can_be_written(sandbox: BubblewrapSandbox, tmp_path: Path, path: str) -> None:
    assert run(sandbox, f"echo 1 > {path}", read_only={"/source": str(tmp_path)})[0] != 0
    assert not (tmp_path / "x").exists()


def test_what_is_bound_can_be_read_and_written(sandbox: BubblewrapSandbox, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "in/file").write_text("content")
    bound = {"read_only": {"/source": str(tmp_path / "in")}, "writable": {"/out": str(tmp_path / "out")}}
    assert run(sandbox, "cp /source/file /out/copy", **bound) == (0, "")
    assert (tmp_path / "out/copy").read_text() == "content"


def test_a_secret_is_a_private_file_that_no_argument_names(sandbox: BubblewrapSandbox) -> None:
    script = "cat /ours/key; stat -c %a /ours/key; tr '\\0' ' ' </proc/1/cmdline"
    _, said = run(sandbox, script, secrets={"/ours/key": Secret("the key\n")})
    assert said.startswith("the key\n600\n")
    assert said.count("the key") == 1


def test_the_workers_environment_does_not_reach_it(sandbox: BubblewrapSandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GREENROOM_TOKEN", "of the worker")
    _, said = run(sandbox, "for f in /proc/[0-9]*/environ; do tr '\\0' '\\n' <$f; done", env={"SUITE": "this one"})
    assert "SUITE=this one" in said
    assert "of the worker" not in said
    assert "GREENROOM_TOKEN" not in said


def test_a_variable_that_would_change_the_sandbox_itself_is_refused(sandbox: BubblewrapSandbox) -> None:
    with pytest.raises(UserError, match="LD_PRELOAD"):
        run(sandbox, "true", env={"LD_PRELOAD": "/tmp/evil.so"})


def test_no_other_process_can_be_seen(sandbox: BubblewrapSandbox) -> None:
    _, said = run(sandbox, "ls /proc")
    assert len(re.findall(r"^\d+$", said, re.MULTILINE)) < 8
    assert f"\n{os.getpid()}\n" not in said or os.getpid() < 8


def test_loopback_ports_of_the_machine_cannot_be_reached(sandbox: BubblewrapSandbox) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        status, said = run_python(sandbox, f'import socket; socket.create_connection(("127.0.0.1", {port}), 2)')
    assert status == 1
    assert "Error" in said


def test_unix_sockets_of_the_machine_cannot_be_reached(sandbox: BubblewrapSandbox, tmp_path: Path) -> None:
    path = str(tmp_path / "store.sock")
    with socket.socket(socket.AF_UNIX) as store:
        store.bind(path)
        store.listen()
        status, said = run_python(sandbox, f'import socket; socket.socket(socket.AF_UNIX).connect("{path}")')
    assert status == 1
    assert "FileNotFoundError" in said


def test_abstract_sockets_of_the_machine_cannot_be_reached(sandbox: BubblewrapSandbox) -> None:
    name = f"greenroom-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"\0{name}")
        server.listen()
        script = f'import socket; socket.socket(socket.AF_UNIX).connect("\\0{name}")'
        status, said = run_python(sandbox, script)
    assert status == 1
    assert "ConnectionRefusedError" in said


def test_a_relay_leads_to_its_node(sandbox: BubblewrapSandbox) -> None:
    script = (
        'import socket; s = socket.socket(socket.AF_UNIX); s.connect("/relay/web-0.sock"); f = s.makefile("rb");'
        ' print(f.readline()); s.sendall(b"x" * 300000); s.shutdown(1); print(len(f.read()))'
    )
    with echo_node() as node:
        assert run_python(sandbox, script, relays=(node,)) == (0, "b'I am web-0\\n'\n300000\n")


def test_there_is_a_relay_for_no_other_node(sandbox: BubblewrapSandbox) -> None:
    with echo_node() as node:
        assert run(sandbox, "ls /relay", relays=(node,)) == (0, "web-0.sock\n")


def test_a_relay_to_a_dead_node_ends_the_connection(sandbox: BubblewrapSandbox) -> None:
    with echo_node() as node:
        pass
    script = 'import socket; s = socket.socket(socket.AF_UNIX); s.connect("/relay/web-0.sock"); print(s.recv(9))'
    assert run_python(sandbox, script, relays=(node,)) == (0, "b''\n")


@pytest.mark.parametrize(
    ("script", "limits", "which"),
    [
        ("sleep 60", Limits(total_s=0.3, silence_s=30), "total"),
        ("sleep 60", Limits(total_s=30, silence_s=0.3), "silence"),
        ("yes", Limits(total_s=30, silence_s=30, output_bytes=100_000), "output"),
    ],
)
def test_a_limit_ends_everything_in_it(
    sandbox: BubblewrapSandbox, tmp_path: Path, script: str, limits: Limits, which: str
) -> None:
    with held_by_all(tmp_path) as released:
        command = SandboxCommand(
            ("/bin/sh", "-c", f"setsid sleep 60 & {script}"), "/tmp", writable={"/held": str(tmp_path)}
        )
        with pytest.raises(LimitExceeded) as raised:
            sandbox.run(replace_shell(command), limits=limits, output=lambda _: None)
        assert raised.value.which == which
        released()


@contextmanager
def held_by_all(directory: Path) -> Iterator[Callable[[], None]]:
    """Yield a function that returns once no process holds the pipe `held` in this directory open for writing."""
    os.mkfifo(directory / "held")
    reading = os.open(directory / "held", os.O_RDONLY | os.O_NONBLOCK)

    def released() -> None:
        os.set_blocking(reading, True)
        while os.read(reading, 4096):
            pass

    try:
        yield released
    finally:
        os.close(reading)


def replace_shell(command: SandboxCommand) -> SandboxCommand:
    """The same command with the pipe open in all its processes."""
    script = f"exec 9>/held/held; {command.argv[2]}"
    return SandboxCommand((*command.argv[:2], script), command.cwd, writable=command.writable)


def test_what_a_command_leaves_running_ends_with_it(sandbox: BubblewrapSandbox, tmp_path: Path) -> None:
    with held_by_all(tmp_path) as released:
        script = "exec 9>/held/held; setsid sleep 60 >/dev/null 2>&1 & exit 0"
        assert run(sandbox, script, writable={"/held": str(tmp_path)}) == (0, "")
        released()


def test_memory_is_bounded(sandbox: BubblewrapSandbox) -> None:
    script = 'x = b"x" * (300 << 20); print(len(x))'
    assert run_python(sandbox, script, memory_bytes=1 << 30)[0] == 0
    assert run_python(sandbox, script, memory_bytes=200 << 20)[0] != 0


def test_processes_are_bounded(sandbox: BubblewrapSandbox) -> None:
    status, said = run(sandbox, "i=0; while [ $i -lt 60 ]; do sleep 5 & i=$((i+1)); done", processes=20)
    assert status != 0
    assert "fork" in said


def test_files_are_bounded(sandbox: BubblewrapSandbox, tmp_path: Path) -> None:
    status, _ = run(
        sandbox, "head -c 3000000 /dev/zero >/out/x", file_bytes=1_000_000, writable={"/out": str(tmp_path)}
    )
    assert status != 0
    assert (tmp_path / "x").stat().st_size == 1_000_000


def test_its_memory_file_systems_are_bounded(sandbox: BubblewrapSandbox) -> None:
    script = "for i in 1 2 3 4 5 6; do head -c 50000000 /dev/zero >/tmp/$i || exit 1; done"
    assert run(sandbox, script, memory_bytes=256 << 20)[0] != 0


def test_nothing_of_it_stays(sandbox: BubblewrapSandbox, tmp_path: Path) -> None:
    with echo_node() as node:
        run(sandbox, "touch /tmp/x", relays=(node,))
    assert list((tmp_path / "sandboxes").iterdir()) == []
    assert groups_of_this_process() == []


def groups_of_this_process() -> list[Path]:
    return [path for path in Path("/sys/fs/cgroup").glob(f"**/greenroom-sandbox-{os.getpid()}-*") if path.is_dir()]


def test_what_a_killed_worker_left_is_swept(sandbox: BubblewrapSandbox, tmp_path: Path) -> None:
    left = tmp_path / "sandboxes/greenroom-sandbox-1-1-left"
    left.mkdir(parents=True)
    run(sandbox, "true")
    assert not left.exists()


def test_a_missing_source_is_a_permanent_error(sandbox: BubblewrapSandbox, tmp_path: Path) -> None:
    with pytest.raises(PermanentError, match="nowhere"):
        run(sandbox, "true", read_only={"/x": str(tmp_path / "nowhere")})


@pytest.mark.skipif(os.geteuid() != 0, reason="is an ordinary user already")
def test_an_ordinary_user_can_make_one(tmp_path_factory: pytest.TempPathFactory) -> None:
    assert sys.version_info >= (3, 11)
    child = os.fork()
    if child == 0:
        os._exit(as_nobody())
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 42


def as_nobody() -> int:
    """Become nobody and run a sandbox; its exit status."""
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
    directory = f"/tmp/greenroom-test-{os.getpid()}"
    sandbox = BubblewrapSandbox(directory)
    try:
        return run(sandbox, "exit 42")[0]
    finally:
        shutil.rmtree(directory)
