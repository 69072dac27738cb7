"""The deployment of this machine: is it up, start it, stop it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import socket
import struct
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.cli import programs
from pipeline.cli.output import FAILED, REFUSED, USAGE, Complaint, Output

if TYPE_CHECKING:
    import httpx

    from pipeline.settings import Settings

#: What all processes together may take to serve, in seconds.
START_S = 90.0
#: What they may take to end: every phase has its grace, and kept connections are closed.
STOP_S = 120.0
LOOK_S = 0.1
#: Who had to be started more often than this while everything starts will not serve.
MOST_STARTS = 3
#: Bytes of a Unix socket's path, its end included (`sun_path` of unix(7)).
SOCKET_PATH_LIMIT = 108
TAIL_LINES = 15
#: `struct flock` of fcntl(2) on 64 bits: kind, whence, start, length, process.
_FLOCK = struct.Struct("hhqqi4x")


@dataclass(frozen=True)
class Up:
    """What the supervisor says about itself."""

    pid: int
    api: str
    hooks: str
    processes: Mapping[str, Mapping[str, Any]]


def settings() -> Settings:
    """The settings of this machine; the command ends when they are wrong."""
    from pydantic import ValidationError

    from pipeline.settings import Settings, default_home

    try:
        return Settings()
    except ValidationError as error:  # one of them is a ValueError, too
        raise _wrong("; ".join(map(_mistake, error.errors())), default_home()) from error
    except ValueError as error:
        raise _wrong(str(error), default_home()) from error


def _mistake(told: Mapping[str, Any]) -> str:
    """Where it is, what it is, and the value; a whole table is not told again: a secret may be in it."""
    where, value = ".".join(map(str, told["loc"])), told["input"]
    text = f"{where}: {told['msg']}" if where else str(told["msg"])
    return text if isinstance(value, dict) else f"{text}, got {value!r}"


def _wrong(what: str, home: Path) -> Complaint:
    return Complaint(f"the settings in {home}/config.toml or GREENROOM_* are wrong: {what}", USAGE)


def running(settings: Settings) -> Up | None:
    """What runs now; None when nothing does."""
    pid = _supervisor(settings.up_lock)
    if pid is None:
        return None
    with contextlib.suppress(FileNotFoundError):
        up = Up(**json.loads(settings.up_file.read_text()))
        if up.pid == pid:
            return up
    # It begins or ends just now; the file may be of one that was killed.
    return Up(pid, f"http://{settings.api_bind}", f"http://{settings.hooks_bind}", {})


def _supervisor(lock: Path) -> int | None:
    """The process that holds the deployment's lock: the kernel knows, whatever a file says; None when nobody does."""
    if not lock.exists():
        return None
    with lock.open("rb") as file:
        asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        kind, _, _, _, pid = _FLOCK.unpack(fcntl.fcntl(file, fcntl.F_GETLK, asked))
    return None if kind == fcntl.F_UNLCK else int(pid)


def check_home(settings: Settings) -> None:
    """Make the home, for its owner alone; the command ends when it cannot be used."""
    if len(os.fsencode(settings.redis_socket)) >= SOCKET_PATH_LIMIT:
        raise Complaint(
            f"{settings.home} is too long for the sockets in it; set GREENROOM_HOME to a shorter path", USAGE
        )
    if not settings.redis_url and shutil.which("redis-server") is None:
        raise Complaint("redis-server is not there; run `make setup`, or name a Redis in GREENROOM_REDIS_URL", FAILED)
    try:
        settings.home.mkdir(parents=True, exist_ok=True, mode=0o700)
        settings.home.chmod(0o700)
        settings.process_logs_dir.mkdir(exist_ok=True, mode=0o700)
    except OSError as error:
        raise Complaint(
            f"{settings.home} cannot be used: {error.strerror}; set GREENROOM_HOME to another place", FAILED
        ) from error


def check_ports(settings: Settings) -> None:
    """The command ends when somebody else listens where we want to."""
    router = settings.router if settings.base_domain and settings.router.kind == "haproxy" else None
    binds = {
        "GREENROOM_API_BIND": settings.api_bind,
        "GREENROOM_HOOKS_BIND": settings.hooks_bind,
        "GREENROOM_ROUTER__BIND": router.bind if router else "",
        "GREENROOM_ROUTER__TLS_BIND": router.tls_bind if router else "",
    }
    for name, bind in binds.items():
        if not bind:
            continue
        host, _, port = bind.rpartition(":")
        if not port.isdecimal():
            raise Complaint(f"{bind!r} is no HOST:PORT; set {name} to one", USAGE)
        try:
            family, kind, _, _, address = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)[0]
            with socket.socket(family, kind) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
        except (OSError, OverflowError) as error:
            raise Complaint(
                f"nothing can listen on {bind} ({error}); set {name} to another HOST:PORT", FAILED
            ) from error


def become_root(settings: Settings) -> None:
    """See to it that `sudo -n` works, which starts the node helper; asks for the password where somebody is."""
    if os.geteuid() == 0 or all(provider.driver != "local" for provider in settings.providers.values()):
        return
    if shutil.which("sudo") is None:
        raise Complaint("the node helper must run as root, and there is no sudo; run `greenroom up` as root", FAILED)
    devnull = Path(os.devnull)
    if programs.call(["sudo", "-n", "true"], log=devnull) == 0:
        return
    if not sys.stdin.isatty() or programs.call(["sudo", "-v"]) != 0:
        raise Complaint(
            "the node helper must run as root, and sudo does not let you; run `greenroom up` as root", FAILED
        )


def start(settings: Settings, env: Mapping[str, str], *, detach: bool) -> int:
    """Start the supervisor and wait until everything serves; its process id. The command ends when it does not."""
    log = settings.process_logs_dir / "supervisor.log"
    lifeline = [] if detach else [str(os.getpid())]
    argv = [sys.executable, "-P", "-m", "workers", "up", *lifeline]
    # Not a session of its own: sudo remembers a password for one terminal and session.
    pid = programs.spawn(argv, env, log=log, own_group=True)
    try:
        _await(settings, pid, log)
    except BaseException:
        stop(pid)
        raise
    return pid


def _await(settings: Settings, pid: int, log: Path) -> None:
    import httpx

    deadline = time.monotonic() + START_S
    client = httpx.Client(timeout=2, trust_env=False)
    while not _serves(settings, client):
        if programs.ended(pid) is not None:
            raise Complaint(f"it did not start:\n{tail(log)}", FAILED)
        suspects = _dying(settings)
        if suspects or time.monotonic() > deadline:
            raise Complaint(_not_serving(settings, suspects), FAILED)
        time.sleep(LOOK_S)


def _serves(settings: Settings, client: httpx.Client) -> bool:
    """Whether both listeners answer, and every process was started."""
    import httpx

    up = running(settings)
    if up is None or "tick" not in up.processes:
        return False
    try:
        answers = [client.get(f"{up.api}/readyz"), client.get(f"{up.hooks}/healthz")]
    except httpx.HTTPError:
        return False
    return all(answer.status_code == httpx.codes.OK for answer in answers)


def _dying(settings: Settings) -> list[str]:
    """Processes that were started again and again."""
    up = running(settings)
    return [name for name, facts in up.processes.items() if facts["starts"] > MOST_STARTS] if up else []


def _not_serving(settings: Settings, suspects: Sequence[str]) -> str:
    what = f"{', '.join(suspects)} die again and again" if suspects else f"it did not serve within {START_S:.0f} s"
    logs = [settings.process_logs_dir / f"{name}.log" for name in suspects or ["supervisor", "api"]]
    return "\n".join([what + ":", *(f"{log}:\n{tail(log)}" for log in logs)])


def tail(log: Path) -> str:
    if not log.exists():
        return f"(there is no {log})"
    return "\n".join(log.read_text(errors="replace").splitlines()[-TAIL_LINES:])


def stop(pid: int) -> bool:
    """Tell the supervisor to end and wait until it is gone; False when it is not within its time."""
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        signal.pidfd_send_signal(process, signal.SIGTERM)
        gone = bool(select.select([process], [], [], STOP_S)[0])
    except ProcessLookupError:
        gone = True
    except PermissionError as error:
        raise Complaint(f"process {pid} belongs to another user; stop it as that one", REFUSED) from error
    finally:
        os.close(process)
    if gone:
        with contextlib.suppress(ChildProcessError):  # it was started by another command
            os.waitpid(pid, 0)
    return gone


def pass_on_signals(pid: int) -> None:
    """Let Ctrl-C, SIGTERM and a hang-up tell a supervisor to end, instead of ending this command."""

    def end(_number: int, _frame: object) -> None:
        os.kill(pid, signal.SIGTERM)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)


def tell(out: Output, settings: Settings, up: Up, *, detached: bool) -> None:
    """Say where things are."""
    facts = {
        "pid": up.pid,
        "api": up.api,
        "hooks": up.hooks,
        "token_file": str(settings.token_file),
        "home": str(settings.home),
        "logs": str(settings.process_logs_dir),
    }
    if out.as_json:
        out.data({**facts, "processes": up.processes})
        return
    out.say("Greenroom is up.")
    for name, value in (*facts.items(), ("stop", "greenroom down" if detached else "Ctrl-C, or greenroom down")):
        out.say(f"  {name.replace('_', ' '):<11}{value}")
