"""The port of workspaces."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from pipeline.adapters.workspaces import DirectoryWorkspaces
from pipeline.ports.workspaces import Workspaces


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "scratch"


@pytest.fixture
def workspaces(root: Path) -> Workspaces:
    return DirectoryWorkspaces(str(root))


def test_a_scratch_directory_is_fresh_private_and_gone_afterwards(workspaces: Workspaces, root: Path) -> None:
    with workspaces.scratch("run-1.test") as first, workspaces.scratch("run-1.test") as second:
        assert first != second
        assert list(Path(first).iterdir()) == []
        assert stat.S_IMODE(Path(first).stat().st_mode) == 0o700
        (Path(first) / "deep").mkdir()
        (Path(first) / "deep" / "file").write_text("text")
    assert list(root.iterdir()) == []


def test_it_is_gone_after_an_error_too(workspaces: Workspaces, root: Path) -> None:
    def break_inside() -> None:
        with workspaces.scratch("run-1.test") as directory:
            (Path(directory) / "file").write_text("text")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        break_inside()
    assert list(root.iterdir()) == []


def test_sweeping_takes_what_is_old_and_leaves_what_is_young(workspaces: Workspaces, root: Path) -> None:
    workspaces.sweep(60)
    for name, mtime in (("old", 1_000_000_000), ("young", None)):
        (root / name / "deep").mkdir(parents=True)
        if mtime is not None:
            os.utime(root / name, (mtime, mtime))
    workspaces.sweep(3600)
    assert [entry.name for entry in root.iterdir()] == ["young"]


def test_sweeping_takes_files_and_links_without_following_them(
    workspaces: Workspaces, root: Path, tmp_path: Path
) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    root.mkdir()
    (root / "file").write_text("text")
    (root / "link").symlink_to(kept)
    for name in ("file", "link"):
        os.utime(root / name, (1_000_000_000, 1_000_000_000), follow_symlinks=False)
    workspaces.sweep(3600)
    assert list(root.iterdir()) == []
    assert kept.is_dir()
