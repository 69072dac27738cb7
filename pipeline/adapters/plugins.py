"""Filters and scores of placement that installed packages bring, as entry points."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from typing import TypeVar

from pipeline.domain.errors import AlreadyExists, PermanentError
from pipeline.domain.placement import filters, scores

FILTERS = "greenroom.filters"
SCORES = "greenroom.scores"
Kind = TypeVar("Kind", filters.Filter, scores.Score)


def load() -> None:
    """Register what every installed package brings, in the order of their names; what is registered stays once.

    PermanentError names the package whose entry point cannot be used.
    """
    _load(FILTERS, filters.Filter, filters.register)
    _load(SCORES, scores.Score, scores.register)


def _load(group: str, kind: type[Kind], register: Callable[[Kind], None]) -> None:
    for point in sorted(entry_points(group=group), key=lambda one: (_package(one), one.name)):
        try:
            register(_made(point, kind))
        except AlreadyExists as error:
            raise _unusable(point, str(error)) from error


def _made(point: EntryPoint, kind: type[Kind]) -> Kind:
    try:
        made = point.load()
    except Exception as error:  # importing it runs code of others, which may raise anything
        raise _unusable(point, f"{type(error).__name__}: {error}") from error
    if not isinstance(made, kind):
        raise _unusable(point, f"it is no {kind.__name__} but {type(made).__name__}")
    return made


def _unusable(point: EntryPoint, why: str) -> PermanentError:
    what = f"{point.name} = {point.value} in {point.group}"
    return PermanentError(
        f"package {_package(point)}: its entry point {what} cannot be used: {why}; repair or remove it"
    )


def _package(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist is not None else "of no name"
