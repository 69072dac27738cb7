"""Whether what a node was promised was measured: pure, told by direction."""

from __future__ import annotations

from dataclasses import dataclass, fields

from pipeline.domain.qos import QosProfile

#: A promise is kept when the measured rate is within this part of it, above (it would be a neighbour's) or below.
TOLERANCE = 0.1
#: What can be measured, by the names of `QosProfile`.
DISK = ("disk_read_iops", "disk_write_iops", "disk_read_bytes", "disk_write_bytes")
NETWORK = ("network_in", "network_out")


@dataclass(frozen=True)
class Measured:
    """One promise of one node and what came of it, in the units of `QosProfile`. `at_least` of it is enough."""

    node: str
    direction: str
    promise: int
    measured: float
    at_least: float = 1 - TOLERANCE

    @property
    def ratio(self) -> float:
        return self.measured / self.promise

    @property
    def kept(self) -> bool:
        return self.at_least * self.promise <= self.measured <= (1 + TOLERANCE) * self.promise

    def __str__(self) -> str:
        verdict = "kept" if self.kept else "broken"
        return f"{self.node} {self.direction}: {self.measured:.0f} of {self.promise} ({self.ratio:.0%}), {verdict}"


def promised(qos: QosProfile, directions: tuple[str, ...]) -> dict[str, int]:
    """What a profile promises of these directions."""
    values = {field.name: getattr(qos, field.name) for field in fields(qos)}
    return {name: values[name] for name in directions if values[name]}
