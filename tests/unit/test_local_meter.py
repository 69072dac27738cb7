"""The local driver's measurements: read from the kernel's counters, divided among the machines that it poses as."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.adapters.clock import ManualClock
from pipeline.adapters.drivers.local import cgroups
from pipeline.adapters.drivers.local.meter import WINDOW_S, Meter, busy_s, grown, memory_used_mib
from pipeline.adapters.drivers.local.protocol import Usage, parse_usage, usage_json
from pipeline.adapters.drivers.local.records import NodeRecord, Records
from pipeline.adapters.drivers.local.this_machine import Pose, apportioned, report
from pipeline.domain.inventory import Inventory, checked

NODE = NodeRecord("ours", "env-1", "web-0", 0.0, "web", "plain", 64, "", throttled=False, machine="rack-a-1")


class Known(Records):
    """Records that nobody has to write."""

    def nodes(self) -> list[NodeRecord]:
        return [NODE, replace(NODE, name="db-0", machine="rack-b-1"), replace(NODE, name="gone-0")]


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Control groups that are files of a test: version 1 for web-0, version 2 for db-0."""
    write(tmp_path / "cpu/greenroom-ours/env-1.web-0/cpu.stat", "nr_periods 7\nnr_throttled 1\n")
    for hierarchy in ("cpuacct", "memory", "unified"):
        (tmp_path / hierarchy).mkdir()
    monkeypatch.setattr(cgroups, "hierarchies", lambda: tuple(sorted(tmp_path.iterdir())))
    write(tmp_path / "cpuacct/greenroom-ours/env-1.web-0/cpuacct.usage", "1000000000\n")
    stat = "rss 1\ntotal_rss 104857600\ntotal_shmem 0\ntotal_cache 999999999\n"
    write(tmp_path / "memory/greenroom-ours/env-1.web-0/memory.stat", stat)
    write(tmp_path / "unified/greenroom-ours/env-1.db-0/cpu.stat", "usage_usec 500000\nuser_usec 1\n")
    write(tmp_path / "unified/greenroom-ours/env-1.db-0/memory.stat", "anon 1048576\nshmem 1048576\nfile 99999999\n")
    return tmp_path


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_the_kernels_counters_are_understood() -> None:
    clock_tick = busy_s("cpu 1 0 0 0 0 0 0 0 0 0\n")
    assert busy_s("cpu 100 20 30 9999 888 5 6 7 50 50\ncpu0 1 1\n") == pytest.approx(168 * clock_tick)
    assert memory_used_mib("MemTotal: 4096 kB\nMemFree: 1 kB\nMemAvailable: 1024 kB\n") == 3
    assert grown(5, 7) == 2
    assert grown(7, 3) == 3


def test_what_is_gone_or_counted_by_nobody_uses_nothing(groups: Path) -> None:
    assert groups.is_dir()
    assert cgroups.cpu_s("greenroom-ours/env-1.gone-0") == 0
    assert cgroups.memory_bytes("greenroom-ours/env-1.gone-0") == 0


def test_use_is_the_mean_since_the_last_question(tmp_path: Path, groups: Path) -> None:
    clock = ManualClock(1000.0)
    meter = Meter(Known(tmp_path, "ours"), clock.now)
    assert meter.usage() is None
    clock.sleep(10)
    first = meter.usage()
    assert first is not None
    assert first.since == 1000.0
    write(groups / "cpuacct/greenroom-ours/env-1.web-0/cpuacct.usage", "4000000000\n")
    clock.sleep(WINDOW_S / 2)
    assert meter.usage() == first
    clock.sleep(1.5)
    second = meter.usage()
    assert second is not None
    assert second.since == 1010.0
    assert second.by_machine["rack-a-1"] == pytest.approx({"vcpu": 1.5, "memory_mib": 100})
    assert second.by_machine["rack-b-1"] == pytest.approx({"vcpu": 0, "memory_mib": 2})
    assert second.whole.keys() == {"vcpu", "memory_mib", "disk_gib"}
    assert min(second.whole.values()) >= 0


def test_a_node_that_came_in_between_counts_from_its_begin(tmp_path: Path, groups: Path) -> None:
    assert groups.is_dir()
    clock = ManualClock(1000.0)
    meter = Meter(Known(tmp_path, "ours"), clock.now)
    clock.sleep(4)
    usage = meter.usage()
    assert usage is not None
    assert usage.by_machine["rack-a-1"]["vcpu"] == pytest.approx(0.25)


def posed(zones: int = 2, each: int = 1) -> Inventory:
    inventory = report(Pose(zones=zones, machines_per_zone=each))
    size = {"vcpu": 2.0, "memory_mib": 1000.0, "disk_gib": 50.0}
    return replace(inventory, machines=tuple(replace(one, capacity=size) for one in inventory.machines))


def test_a_machine_bears_its_nodes_and_its_part_of_the_rest() -> None:
    usage = Usage(7.0, {"vcpu": 3.0, "disk_gib": 30.0}, {"rack-a-1": {"vcpu": 1.0}, "not-declared": {"vcpu": 0.5}})
    loads = apportioned(usage, posed().machines)
    assert {load.at for load in loads.values()} == {7.0}
    assert loads["rack-a-1"].used == pytest.approx({"vcpu": 1.0, "disk_gib": 0.3})
    assert loads["rack-b-1"].used == pytest.approx({"vcpu": 0.5, "disk_gib": 0.3})


@given(st.integers(1, 3), st.integers(1, 3), st.floats(0, 100), st.lists(st.floats(0, 1), min_size=9, max_size=9))
def test_all_posed_machines_together_bear_what_the_real_one_does(
    zones: int, each: int, whole: float, parts: list[float]
) -> None:
    machines = posed(zones, each).machines
    own = {machine.name: {"vcpu": part * whole / 9} for machine, part in zip(machines, parts, strict=False)}
    loads = apportioned(Usage(0.0, {"vcpu": whole}, own), machines)
    assert sum(load.used["vcpu"] * 2.0 for load in loads.values()) == pytest.approx(whole)
    assert all(loads[name].used["vcpu"] * 2.0 >= use["vcpu"] - 1e-9 for name, use in own.items())


def test_limits_are_off_unless_they_are_set() -> None:
    assert report(Pose()).limits is None
    limits = checked(report(Pose(full={"memory_mib": 0.9}, drain={"memory_mib": 0.95}))).limits
    assert limits is not None
    assert (limits.full, limits.drain) == ({"memory_mib": 0.9}, {"memory_mib": 0.95})


def test_a_usage_survives_the_way() -> None:
    usage = Usage(7.0, {"vcpu": 3.0}, {"rack-a-1": {"vcpu": 1.0}})
    assert parse_usage(usage_json(usage)) == usage
    assert parse_usage(usage_json(None)) is None
