"""The control plane and the hypervisors that pose."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from tests.openstack.cloud import databases, seed
from tests.openstack.cloud.config import render, words
from tests.openstack.cloud.processes import Processes
from tests.openstack.cloud.state import HERE, State

#: Each service by the name of its record: its module, its port, its threads, and where it finds its configuration.
SERVICES = {
    "keystone": ("keystone", "keystone.wsgi.api", 8, {"OS_KEYSTONE_CONFIG_DIR": "keystone"}),
    "placement": ("placement", "placement.wsgi.api", 8, {"OS_PLACEMENT_CONFIG_DIR": "placement"}),
    "neutron": ("neutron-server", "neutron.wsgi.api", 12, {"OS_NEUTRON_CONFIG_DIR": "neutron"}),
    "glance": ("glance-api", "glance.wsgi.api", 6, {"OS_GLANCE_CONFIG_DIR": "glance"}),
    "nova": ("nova-api", "nova.wsgi.osapi_compute", 12, {"OS_NOVA_CONFIG_DIR": "nova"}),
}
FOLDERS = ("nova/lock", "neutron/lock", "glance/images", "glance/staging", "glance/tasks", "home")


def environment(state: State) -> dict[str, str]:
    """What every process of the cloud is told."""
    return {
        "PATH": f"{HERE / 'inside/bin'}:{state.venv / 'bin'}:/usr/sbin:/usr/bin:/sbin:/bin",
        "PYTHONPATH": str(HERE / "inside"),
        "HOME": str(state.run / "home"),
        "LANG": "C.UTF-8",
        "OMP_NUM_THREADS": "1",
        "MALLOC_ARENA_MAX": "2",
    }


def start(state: State, processes: Processes, posing: Sequence[str]) -> None:
    """Everything but the real hypervisor, with zones, networks and images in it."""
    for folder in FOLDERS:
        (state.run / folder).mkdir(parents=True, exist_ok=True)
    databases.start_rabbitmq(state, processes)
    databases.start_mariadb(state, processes)
    for name in SERVICES:
        _serve(state, processes, name)
    nova: list[str | Path] = ["--config-file", state.etc / "nova/nova.conf"]
    processes.start("conductor", [state.venv / "bin/nova-conductor", *nova, "--log-file", "nova-conductor.log"])
    wait_for(state, processes, "keystone", "/v3")
    seed.make_catalog(state)
    processes.start("scheduler", [state.venv / "bin/nova-scheduler", *nova, "--log-file", "nova-scheduler.log"])
    wait_for(state, processes, "placement", "/")
    for hypervisor in posing:
        start_compute(state, processes, hypervisor, "compute-posing.conf", {})
    for name in ("neutron", "glance", "nova"):
        wait_for(state, processes, name, "/")
    seed.make_content(state, posing)


def _serve(state: State, processes: Processes, name: str) -> None:
    program, module, threads, where = SERVICES[name]
    env = {variable: str(state.etc / place) for variable, place in where.items()}
    port = str(getattr(state.ports, name))
    more = {"OS_NEUTRON_CONFIG_FILES": "neutron.conf"} if name == "neutron" else {}
    argv: list[str | Path] = [state.python, HERE / "inside/serve.py", program, module, port, str(threads)]
    processes.start(name, argv, {**env, **more})


def start_compute(state: State, processes: Processes, hypervisor: str, template: str, more: dict[str, str]) -> None:
    for folder in ("lock", "instances"):
        (state.run / "compute" / hypervisor / folder).mkdir(parents=True, exist_ok=True)
    known = {**words(state), "hypervisor": hypervisor, **more}
    own = render(template, state.etc / f"nova/compute-{hypervisor}.conf", known)
    files: list[str | Path] = ["--config-file", state.etc / "nova/nova.conf", "--config-file", own]
    processes.start(f"compute-{hypervisor}", [state.venv / "bin/nova-compute", *files])


def wait_for(state: State, processes: Processes, name: str, path: str) -> None:
    """Until a service answers anything but an error of its own."""
    processes.until(lambda: _answers(state.url(name) + path), f"an answer of {name}", name)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=10):  # noqa: S310  # an http URL of loopback
            return True
    except urllib.error.HTTPError as error:
        return error.code < 500
    except OSError:
        return False
