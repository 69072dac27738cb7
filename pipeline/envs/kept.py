"""Documents that are looked at again and again: what did not change is not read anew."""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar

from pipeline.envs.books import PAGE, Book, Loaded


class Named(Protocol):
    """An aggregate that is found by its id."""

    @property
    def id(self) -> str: ...


T = TypeVar("T", bound=Named)


class Kept(Generic[T]):
    """All of one index set, for whoever reads all of it every second; one process uses it."""

    def __init__(self, book: Book[T], index: str) -> None:
        self._book = book
        self._index = index
        self._known: dict[str, Loaded[T]] = {}

    def everything(self) -> list[Loaded[T]]:
        """As `Book.everything`: as they are now, in the order of the index."""
        ids = list(self._book.ids(self._index))
        versions = self._book.versions(ids)
        stale = [id for id in ids if id not in self._known or self._known[id].version != versions.get(id)]
        fresh = [one for at in range(0, len(stale), PAGE) for one in self._book.many(stale[at : at + PAGE])]
        read = {one.value.id: one for one in fresh}
        for id in stale:
            self._known.pop(id, None)
        kept = {**self._known, **read}
        self._known = {id: kept[id] for id in ids if id in kept}
        return list(self._known.values())
