"""Amounts of a machine, as a person reads them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from pipeline.domain.resources import DIMENSIONS, UNITS, Vector

#: Significant digits of an amount that is told.
DIGITS = 4
_DECIMAL = ("", "k", "M", "G", "T")
_RATES: Mapping[str, tuple[str, str]] = {
    "disk_read_bytes": ("B/s", "disk read"),
    "disk_write_bytes": ("B/s", "disk write"),
    "network_in": ("bit/s", "network in"),
    "network_out": ("bit/s", "network out"),
}


def amount(dimension: str, value: float) -> str:
    """`12 GiB memory`, `100 Mbit/s network in`, `0.5 vCPU`."""
    if dimension.endswith("_mib") and value >= 1024:
        return f"{_number(value / 1024)} {UNITS[dimension].replace('MiB', 'GiB', 1)}"
    if dimension in _RATES:
        unit, what = _RATES[dimension]
        number, prefix = _scaled(value)
        return f"{number} {prefix}{unit} {what}"
    return f"{_number(value)} {UNITS[dimension]}"


def _scaled(value: float) -> tuple[str, str]:
    step = 0
    while value >= 1000 and step < len(_DECIMAL) - 1:
        value, step = value / 1000, step + 1
    return _number(value), _DECIMAL[step]


def _number(value: float) -> str:
    """`DIGITS` significant digits, and no exponent."""
    rounded = float(f"{value:.{DIGITS}g}")
    return f"{rounded:.0f}" if abs(rounded) >= 10 ** (DIGITS - 1) else f"{rounded:g}"


def at_least(dimension: str, value: float) -> float:
    """The smallest amount that reads as it is, and is not less: who does what it says does enough."""
    return _readable(dimension, value, math.ceil)


def at_most(dimension: str, value: float) -> float:
    """The largest amount that reads as it is, and is not more."""
    return _readable(dimension, value, math.floor)


def _readable(dimension: str, value: float, whole: Callable[[float], int]) -> float:
    if value <= 0 or not math.isfinite(value):
        return value
    unit = 1024.0 if dimension.endswith("_mib") and value >= 1024 else 1.0
    exponent = math.floor(math.log10(value / unit)) - DIGITS + 1
    step = unit * 10.0**exponent
    nearest = round(value / step)
    steps = nearest if math.isclose(nearest * step, value, rel_tol=1e-9) else whole(value / step)
    return steps * step


def at_least_of(vector: Sequence[float]) -> Vector:
    """A vector of which each amount reads as it is, and is not less."""
    return tuple(at_least(dimension, value) for dimension, value in zip(DIMENSIONS, vector, strict=True))


def demand(vector: Vector | Sequence[float]) -> str:
    """All of a vector that is not nothing."""
    told = [amount(dimension, value) for dimension, value in zip(DIMENSIONS, vector, strict=True) if value]
    return ", ".join(told) or "nothing"
