"""What a simulation counts, and what it says of it in the end."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.domain.blueprint import Priority


@dataclass(frozen=True)
class Sample:
    """One moment: shares of what is usable that are promised, runs that wait, the vcpu share of each zone, and how
    many machines bore too much when they were last measured.
    """

    at: float
    vcpu: float
    memory: float
    waiting: Mapping[Priority, int]
    zones: tuple[float, ...]
    hot: int = 0


@dataclass
class Tally:
    """Counts of one simulation; `decide_s` is real time, all else is virtual."""

    waits: dict[Priority, list[float]] = field(default_factory=lambda: defaultdict(list))
    refusals: Counter[str] = field(default_factory=Counter)
    samples: list[Sample] = field(default_factory=list)
    runs: int = 0
    finished: int = 0
    environments: int = 0
    nodes: int = 0
    decisions: int = 0
    decide_s: float = 0.0
    slowest_s: float = 0.0
    preemptions: Counter[Priority] = field(default_factory=Counter)
    infeasible: int = 0
    lost: int = 0
    failed_builds: int = 0
    given_up: Counter[str] = field(default_factory=Counter)
    quarantines: Counter[str] = field(default_factory=Counter)
    proved: int = 0
    overbooked: int = 0
    broken: Counter[str] = field(default_factory=Counter)
    wrongly_refused: int = 0
    hot_spots: int = 0
    hot_machines: set[int] = field(default_factory=set)
    measured: int = 0
    fairness_s: float = 0.0
    contended_s: float = 0.0
    waiting: int = 0

    @property
    def kept(self) -> bool:
        """Whether no promise was broken."""
        return not (self.overbooked or self.broken or self.wrongly_refused)

    def fair(self, index: float, lasted_s: float) -> None:
        """Weigh an index of fairness by how long it was so."""
        self.fairness_s += index * lasted_s
        self.contended_s += lasted_s

    def summary(self) -> dict[str, Any]:
        """Everything as JSON can say it; seconds and shares."""
        return {
            "runs": {
                "arrived": self.runs,
                "placed": self.environments,
                "finished": self.finished,
                "waiting": self.waiting,
                "infeasible": self.infeasible,
                "lost": self.lost,
                "failed_builds": self.failed_builds,
                "given_up": self.given_up.total(),
            },
            "nodes_placed": self.nodes,
            "utilisation": {
                "vcpu_mean": _mean([sample.vcpu for sample in self.samples]),
                "vcpu_peak": max((sample.vcpu for sample in self.samples), default=0.0),
                "memory_mean": _mean([sample.memory for sample in self.samples]),
            },
            "waiting_s": {str(priority): spread(self.waits[priority]) for priority in Priority if self.waits[priority]},
            "refusals": dict(self.refusals.most_common()),
            "hot_spots": {
                "machine_samples": self.hot_spots,
                "machines": len(self.hot_machines),
                "of_samples": self.measured,
            },
            "fairness": {
                "jain": self.fairness_s / self.contended_s if self.contended_s else None,
                "contended_s": self.contended_s,
            },
            "preemptions": {str(priority): self.preemptions[priority] for priority in Priority},
            "given_up": dict(self.given_up.most_common()),
            "quarantined": {
                "machines": len(self.quarantines),
                "times": self.quarantines.total(),
                "proved": self.proved,
            },
            "overbooked_machines": self.overbooked,
            "broken_rules": dict(self.broken),
            "guaranteed_wrongly_refused": self.wrongly_refused,
        }

    def speed(self) -> dict[str, float]:
        """What depends on the machine that simulates."""
        decide_s = max(self.decide_s, 1e-9)
        return {
            "nodes_per_s": self.nodes / decide_s,
            "placements_per_s": self.environments / decide_s,
            "decisions": self.decisions,
            "slowest_decision_ms": self.slowest_s * 1000,
        }


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, the value that 95 of 100 do not exceed, and the largest."""
    ordered = sorted(values)
    return {
        "median": ordered[len(ordered) // 2],
        "p95": ordered[min(len(ordered) - 1, int(len(ordered) * 0.95))],
        "max": ordered[-1],
        "count": len(ordered),
    }


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
