"""Amounts of a machine, as a person reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipeline.domain.resources import DIMENSIONS, UNITS, Vector

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
        return f"{value / 1024:.4g} {UNITS[dimension].replace('MiB', 'GiB', 1)}"
    if dimension in _RATES:
        unit, what = _RATES[dimension]
        number, prefix = _scaled(value)
        return f"{number} {prefix}{unit} {what}"
    return f"{value:.4g} {UNITS[dimension]}"


def _scaled(value: float) -> tuple[str, str]:
    step = 0
    while value >= 1000 and step < len(_DECIMAL) - 1:
        value, step = value / 1000, step + 1
    return f"{value:.4g}", _DECIMAL[step]


def demand(vector: Vector | Sequence[float]) -> str:
    """All of a vector that is not nothing."""
    told = [amount(dimension, value) for dimension, value in zip(DIMENSIONS, vector, strict=True) if value]
    return ", ".join(told) or "nothing"
