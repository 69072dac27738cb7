"""Looks into data that may be wrong in any way: what is not of the expected shape counts as not there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any


def mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def sequence(value: object) -> Sequence[Any]:
    return value if isinstance(value, list) else ()


def mappings(data: object, key: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The entries of the list at `key`, counted."""
    for i, item in enumerate(sequence(mapping(data).get(key))):
        yield i, mapping(item)


def texts(value: object) -> tuple[str, ...]:
    """A text, or those of a list."""
    values = value if isinstance(value, list) else [value]
    return tuple(one for one in values if isinstance(one, str))
