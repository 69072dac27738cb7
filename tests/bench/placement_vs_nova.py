"""Placement against nova's own FilterScheduler: the same machines, the same rules, one process, one core.

Nova 34 comes from PyPI into an environment of its own under `.tools/nova`. Its `SchedulerManager._schedule` runs as it
is, with its ComputeFilter, AggregateInstanceExtraSpecsFilter and ServerGroupAntiAffinityFilter, and its RAM, disk and
CPU weighers, over host states that are built once. What nova gets for nothing: reading hosts from its database, the
claim at the Placement service, and the check of capacity, which that service does (its candidates are made here,
untimed). What placement does beside the same three rules: it checks capacity itself, and places the nodes of a request
together, all or none. Requests are
alike, as those of one blueprint are, so the arrays that placement keeps of a shape are warm. Before any time is taken,
both must name the same machines for a first node.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from random import Random
from time import perf_counter
from typing import Any
from uuid import UUID

from tests.bench.figures import Figure

ROOT = Path(__file__).resolve().parents[2]
HOME = ROOT / ".tools" / "nova"
MACHINES, ZONES, NODES = 5000, 75, 3
VCPU, MEMORY, DISK = 32, 131072, 2000
#: Requests that each side is timed on: nova's take long.
OURS, THEIRS = 2000, 10
#: What one node takes: vcpu, MiB, GiB.
WANTED = (2, 4096, 20)


def measure() -> Iterator[Figure]:
    python = _installed()
    if python is None:
        sys.stderr.write("placement_vs_nova: skipped, nova 34 cannot be installed from the package index\n")
        return
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    argv = [str(python), "-m", "tests.bench.placement_vs_nova"]
    done = subprocess.run(argv, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(done.stderr)
    got = json.loads(done.stdout.splitlines()[-1])
    what = (
        f"{got['ours']:.0f} nodes/s against nova's {got['theirs']:.1f}, {MACHINES} machines, three nodes apart, "
        f"{got['feasible']} machines feasible on both sides"
    )
    yield Figure("placement_vs_nova", got["ours"] / got["theirs"], "times", what, ">= 200")


def _installed() -> Path | None:
    """The interpreter that has nova, made when it is first asked for; None when it cannot be had."""
    python = HOME / "bin" / "python"
    if (HOME / "complete").is_file():
        return python
    uv = shutil.which("uv", path=f"{ROOT / '.tools' / 'bin'}:{os.environ['PATH']}")
    if uv is None:
        return None
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    for words in (
        ["venv", "-q", "--clear", "-p", getattr(sys, "_base_executable", version), str(HOME)],
        ["pip", "install", "-q", "--python", str(python), "nova==34.0.0", "numpy>=2.1"],
    ):
        if subprocess.run([uv, *words], check=False).returncode != 0:
            return None
    (HOME / "complete").touch()
    return python


def _machines() -> list[dict[str, Any]]:
    """Half used machines of two hardware types; every twentieth is in maintenance."""
    dice = Random(5)
    return [
        {
            "name": f"m{n}",
            "zone": f"rack-{n * ZONES // MACHINES}",
            "hardware": "x" if n % 2 else "y",
            "open": n % 20 != 0,
            "used": (dice.randint(0, VCPU), dice.randint(0, MEMORY), dice.randint(0, DISK)),
        }
        for n in range(MACHINES)
    ]


class Ours:
    """The engine of production over the machines."""

    def __init__(self, machines: list[dict[str, Any]]) -> None:
        from pipeline.domain.inventory import Aggregate, Inventory, Machine, MachineState, Zone
        from pipeline.domain.placement.fleet import Fleet
        from pipeline.domain.placement.model import RoleRequest, Standing
        from pipeline.domain.rules import Affinity, Attribute, PlacementRules, Spread, Stance

        states = {True: MachineState.IN_SERVICE, False: MachineState.MAINTENANCE}
        capacity = {"vcpu": VCPU, "memory_mib": MEMORY, "disk_gib": DISK}
        made = tuple(
            Machine(m["name"], m["zone"], capacity, (m["hardware"],), state=states[m["open"]]) for m in machines
        )
        zones = tuple(Zone(name) for name in dict.fromkeys(m["zone"] for m in machines))
        inventory = Inventory(made, zones, (Aggregate("x"), Aggregate("y")))
        rest = (0.0,) * 7
        there = [Standing(f"old-{m['name']}", "old", "app", m["name"], (*m["used"], *rest)) for m in machines]
        self.fleet = Fleet(inventory, there)
        only = Affinity(Stance.REQUIRE, Attribute.AGGREGATE, ("x",), "bench")
        rules = PlacementRules((only,), spread=Spread.MACHINE)
        self.role = RoleRequest("app", NODES, (*WANTED, *rest), rules=rules)

    def feasible(self) -> set[str]:
        """The machines that every filter lets through for a first node."""
        import numpy as np

        from pipeline.domain.placement.filters import FILTERS, Need, Question

        rows = np.arange(len(self.fleet.machines))
        question = Question(self.fleet, self.role, "bench", Need(self.role), rows)
        allowed = np.ones(len(rows), dtype=bool)
        for one in FILTERS:
            if one.applies(self.fleet, self.role):
                allowed &= one.allows(question)
        return {self.fleet.machines[row].name for row in rows[allowed].tolist()}

    def place(self, number: int) -> None:
        """Decide and count one environment."""
        from pipeline.domain.placement.engine import decide
        from pipeline.domain.placement.model import Placed, Request
        from pipeline.domain.rules import Strategy

        request = Request(f"e{number}", "bench", "bench", (self.role,), strategy=Strategy.SPREAD)
        decision = decide(self.fleet, request, float(number), explain=False)
        if not isinstance(decision, Placed):
            raise TypeError(f"request {number} found no place: {decision}")
        self.fleet.reserve(request, decision, float(number))


class Theirs:
    """Nova's scheduler over the same machines; no database, no message queue."""

    def __init__(self, machines: list[dict[str, Any]]) -> None:
        self._configure()
        self.objects = import_module("nova.objects")
        self.objects.register_all()
        self.context = import_module("nova.context").get_admin_context()
        room = [m for m in machines if self._has_room(m)]  # the candidates of the Placement service
        module = import_module("nova.scheduler.host_manager")
        self.hosts = [self._state(module, m) for m in room]
        self.manager = self._scheduler(module)

    def _configure(self) -> None:
        conf = import_module("nova.conf").CONF
        import_module("nova.config").parse_args(["nova"], default_config_files=[], configure_db=False, init_rpc=False)
        conf.set_override("service_down_time", 86400)
        filters = ["ComputeFilter", "AggregateInstanceExtraSpecsFilter", "ServerGroupAntiAffinityFilter"]
        conf.set_override("enabled_filters", filters, "filter_scheduler")
        weighers = [
            f"nova.scheduler.weights.{name}" for name in ("ram.RAMWeigher", "disk.DiskWeigher", "cpu.CPUWeigher")
        ]
        conf.set_override("weight_classes", weighers, "filter_scheduler")

    def _has_room(self, machine: dict[str, Any]) -> bool:
        limits = zip((VCPU, MEMORY, DISK), machine["used"], WANTED, strict=True)
        return all(total - used >= wanted for total, used, wanted in limits)

    def _state(self, module: Any, machine: dict[str, Any]) -> Any:
        state = module.HostState(machine["name"], machine["name"], str(UUID(int=1)))
        vcpu, memory, disk = machine["used"]
        state.uuid = str(UUID(int=10**6 + int(machine["name"][1:])))
        state.vcpus_total, state.vcpus_used, state.cpu_allocation_ratio = VCPU, vcpu, 1.0
        state.total_usable_ram_mb, state.free_ram_mb, state.ram_allocation_ratio = MEMORY, MEMORY - memory, 1.0
        state.total_usable_disk_gb, state.free_disk_mb, state.disk_allocation_ratio = DISK, (DISK - disk) * 1024, 1.0
        now = import_module("oslo_utils.timeutils").utcnow()
        state.service = {"disabled": not machine["open"], "disabled_reason": "", "host": machine["name"]}
        state.service |= {"last_seen_up": now, "updated_at": now, "created_at": now, "forced_down": False}
        state.aggregates = [self.objects.Aggregate(id=1, metadata={"hardware": machine["hardware"]})]
        state.instances = {}
        return state

    def _scheduler(self, module: Any) -> Any:
        """A SchedulerManager with all of its own code but its start, which opens connections."""
        manager_module = import_module("nova.scheduler.manager")
        conf = import_module("nova.conf").CONF
        hosts = module.HostManager.__new__(module.HostManager)
        hosts.filter_handler = import_module("nova.scheduler.filters").HostFilterHandler()
        classes = hosts.filter_handler.get_matching_classes(conf.filter_scheduler.available_filters)
        hosts.filter_cls_map, hosts.filter_obj_map = {one.__name__: one for one in classes}, {}
        hosts.enabled_filters = hosts._choose_host_filters(hosts._load_filters())
        hosts.weight_handler = import_module("nova.scheduler.weights").HostWeightHandler()
        found = hosts.weight_handler.get_matching_classes(conf.filter_scheduler.weight_classes)
        hosts.weighers = [one() for one in found]
        manager = manager_module.SchedulerManager.__new__(manager_module.SchedulerManager)
        manager.host_manager = hosts
        manager._get_all_host_states = lambda *_: iter(self.hosts)
        return manager

    def _spec(self, number: int) -> tuple[Any, list[str]]:
        objects = self.objects
        uuids = [str(UUID(int=10**9 + number * NODES + n)) for n in range(NODES)]
        vcpu, memory, disk = WANTED
        flavor = objects.Flavor(vcpus=vcpu, memory_mb=memory, root_gb=disk, ephemeral_gb=0, swap=0)
        flavor.extra_specs = {"hardware": "x"}
        group = objects.InstanceGroup(policy="anti-affinity", rules={}, hosts=[], members=uuids)
        spec = objects.RequestSpec(flavor=flavor, instance_group=group, num_instances=NODES, instance_uuid=uuids[0])
        spec.ignore_hosts = spec.force_hosts = spec.force_nodes = None
        spec.requested_destination = spec.pci_requests = spec.numa_topology = None
        spec.scheduler_hints, spec.requested_resources = {}, []
        return spec, uuids

    def feasible(self) -> set[str]:
        """The machines that nova's filters let through for a first node."""
        spec, _ = self._spec(0)
        return {host.host for host in self.manager.host_manager.get_filtered_hosts(self.hosts, spec, 0)}

    def place(self, number: int) -> None:
        """Schedule one group of servers; NoValidHost when it finds none."""
        spec, uuids = self._spec(number)
        self.manager._schedule(self.context, spec, uuids, None, None)


def _rate(side: Ours | Theirs, requests: int) -> float:
    """Nodes per second, after one request that is not counted."""
    side.place(0)
    began = perf_counter()
    for number in range(1, requests + 1):
        side.place(number)
    return requests * NODES / (perf_counter() - began)


def compare() -> dict[str, float]:
    """Nodes per second of both sides; RuntimeError when they do not mean the same machines."""
    machines = _machines()
    ours, theirs = Ours(machines), Theirs(machines)
    if different := ours.feasible() ^ theirs.feasible():
        raise RuntimeError(f"the sides disagree on {len(different)} machines, such as {sorted(different)[:5]}")
    feasible = len(ours.feasible())
    return {"feasible": feasible, "ours": _rate(ours, OURS), "theirs": _rate(theirs, THEIRS)}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(compare()) + "\n")
