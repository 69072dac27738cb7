"""The result of a simulation as a person reads it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Row = tuple[str, str]


def told(name: str, summary: Mapping[str, Any], speed: Mapping[str, float]) -> str:
    """One line a fact."""
    lines = [f"{label:<13}{value}" for label, value in rows(summary, speed)]
    return "\n".join([f"scenario     {name}", *lines]) + "\n"


def rows(summary: Mapping[str, Any], speed: Mapping[str, float]) -> Iterator[Row]:
    """Every fact with its name."""
    yield "runs", _runs(summary["runs"])
    yield "placed", f"{summary['runs']['placed']:,} environments with {summary['nodes_placed']:,} nodes"
    yield "speed", _speed(speed)
    yield "utilisation", _utilisation(summary["utilisation"])
    for priority, one in summary["waiting_s"].items():
        yield "waited", _waited(priority, one)
    for reason, count in summary["refusals"].items():
        yield "refused", f"{count:,} runs at first: {reason}"
    yield "hot spots", _hot(summary["hot_spots"])
    yield "fairness", _fairness(summary["fairness"])
    yield "preemptions", _preemptions(summary["preemptions"])
    for cause, count in summary["given_up"].items():
        yield "given up", f"{count:,} runs: {cause}"
    yield "quarantined", _quarantined(summary["quarantined"])
    yield "promises", _promises(summary)
    for rule, count in summary["broken_rules"].items():
        yield "broken", f"{rule}: {count} times"


def _runs(runs: Mapping[str, int]) -> str:
    return (
        f"{runs['arrived']:,} arrived, {runs['finished']:,} finished, {runs['waiting']:,} wait, "
        f"{runs['lost']:,} lost a machine, {runs['failed_builds']:,} builds failed, {runs['given_up']:,} given up, "
        f"{runs['infeasible']:,} infeasible"
    )


def _speed(speed: Mapping[str, float]) -> str:
    return (
        f"{speed['placements_per_s']:,.0f} placements/s, {speed['nodes_per_s']:,.0f} nodes/s, "
        f"slowest decision {speed['slowest_decision_ms']:.1f} ms"
    )


def _utilisation(use: Mapping[str, float]) -> str:
    return (
        f"vcpu {use['vcpu_mean']:.0%} on average, {use['vcpu_peak']:.0%} at most; "
        f"memory {use['memory_mean']:.0%} on average"
    )


def _waited(priority: str, one: Mapping[str, float]) -> str:
    return (
        f"{priority}: half of {one['count']:,} at most {seconds(one['median'])}, "
        f"95 of 100 at most {seconds(one['p95'])}, the longest {seconds(one['max'])}"
    )


def _hot(hot: Mapping[str, int]) -> str:
    if not hot["of_samples"]:
        return "not measured: the inventory has no limits"
    return f"{hot['machine_samples']:,} of {hot['of_samples']:,} measurements, on {hot['machines']:,} machines"


def _fairness(fair: Mapping[str, float]) -> str:
    if not fair["contended_s"]:
        return "nothing was contended"
    return f"{fair['jain']:.3f}, while several projects waited ({seconds(fair['contended_s'])}); 1 is even"


def _preemptions(counts: Mapping[str, int]) -> str:
    if not any(counts.values()):
        return "none"
    return ", ".join(f"{count:,} {priority}" for priority, count in counts.items() if count)


def _quarantined(counts: Mapping[str, int]) -> str:
    if not counts["times"]:
        return "no machine"
    machines, times = (_counted(counts[key], one) for key, one in (("machines", "machine"), ("times", "time")))
    return f"{machines}, {times} in all; {counts['proved']} proved on probation to be well again"


def _counted(count: int, one: str) -> str:
    return f"{count:,} {one}" + ("" if count == 1 else "s")


def _promises(summary: Mapping[str, Any]) -> str:
    return (
        f"{summary['guaranteed_wrongly_refused']} guaranteed requests refused that could be kept, "
        f"{summary['overbooked_machines']} machines overbooked, {sum(summary['broken_rules'].values())} rules broken"
    )


def seconds(value: float) -> str:
    """A time as a person says it."""
    if value < 60:
        return f"{value:.1f} s"
    return f"{value / 60:.1f} min" if value < 3600 else f"{value / 3600:.1f} h"
