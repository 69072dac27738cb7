"""The result of a simulation as a person reads it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def told(name: str, summary: Mapping[str, Any], speed: Mapping[str, float]) -> str:
    """One line a fact."""
    runs, use, hot, fair = summary["runs"], summary["utilisation"], summary["hot_spots"], summary["fairness"]
    lines = [
        f"scenario {name}",
        (
            f"runs         {runs['arrived']} arrived, {runs['finished']} finished, {runs['waiting']} wait, "
            f"{runs['lost']} lost their machine, {runs['failed_builds']} builds failed, {runs['infeasible']} infeasible"
        ),
        (
            f"placed       {runs['placed']} environments with {summary['nodes_placed']} nodes; "
            f"{speed['nodes_per_s']:.0f} nodes/s, slowest decision {speed['slowest_decision_ms']:.1f} ms"
        ),
        (
            f"utilisation  vcpu {use['vcpu_mean']:.0%} on average, {use['vcpu_peak']:.0%} at most; "
            f"memory {use['memory_mean']:.0%} on average"
        ),
        *(_waiting(priority, one) for priority, one in summary["waiting_s"].items()),
        *(f"refused      {count} runs at first: {reason}" for reason, count in summary["refusals"].items()),
        f"hot spots    {hot['machine_samples']} of {hot['of_samples']} measurements, on {hot['machines']} machines",
        f"fairness     {_fairness(fair)}",
        f"preemptions  {summary['preemptions']}; machines quarantined: {summary['quarantined']}",
        (
            f"promises     {summary['guaranteed_wrongly_refused']} guaranteed requests refused that could be kept, "
            f"{summary['overbooked_machines']} machines overbooked"
        ),
    ]
    return "\n".join(lines) + "\n"


def _waiting(priority: str, one: Mapping[str, float]) -> str:
    return (
        f"waited       {priority}: median {one['median']:.1f} s, p95 {one['p95']:.1f} s, "
        f"at most {one['max']:.1f} s, of {one['count']}"
    )


def _fairness(fair: Mapping[str, float]) -> str:
    if not fair["contended_s"]:
        return "nothing was contended"
    return (
        f"Jain index {fair['jain']:.3f} of weighted shares, while several projects waited ({fair['contended_s']:.0f} s)"
    )
