"""What the supervisor decides, without starting anything."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.settings import ProviderSettings, Settings
from workers import supervisor
from workers.programs import NODES, STORE, TICK, WORKERS, programs
from workers.supervisor import BACKOFF_S, Child, Supervisor, rotate_logs


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path, workers=3, default_provider="memory", providers={"memory": memory(2)})


def memory(workers: int) -> ProviderSettings:
    return ProviderSettings(driver="memory", workers=workers)


def names(settings: Settings) -> list[str]:
    return [program.name for program in programs(settings)]


def test_everything_that_the_settings_ask_for_is_started(settings: Settings) -> None:
    workers = ["work-1", "work-2", "work-3", "statuses", "provider-memory-1", "provider-memory-2"]
    assert names(settings) == ["redis", "api", "hooks", *workers, "tick"]


def test_a_redis_of_somebody_else_is_not_started(settings: Settings) -> None:
    assert "redis" not in names(settings.model_copy(update={"redis_url": "redis://elsewhere"}))


def test_a_router_is_started_where_there_is_a_base_domain(settings: Settings) -> None:
    routed = settings.model_copy(update={"base_domain": "test.example"})
    assert [name for name in names(routed) if name not in names(settings)] == ["router"]
    phases = [program.phase for program in programs(routed)]
    assert phases == sorted(phases)


def test_the_node_helper_is_started_for_local_providers_as_root(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = settings.model_copy(update={"providers": {"here": ProviderSettings(driver="local", workers=1)}})
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    helper = next(program for program in programs(local) if program.name == "nodes")
    assert helper.argv[:3] == ("sudo", "-n", "--")
    assert helper.piped
    assert helper.argv[helper.argv.index("--deployment") + 1] == local.deployment
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    helper = next(program for program in programs(local) if program.name == "nodes")
    assert helper.argv[0] == sys.executable


def test_phases_order_the_start(settings: Settings) -> None:
    phases = [program.phase for program in programs(settings)]
    assert phases == sorted(phases)
    assert STORE < NODES < WORKERS < TICK


def test_the_embedded_redis_keeps_what_it_answered_and_has_no_port(settings: Settings) -> None:
    argv = programs(settings)[0].argv
    options = dict(zip(argv[1::2], argv[2::2], strict=True))
    assert options["--appendonly"] == "yes"
    assert options["--appendfsync"] == "always"
    assert options["--port"] == "0"
    assert options["--unixsocket"] == str(settings.redis_socket)


def test_the_first_restart_is_at_once_and_the_next_ones_wait(settings: Settings) -> None:
    boss = Supervisor(settings, ending=True)
    child = Child(programs(settings)[0])
    waits = []
    for _ in range(len(BACKOFF_S) + 2):
        process = subprocess.Popen(["true"])
        process.wait()
        child.process, child.started_at = process, time.monotonic()
        boss._ended(child, process, -signal.SIGKILL)
        waits.append(round(child.due_at - child.started_at, 1))
    assert waits[: len(BACKOFF_S)] == list(BACKOFF_S)
    assert waits[-1] == BACKOFF_S[-1]
    assert child.last_end == "it was ended by signal 9"


def test_who_lived_long_is_restarted_at_once(settings: Settings) -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    long_ago = time.monotonic() - supervisor.SOUND_S - 1
    child = Child(programs(settings)[0], process=process, deaths=4, started_at=long_ago)
    Supervisor(settings, ending=True)._ended(child, process, 1)
    assert child.deaths == 1
    assert child.due_at <= time.monotonic()


def test_big_logs_are_put_aside_and_old_ones_go(tmp_path: Path) -> None:
    log = tmp_path / "api.log"
    (tmp_path / "small.log").write_text("x")
    for number in range(1, supervisor.LOGS_KEPT + 3):
        with log.open("wb") as file:
            file.truncate(supervisor.LOG_LIMIT + number)
        rotate_logs(tmp_path)
    kept = sorted(file.name for file in tmp_path.iterdir())
    assert kept == [*[f"api.log.{number}" for number in range(1, supervisor.LOGS_KEPT + 1)], "small.log"]
    newest = (tmp_path / "api.log.1").stat().st_size
    assert newest == supervisor.LOG_LIMIT + supervisor.LOGS_KEPT + 2


def test_children_are_seen() -> None:
    child = subprocess.Popen(["sleep", "30"])
    try:
        assert child.pid in supervisor.children_of(os.getpid())
    finally:
        child.kill()
        child.wait()
