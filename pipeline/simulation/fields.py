"""Takes a tree of YAML apart, key by key; whatever is wrong or left over is told with its place."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from pipeline.domain.durations import parse_duration
from pipeline.domain.errors import UserError

T = TypeVar("T")


class Fields:
    """One mapping of the file; `place` is where it stands. Use it in a `with`: the end checks that nothing is left."""

    def __init__(self, value: object, place: str) -> None:
        if not isinstance(value, Mapping):
            raise UserError(f"{place}: expected keys with values, got {value!r}")
        self._left: dict[str, Any] = {str(key): one for key, one in value.items()}
        self.place = place

    def __enter__(self) -> Fields:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None and self._left:
            raise UserError(f"{self.place}: {', '.join(self._left)} is no key that a scenario has here")

    def take(self, key: str, read: Callable[[Any], T], default: T | None = None) -> T:
        """The value of a key as `read` makes it; UserError says what was expected where."""
        if key not in self._left:
            if default is None:
                raise UserError(f"{self.place}: {key} is missing")
            return default
        value = self._left.pop(key)
        try:
            return read(value)
        except (TypeError, ValueError) as error:
            raise UserError(f"{self.place}.{key}: {error}") from error

    def has(self, key: str) -> bool:
        return key in self._left

    def each(self, key: str) -> Iterator[Fields]:
        """The mappings of a list; none when there is no such key."""
        none: list[object] = []
        for number, one in enumerate(self.take(key, _list, none)):
            yield Fields(one, f"{self.place}.{key}[{number}]")

    def named(self, key: str) -> Iterator[tuple[str, Fields]]:
        """The mappings under names."""
        for name, one in self.take(key, _mapping).items():
            yield str(name), Fields(one, f"{self.place}.{key}.{name}")


def _list(value: object) -> list[object]:
    if not isinstance(value, list):
        raise TypeError(f"expected a list, got {value!r}")
    return value


def _mapping(value: object) -> Mapping[object, object]:
    if not isinstance(value, Mapping):
        raise TypeError(f"expected names, got {value!r}")
    return value


def number(value: object) -> float:
    """A number of 0 or more; ValueError for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
        raise ValueError(f"expected a number of 0 or more, got {value!r}")
    return float(value)


def whole(value: object) -> int:
    """A whole number of 1 or more; ValueError for anything else."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"expected a whole number of 1 or more, got {value!r}")
    return value


def duration(value: object) -> float:
    """Seconds of `30m`."""
    return parse_duration(str(value))


def weights(value: object) -> dict[str, float]:
    """Names with their weights, all above 0; a list weighs all alike."""
    if isinstance(value, list):
        return {str(name): 1.0 for name in value}
    if not isinstance(value, Mapping) or not value:
        raise ValueError(f"expected names with weights, got {value!r}")
    found = {str(name): number(weight) for name, weight in value.items()}
    if not all(found.values()):
        raise ValueError("expected weights above 0")
    return found


def hours(value: object) -> tuple[float, ...]:
    """One rate for all hours of the day, or 24."""
    if not isinstance(value, list):
        return (number(value),) * 24
    if len(value) != 24:
        raise ValueError(f"expected one number or 24, one an hour, got {len(value)}")
    return tuple(number(one) for one in value)
