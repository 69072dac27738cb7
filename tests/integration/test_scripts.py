"""The scripts around the code: what set-up says where it cannot work, and that leftovers are found."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMMANDS = ("bash", "cut", "dirname", "grep", "id", "tr")


@pytest.fixture
def bare_path(tmp_path: Path) -> str:
    """A PATH with next to nothing on it: no apt, no sudo, no Redis, no Python."""
    for command in COMMANDS:
        found = shutil.which(command)
        assert found is not None
        (tmp_path / command).symlink_to(found)
    return str(tmp_path)


def called(argv: list[str], path: str) -> subprocess.CompletedProcess[str]:
    """What a script says where nothing but `path` is looked through for programs."""
    return subprocess.run(
        argv,
        cwd=ROOT,
        env={"PATH": path},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def test_set_up_without_apt_names_what_is_missing_and_what_it_is_for(bare_path: str) -> None:
    result = called(["scripts/setup"], bare_path)
    assert result.returncode == 1
    assert "no apt" in result.stderr
    assert "redis-server" in result.stderr
    assert "the store and the queues" in result.stderr
    assert "Python 3.11 or newer" in result.stderr
    assert result.stderr.splitlines()[-1] == (
        "setup: install these with your package manager, then run `make setup` again"
    )


def test_set_up_with_an_apt_that_fails_says_what_to_do_next(bare_path: str) -> None:
    """As after a dpkg that was interrupted: lists are updated, and nothing is installed."""
    tools = {"apt-get": "case $* in update*) ;; *) echo 'E: interrupted' >&2; exit 100 ;; esac", "dpkg": ""}
    tools |= {"id": "echo 0", "env": 'shift; exec "$@"'}
    for name, does in tools.items():
        file = Path(bare_path, name)
        file.unlink(missing_ok=True)
        file.write_text(f"#!{bare_path}/bash\n{does}\n")
        file.chmod(0o755)
    result = called([f"{bare_path}/bash", "scripts/setup", "vagrant"], bare_path)
    assert result.returncode == 1
    first, last = result.stderr.splitlines()
    assert first == "E: interrupted"
    assert last.startswith("setup: apt-get could not install vagrant")
    assert last.endswith("(after an interruption `dpkg --configure -a`), then run set-up again")


def leftovers(mark: str, directory: Path) -> list[str]:
    command = [str(ROOT / "scripts/leftovers"), mark, str(directory)]
    return subprocess.run(command, cwd="/", capture_output=True, text=True, check=True).stdout.splitlines()


@pytest.fixture
def marked_process() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "60"], env={**os.environ, "GREENROOM_TEST": "mark-of-this-test"})
    yield process
    process.kill()
    process.wait()


def test_a_process_with_the_mark_is_found_until_it_ends(
    marked_process: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    line = f"process {marked_process.pid} sleep 60 "
    assert line in leftovers("mark-of-this-test", tmp_path)
    marked_process.kill()
    marked_process.wait()
    assert line not in leftovers("mark-of-this-test", tmp_path)


def test_a_process_that_works_in_the_directory_is_found(tmp_path: Path) -> None:
    with subprocess.Popen(["cat"], cwd=tmp_path, stdin=subprocess.PIPE) as process:
        assert f"process {process.pid} cat " in leftovers("no such mark", tmp_path)
        assert process.stdin is not None
        process.stdin.close()


def test_it_does_not_find_itself() -> None:
    assert not [line for line in leftovers("mark-of-nobody", ROOT / "scripts") if "leftovers" in line]
