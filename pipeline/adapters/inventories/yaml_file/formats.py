"""The `format`s of the schema, and what such texts mean. A ValueError says what was expected."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping

from pipeline.domain.durations import parse_duration, parse_positive_duration
from pipeline.domain.qos import QosClass, disk_rate, network_rate
from pipeline.domain.resources import parse_size

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", re.ASCII)
_RANGE = re.compile(r"\{(\d{1,6})\.\.(\d{1,6})\}", re.ASCII)
#: Machines of one inventory.
MOST_MACHINES = 100_000
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


def count_of(text: str) -> int:
    """How many names `a-{01..16}` stands for."""
    match = _RANGE.search(text)
    if match is None:
        return 1
    count = int(match[2]) - int(match[1]) + 1
    if not 1 <= count <= MOST_MACHINES:
        raise ValueError(f"expected a range upwards of at most {MOST_MACHINES} machines, got {text[:120]!r}")
    return count


def names_of(text: str) -> Iterator[str]:
    """`a-{01..16}` stands for sixteen names, with the digits of its first number."""
    match = _RANGE.search(text)
    if match is None:
        yield text
        return
    first = int(match[1])
    for number in range(first, first + count_of(text)):
        yield f"{text[: match.start()]}{number:0{len(match[1])}}{text[match.end() :]}"


def _machine_names(text: str) -> None:
    count_of(text)
    place_name(next(names_of(text)))


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
