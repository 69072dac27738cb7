"""Start and end the test cloud: `up [--fakes N] [--real]`, `down [--wipe]`, `status`."""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

from tests.openstack.cloud import config, hypervisor, packages, plane
from tests.openstack.cloud.processes import Processes
from tests.openstack.cloud.state import State, of_environment

#: These go after all others, in this order.
LAST = ("libvirtd", "switch", "switch-database", "rabbitmq", "epmd", "mariadb")


class Progress:
    """Says what was done, and after how many seconds."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def __call__(self, what: str) -> None:
        print(f"{time.monotonic() - self._began:6.1f} s  {what}", flush=True)  # noqa: T201  # a command


def up(state: State, fakes: int, *, real: bool) -> None:
    say = Progress()
    for place in (state.logs, state.cache, state.run):
        place.mkdir(parents=True, exist_ok=True)
    missing = packages.install(packages.PLANE + (packages.HYPERVISOR if real else ()))
    say(f"packages installed: {', '.join(missing)}" if missing else "packages are there")
    packages.make_environment(state)
    say("OpenStack is installed")
    config.write_plane(state)
    processes = Processes(state.run / "pids", state.logs, plane.environment(state))
    with ThreadPoolExecutor(1) as beside:
        ground = beside.submit(hypervisor.prepare, state, processes) if real else None
        plane.start(state, processes, [f"fake-{number}" for number in range(1, fakes + 1)])
        say(f"the control plane is up, with {fakes} hypervisors that pose")
        if ground is not None:
            hypervisor.start(state, processes, uri=ground.result())
            say("the real hypervisor is up")
    say(f"ready: {state.clouds}")


def down(state: State, *, wipe: bool) -> None:
    say = Progress()
    processes = Processes(state.run / "pids", state.logs, plane.environment(state))
    hypervisor.end_guests(state)
    made = hypervisor.links_and_namespaces(state)  # its switch has to be asked while it lives
    names = processes.names()
    # what they would write down in order is thrown away
    processes.stop([name for name in names if name not in LAST], signal.SIGKILL, 10.0)
    for name in LAST:
        gently = name in {"libvirtd", "switch", "switch-database"}
        processes.stop([name], signal.SIGTERM if gently else signal.SIGKILL, 15.0)
    hypervisor.clear_away(state, *made)
    shutil.rmtree(state.run, ignore_errors=True)
    if wipe:
        shutil.rmtree(state.root, ignore_errors=True)
    say(f"{len(names)} processes ended")


def status(state: State) -> int:
    processes = Processes(state.run / "pids", state.logs, {})
    dead = [name for name in processes.names() if not processes.lives(name)]
    names = processes.names()
    print(f"{len(names) - len(dead)} of {len(names)} processes live" + (f"; not {', '.join(dead)}" if dead else ""))  # noqa: T201  # a command
    return 0 if names and not dead else 1


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.openstack.cloud", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    begin = commands.add_parser("up")
    begin.add_argument("--fakes", type=int, default=4)
    begin.add_argument("--real", action="store_true")
    commands.add_parser("down").add_argument("--wipe", action="store_true")
    commands.add_parser("status")
    given, state = parser.parse_args(), of_environment()
    if os.geteuid() != 0:
        raise SystemExit("the test cloud has to be started by root: it makes bridges and network namespaces")
    try:
        if given.command == "up":
            up(state, given.fakes, real=given.real)
        elif given.command == "down":
            down(state, wipe=given.wipe)
        else:
            return status(state)
    except subprocess.CalledProcessError as error:
        words = shlex.join(map(str, error.cmd))
        raise SystemExit(f"`{words}` failed with exit status {error.returncode}; see above, and {state.logs}") from None
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
