"""Scratch directories under one root."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class DirectoryWorkspaces:
    """`Workspaces` under a directory that belongs to the worker alone."""

    def __init__(self, root: str) -> None:
        self._root = Path(root)

    @contextmanager
    def scratch(self, name: str) -> Iterator[str]:
        self._root.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryDirectory(prefix=f"{name}.", dir=self._root) as directory:
            yield directory

    def sweep(self, older_than_s: float) -> None:
        if not self._root.is_dir():
            return
        limit = time.time() - older_than_s
        for entry in self._root.iterdir():
            with contextlib.suppress(FileNotFoundError):  # another worker sweeps at the same time
                if entry.lstat().st_mtime < limit:
                    _remove(entry)


def _remove(entry: Path) -> None:
    if entry.is_dir() and not entry.is_symlink():
        shutil.rmtree(entry)
    else:
        entry.unlink()
