"""The limit of builds at a time, with workers that decide at the same moment."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.domain.environments import EnvironmentState
from pipeline.domain.errors import VersionConflict
from tests.scenarios.world import World
from tests.tools.requests import SINGLE, ask, requested


def test_of_two_workers_that_count_at_the_same_moment_one_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(str(tmp_path), max_builds=1)
    world.cloud.slow = True
    ask(world.books, [requested(f"env-{number}", SINGLE, "cloud", world.clock.now()) for number in (1, 2)])
    world.tick.scheduler.reserve(world.fence)
    advance, count = world.work.lifecycle.advance, world.store.count

    def overtaken(name: str) -> int:
        monkeypatch.setattr(world.store, "count", count)
        counted = count(name)
        assert advance("env-2").state is EnvironmentState.BUILDING
        return counted

    monkeypatch.setattr(world.store, "count", overtaken)
    with pytest.raises(VersionConflict):
        advance("env-1")
    waiting = advance("env-1")
    assert waiting.state is EnvironmentState.RESERVED
    assert waiting.reason == "provider cloud: its limit of builds at a time (1) is reached"
    world.cloud.finish()
    world.advance(10)
    assert world.books.environments.get("env-1").value.state is EnvironmentState.BUILDING
