"""The sandbox itself."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path

from pipeline.adapters.sandboxes.bubblewrap.bounds import groups, sweep_groups, within_limits
from pipeline.adapters.sandboxes.bubblewrap.relay import relays
from pipeline.adapters.sandboxes.bubblewrap.root import ETC_FILES, USER_ID, bound, own, system
from pipeline.clients.processes import Child, started
from pipeline.domain.errors import PermanentError, UserError
from pipeline.ports.common import Limits, Sink
from pipeline.ports.sandboxes import SandboxCommand

_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
_PREFIX = "greenroom-sandbox-"
#: What a shell says of a program that was killed; here the sandbox's own init, for want of memory.
_KILLED = 128 + 9
_ISOLATION = ("--unshare-all", "--unshare-user", "--die-with-parent", "--new-session", "--cap-drop", "ALL")
#: Settings of kernels and distributions that keep ordinary users from making namespaces, and what helps.
_OBSTACLES = (
    ("/proc/sys/kernel/unprivileged_userns_clone", "0", "sysctl kernel.unprivileged_userns_clone=1"),
    ("/proc/sys/user/max_user_namespaces", "0", "sysctl user.max_user_namespaces=10000"),
    ("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1", "an AppArmor profile that lets bwrap use userns"),
)


class BubblewrapSandbox:
    """A `Sandbox`. `directory` is where the relay sockets of running sandboxes lie."""

    def __init__(self, directory: str) -> None:
        self._directory = Path(directory)

    def run(self, command: SandboxCommand, *, limits: Limits, output: Sink) -> int:
        _check(command.env)
        tail = _Tail(output)
        with self._place() as place, relays(command.relays, str(place)), ExitStack() as files:
            join = files.enter_context(groups(place.name, command))
            says, report = _pipe(files)
            arguments, handles = self._arguments(command, place, files)
            argv = [*join, "bwrap", "--json-status-fd", str(report), *arguments, "--", *within_limits(command)]
            env = {"PATH": _PATH, "HOME": "/tmp", "LC_ALL": "C.UTF-8", **command.env}  # noqa: S108  # in the sandbox
            with Child(argv, env=env, cwd="/", merge=True, pass_fds=(report, *handles)) as child:
                os.close(report)
                for _, piece in child.stream(limits):
                    tail(piece)
                status = child.end()
            return _judge(status, _read(says), tail.text)

    @contextmanager
    def _place(self) -> Iterator[Path]:
        """A directory of this one sandbox, whose name says which process made it."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._sweep()
        prefix = f"{_PREFIX}{os.getpid()}-{started(os.getpid())}-"
        place = Path(tempfile.mkdtemp(prefix=prefix, dir=self._directory))
        try:
            yield place
        finally:
            shutil.rmtree(place)

    def _sweep(self) -> None:
        """Remove what sandboxes of processes that were killed left behind."""
        places = list(self._directory.glob(f"{_PREFIX}*"))
        dead = [place for place in places if not _owned(place.name)]
        for place in dead:
            shutil.rmtree(place, ignore_errors=True)  # another process may be sweeping as well
        sweep_groups(_PREFIX, [place.name for place in places if place not in dead])

    def _arguments(self, command: SandboxCommand, place: Path, files: ExitStack) -> tuple[Sequence[str], list[int]]:
        handles: list[int] = []
        arguments = [*_ISOLATION, "--uid", str(USER_ID), "--gid", str(USER_ID), "--hostname", "sandbox"]
        if "--disable-userns" in self._offers:
            arguments.append("--disable-userns")
        arguments += system()
        arguments += own(command.memory_bytes // 2, sized="--size" in self._offers)
        arguments += bound(command.read_only, command.writable)
        arguments += ["--ro-bind", str(place), "/relay"]
        contents = {**ETC_FILES, **{path: secret.reveal() for path, secret in command.secrets.items()}}
        for path, content in contents.items():
            handles.append(_data(files, content))
            mode = "0600" if path in command.secrets else "0644"
            arguments += ["--perms", mode, "--ro-bind-data", str(handles[-1]), path]
        return [*arguments, "--remount-ro", "/", "--chdir", command.cwd], handles

    @cached_property
    def _offers(self) -> str:
        """The options that this bubblewrap knows: older ones lack some."""
        said: list[bytes] = []
        with Child(["bwrap", "--help"], env={"PATH": _PATH}, merge=True) as child:
            said += [piece for _, piece in child.stream(Limits(total_s=10, silence_s=10))]
        return b"".join(said).decode(errors="replace")


class _Tail:
    """Passes output on and keeps the last of it for a message."""

    def __init__(self, output: Sink) -> None:
        self._output = output
        self._kept = b""

    def __call__(self, data: bytes) -> None:
        self._kept = (self._kept + data)[-1000:]
        self._output(data)

    @property
    def text(self) -> str:
        return " ".join(self._kept.decode(errors="replace").split())


def _check(env: Mapping[str, str]) -> None:
    for name in env:
        if name.startswith("LD_"):
            raise UserError(f"{name} may not be set for a sandbox: it would reach the program that makes it")


def _owned(name: str) -> bool:
    """Whether the process that made a place of this name still runs."""
    pid, ticks, _ = name.removeprefix(_PREFIX).split("-", 2)
    return started(int(pid)) == ticks


def _pipe(files: ExitStack) -> tuple[int, int]:
    """A pipe's two ends; the reading one is closed with `files`."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    files.callback(os.close, reading)
    return reading, writing


def _data(files: ExitStack, content: str) -> int:
    """A handle from which a content can be read, in memory only."""
    handle = os.memfd_create("greenroom")
    files.callback(os.close, handle)
    os.write(handle, content.encode())
    os.lseek(handle, 0, os.SEEK_SET)
    return handle


def _read(handle: int) -> str:
    pieces = []
    while piece := os.read(handle, 65536):
        pieces.append(piece)
    return b"".join(pieces).decode(errors="replace")


def _judge(status: int, report: str, said: str) -> int:
    """The command's exit status. Errors: PermanentError when bubblewrap never got so far as to run it."""
    for line in reversed(report.splitlines()):
        told = json.loads(line)
        if "exit-code" in told:
            return int(told["exit-code"])
    if status < 0 or status >= 128:
        return _KILLED
    raise PermanentError(f"no sandbox can be made here: {said or f'bwrap ended with {status}'}. {_advice()}")


def _advice() -> str:
    """What to change on this machine, as far as its settings tell."""
    found = [
        remedy for path, bad, remedy in _OBSTACLES if Path(path).exists() and Path(path).read_text().strip() == bad
    ]
    return "Enable " + "; ".join(found) if found else "Bubblewrap needs user namespaces; see `greenroom doctor`"
