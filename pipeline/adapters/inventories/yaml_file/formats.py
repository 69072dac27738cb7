"""The `format`s of the schema, and what such texts mean. A ValueError says what was expected."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from pipeline.domain.durations import parse_duration, parse_positive_duration
from pipeline.domain.inventory import count_of, names_of_pattern
from pipeline.domain.qos import QosClass, disk_rate, network_rate
from pipeline.domain.resources import parse_size

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", re.ASCII)
#: More than this of anything in one machine is a mistake of units.
MOST_TIB = {"memory": 1024, "disk": 1024 * 1024}


def _sized(what: str) -> Callable[[str], float]:
    def parse(text: str) -> float:
        size = parse_size(text)
        if size > MOST_TIB[what] * 1024 * 1024:
            raise ValueError(f"expected at most {MOST_TIB[what]}TiB, which no machine has, got {text!r}")
        return size

    return parse


def place_name(text: str) -> str:
    """The name of a zone, an aggregate, a machine."""
    if _NAME.fullmatch(text) is None:
        raise ValueError(
            f"expected letters, digits, dots, hyphens and underscores, at most 100 in all, got {text[:120]!r}"
        )
    return text


def _machine_names(text: str) -> None:
    count_of(text)
    place_name(next(names_of_pattern(text)))


def _qos_class(text: str) -> None:
    if text not in set(QosClass):
        raise ValueError(f"expected {' or '.join(QosClass)}, got {text[:80]!r}")


FORMATS: Mapping[str, Callable[[str], object]] = {
    "greenroom-place": place_name,
    "greenroom-machines": _machine_names,
    "greenroom-memory": _sized("memory"),
    "greenroom-disk": _sized("disk"),
    "greenroom-disk-rate": disk_rate,
    "greenroom-network-rate": network_rate,
    "greenroom-duration": parse_duration,
    "greenroom-positive-duration": parse_positive_duration,
    "greenroom-qos-class": _qos_class,
}
