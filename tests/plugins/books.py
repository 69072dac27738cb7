"""Books in memory, and the inventories in them, under a clock that the test moves."""

from __future__ import annotations

import pytest

from pipeline.adapters.clock import ManualClock
from pipeline.adapters.stores.memory import MemoryStore
from pipeline.envs.books import Books
from pipeline.envs.gate import Gate
from pipeline.envs.inventories import Inventories


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def books(clock: ManualClock) -> Books:
    return Books(MemoryStore(clock))


@pytest.fixture
def inventories(books: Books, clock: ManualClock) -> Inventories:
    return Inventories(books, clock, Gate(books, clock))
