"""Takes a tree of YAML apart, key by key; whatever is wrong or left over is told with its line and the nearest name."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import Enum
from typing import Any, TypeVar

from pipeline.domain.durations import parse_duration
from pipeline.domain.errors import UserError

#: No names at all, as a default.
NONE: tuple[str, ...] = ()
T = TypeVar("T")
E = TypeVar("E", bound=Enum)


class Fields:
    """One mapping of a file; `path` leads to it. Use it in a `with`: the end checks that nothing is left."""

    def __init__(self, value: object, source: str, path: str = "", line: str = "") -> None:
        self._source, self._path, self._line = source, path, line
        if not isinstance(value, Mapping):
            raise self._error(path, f"expected keys with values, got {shown(value)}", line)
        self._value = value
        self._left: dict[str, Any] = {str(key): one for key, one in value.items()}
        self._known: set[str] = set()

    def __enter__(self) -> Fields:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        for key in self._left if kind is None else ():
            raise self.wrong(key, f"unknown key{nearest(key, self._known)}")

    def wrong(self, key: str, message: str) -> UserError:
        """What is wrong with a key, for the caller to raise."""
        return self._error(self._below(key), message, _line_of(self._value, key) or self._line)

    def take(self, key: str, read: Callable[[Any], T], default: T | None = None) -> T:
        """The value of a key as `read` makes it; UserError says what was expected where."""
        self._known.add(key)
        if key not in self._left:
            if default is None:
                raise self._error(self._path, f"expected the key `{key}`", self._line)
            return default
        value = self._left.pop(key)
        try:
            return read(value)
        except (TypeError, ValueError) as error:
            raise self.wrong(key, str(error)) from error

    def has(self, key: str) -> bool:
        self._known.add(key)
        return key in self._left

    def peek(self, key: str) -> object:
        """The value of a key as it stands there, which is still to be taken."""
        return self._left.get(key)

    def inner(self, key: str) -> Fields:
        """The mapping under a key; an empty one when there is no such key."""
        return self._fields(self.take(key, lambda value: value, {}), key, self._value, key)

    def each(self, key: str) -> Iterator[Fields]:
        """The mappings of a list; none when there is no such key."""
        none: list[object] = []
        items = self.take(key, _list, none)
        for number, one in enumerate(items):
            yield self._fields(one, f"{key}[{number}]", items, number)

    def named(self, key: str) -> Iterator[tuple[str, Fields]]:
        """The mappings under names; a name with nothing under it has an empty one."""
        items = self.take(key, _mapping)
        for name, one in items.items():
            yield str(name), self._fields({} if one is None else one, f"{key}.{name}", items, name)

    def _fields(self, value: object, below: str, within: object, key: object) -> Fields:
        return Fields(value, self._source, self._below(below), _line_of(within, key) or self._line)

    def _below(self, key: str) -> str:
        return f"{self._path}.{key}" if self._path else key

    def _error(self, path: str, message: str, line: str) -> UserError:
        return UserError(": ".join(part for part in (f"{self._source}{line}", path, message) if part))


def _line_of(within: object, key: object) -> str:
    """`:LINE:COLUMN` of a key or an entry; empty where the reader did not note it."""
    noted = getattr(getattr(within, "lc", None), "data", None) or {}
    if key not in noted:
        return ""
    line, column = noted[key][:2]
    return f":{line + 1}:{column + 1}"


def nearest(name: str, known: Iterable[str]) -> str:
    """`; did you mean X?`, or the known names when none is near."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    if close:
        return f"; did you mean {close[0]}?"
    return f"; known are {', '.join(names[:12])}{', ...' if len(names) > 12 else ''}" if names else ""


def shown(value: object) -> str:
    """A value as a message names it."""
    if value is None or isinstance(value, bool):
        return {None: "nothing", True: "true", False: "false"}[value]
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    return repr(str(value)[:80]) if isinstance(value, str) else f"the number {value}"


def _list(value: object) -> list[object]:
    if not isinstance(value, list):
        raise TypeError(f"expected a list, got {shown(value)}")
    return value


def _mapping(value: object) -> Mapping[object, object]:
    if not isinstance(value, Mapping):
        raise TypeError(f"expected names with values, got {shown(value)}")
    return value


def text(value: object) -> str:
    """A text; ValueError for anything else."""
    if not isinstance(value, str) or not value:
        raise ValueError(f"expected a text, got {shown(value)}")
    return str(value)


def names(value: object) -> tuple[str, ...]:
    """A name, or a list of them."""
    return tuple(text(one) for one in (value if isinstance(value, list) else [value]))


def one_of(kind: type[E]) -> Callable[[object], E]:
    """Reads one of the words of an enumeration."""

    def read(value: object) -> E:
        words = [str(one.value) for one in kind]
        if value not in words:
            raise ValueError(f"expected {' or '.join(words)}, got {shown(value)}{_close(value, words)}")
        return kind(value)

    return read


def _close(value: object, words: list[str]) -> str:
    close = difflib.get_close_matches(str(value), words, n=1)
    return f"; did you mean {close[0]}?" if close else ""


def number(value: object) -> float:
    """A number of 0 or more; ValueError for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
        raise ValueError(f"expected a number of 0 or more, got {shown(value)}")
    return float(value)


def whole(value: object) -> int:
    """A whole number of 1 or more; ValueError for anything else."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"expected a whole number of 1 or more, got {shown(value)}")
    return int(value)


def seed(value: object) -> int:
    """Any whole number."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"expected a whole number, got {shown(value)}")
    return int(value)


def duration(value: object) -> float:
    """Seconds of `30m`."""
    return parse_duration(str(value))


def some_time(value: object) -> float:
    """Seconds of a duration that is not zero."""
    seconds = duration(value)
    if not seconds:
        raise ValueError(f"expected more than no time, got {shown(value)}")
    return seconds


def weights(value: object) -> dict[str, float]:
    """Names with their weights, all above 0; a list weighs all alike."""
    if isinstance(value, list) and value:
        return {text(name): 1.0 for name in value}
    if not isinstance(value, Mapping) or not value:
        raise ValueError(f"expected names with weights, got {shown(value)}")
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
