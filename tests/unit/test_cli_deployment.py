"""Who runs the deployment of a home, and the end of that process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from pipeline.cli import deployment
from pipeline.settings import Settings
from workers.supervisor import take_lock

#: Has the lock, gives it back when told to end, and ends a while after that.
HOLDER = """\
import os, pathlib, signal, sys, time
from workers.supervisor import take_lock
lock = take_lock(pathlib.Path(sys.argv[1]))
def end(*_):
    os.close(lock)
    time.sleep(0.5)
    sys.exit()
signal.signal(signal.SIGTERM, end)
print("ready" if lock is not None else "taken", flush=True)
time.sleep(60)
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    settings = Settings(home=tmp_path)
    settings.run_dir.mkdir()
    return settings


@pytest.fixture
def holder(settings: Settings) -> Iterator[subprocess.Popen[str]]:
    argv = [sys.executable, "-c", HOLDER, str(settings.up_lock)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


def test_only_one_has_the_lock(settings: Settings, holder: subprocess.Popen[str]) -> None:
    assert take_lock(settings.up_lock) is None
    holder.kill()
    holder.wait()
    lock = take_lock(settings.up_lock)
    assert lock is not None
    os.close(lock)


def test_nothing_runs_where_nobody_has_the_lock(settings: Settings) -> None:
    assert deployment.running(settings) is None
    settings.up_lock.touch()
    settings.up_file.write_text(json.dumps({"pid": 1, "api": "a", "hooks": "h", "processes": {}}))
    assert deployment.running(settings) is None


def test_who_has_the_lock_runs_whatever_one_that_was_killed_left_in_the_file(
    settings: Settings, holder: subprocess.Popen[str]
) -> None:
    begins = deployment.Up(holder.pid, f"http://{settings.api_bind}", f"http://{settings.hooks_bind}", {})
    assert deployment.running(settings) == begins
    told = deployment.Up(1, "http://told", "http://told", {"tick": {}})
    settings.up_file.write_text(json.dumps(asdict(told)))
    assert deployment.running(settings) == begins
    told = replace(told, pid=holder.pid)
    settings.up_file.write_text(json.dumps(asdict(told)))
    assert deployment.running(settings) == told


def test_what_is_stopped_is_gone(settings: Settings, holder: subprocess.Popen[str]) -> None:
    assert deployment.stop(holder.pid)
    assert not Path(f"/proc/{holder.pid}").exists()
    assert deployment.running(settings) is None
    assert deployment.stop(holder.pid), "what is gone has ended"
