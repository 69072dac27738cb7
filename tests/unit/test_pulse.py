"""A worker's sign of life, and its end when its attempt was given to somebody else."""

from __future__ import annotations

import signal
import threading
from pathlib import Path

import pytest

import workers.pulse
from pipeline.domain import runs
from pipeline.domain.errors import TransientError
from pipeline.domain.runs import StageName
from pipeline.stages.runner import save_run
from tests.scenarios.player import USUAL
from tests.scenarios.world import World
from workers.pulse import AttemptRevoked, keep_alive

PATIENCE_S = 10.0


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """A world with one run whose deliver stage is being worked on under the token `mine`."""
    monkeypatch.setattr(workers.pulse, "BEAT_S", 0.01)
    world = World(str(tmp_path))
    world.project("shop")
    world.work.plan_trigger(world.push("shop", USUAL))
    loaded = world.books.runs.in_index("runs")[0]
    taken = runs.start_attempt(runs.admit(loaded.value, 1.0), StageName.DELIVER, 1, "mine", 1.0)
    assert taken is not None
    save_run(world.tools, loaded, taken)
    return world


def lose(world: World) -> None:
    loaded = world.books.runs.in_index("runs")[0]
    save_run(world.tools, loaded, runs.lose_attempt(loaded.value, 2.0, "gone"))


def run_id(world: World) -> str:
    return world.all_runs()[0].id


def wait_until_alive(world: World) -> None:
    alive = threading.Event()
    for _ in range(1000):
        if world.store.alive(["mine"])[0]:
            return
        alive.wait(0.01)
    raise AssertionError("no sign of life came")


def test_it_beats_while_the_worker_works(world: World) -> None:
    with keep_alive(world.books)(run_id(world), StageName.DELIVER, "mine"):
        wait_until_alive(world)
        world.let_beats_lapse()
        wait_until_alive(world)


def test_a_revoked_attempt_ends_the_work(world: World) -> None:
    def work() -> None:
        with keep_alive(world.books)(run_id(world), StageName.DELIVER, "mine"):
            lose(world)
            threading.Event().wait(PATIENCE_S)

    with pytest.raises(AttemptRevoked):
        work()


def test_a_store_that_stumbles_ends_nothing(world: World, caplog: pytest.LogCaptureFixture) -> None:
    with keep_alive(world.books)(run_id(world), StageName.DELIVER, "mine"):
        world.store.down = True
        for _ in range(1000):
            if "no sign of life could be given" in caplog.text:
                break
            threading.Event().wait(0.01)
        world.store.down = False
        wait_until_alive(world)
    assert "the store does not answer" in caplog.text


def test_the_signal_is_given_back(world: World) -> None:
    before = signal.getsignal(signal.SIGUSR1)
    with keep_alive(world.books)(run_id(world), StageName.DELIVER, "mine"):
        assert signal.getsignal(signal.SIGUSR1) is not before
    assert signal.getsignal(signal.SIGUSR1) is before


def test_an_error_of_the_work_goes_on_its_way(world: World) -> None:
    def work() -> None:
        with keep_alive(world.books)(run_id(world), StageName.DELIVER, "mine"):
            raise TransientError("away")

    before = signal.getsignal(signal.SIGUSR1)
    with pytest.raises(TransientError):
        work()
    assert signal.getsignal(signal.SIGUSR1) is before
