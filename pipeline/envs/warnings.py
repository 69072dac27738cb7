"""Warnings before the end of environments that somebody asked for."""

from __future__ import annotations

from pipeline.domain.environments import Environment
from pipeline.domain.leases import warned, warning_due
from pipeline.envs.books import Books, Loaded
from pipeline.ports.stores import Event

#: What whoever watches an environment is told before its end.
ENDING = "environment.ending"


def warn(books: Books, now: float) -> None:
    """Tell those whose end is near, once for each end; the leading tick calls this."""
    for loaded in books.environments.due("environments:warning", now):
        _warn(books, loaded, now)


def _warn(books: Books, loaded: Loaded[Environment], now: float) -> None:
    environment = loaded.value
    due = warning_due(environment)
    if due is None or due > now:
        return
    put = books.environments.kind.put(environment.id, warned(environment), loaded.version)
    data = {"environment": environment.id, "ends_at": environment.ends_at, "left_s": environment.ends_at - now}
    subjects = dict.fromkeys((environment.id, environment.owner or environment.id))
    books.commit(put, events=[Event(subject, ENDING, now, data) for subject in subjects])
