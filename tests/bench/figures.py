"""Figures: one JSON line each."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Figure:
    """A measured value; `bar` is what it must reach, `compared_with` what it is to be read against."""

    name: str
    value: float
    unit: str
    compared_with: str
    bar: str = ""

    def line(self) -> str:
        return json.dumps({**asdict(self), "value": round(self.value, 4)})


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def p99(values: Sequence[float]) -> float:
    """The value that 99 of 100 do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
