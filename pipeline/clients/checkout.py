"""Files of a commit as they lie on this machine: nothing outside the source is ever reached."""

from __future__ import annotations

import os
from pathlib import Path

from pipeline.domain.errors import StageFailed


def inside(source: str, path: str) -> Path:
    """Find `path` of the repository, links resolved; StageFailed when it leads outside or is not there."""
    if path.startswith("/") or ".." in Path(path).parts:
        raise StageFailed(f"{path!r} leads out of the repository: write it relative to the root, without ..")
    root = Path(os.path.realpath(source))
    found = Path(os.path.realpath(root / path))
    if not found.is_relative_to(root):
        raise StageFailed(f"{path!r} is a link that leads out of the repository")
    if not found.exists():
        raise StageFailed(f"{path!r} is not in the repository: add it, or correct greenroom.yml")
    return found
