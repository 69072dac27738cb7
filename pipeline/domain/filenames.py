"""Names of kept files: what may become part of a path."""

from __future__ import annotations

import re

from pipeline.domain.errors import UserError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
_LONGEST_PATH = 1024
_LONGEST_PART = 255


def flat_name(name: str) -> str:
    """A name without any directory. Errors: UserError."""
    if not _NAME.fullmatch(name):
        raise UserError(f"{name[:200]!r} is no name: use letters, digits, `.`, `_` and `-`")
    return name


def relative_path(path: str) -> str:
    """A path that stays below where it is put. Errors: UserError."""
    parts = path.split("/")
    bad = any(part in ("", ".", "..") or len(part.encode()) > _LONGEST_PART for part in parts)
    if bad or len(path.encode()) > _LONGEST_PATH or not path.isprintable():
        raise UserError(f"{path[:200]!r} is no relative path of plain names")
    return path
