"""A `clouds.yaml`, as OpenStack's own tools read it: an entry is added, and nobody else may read the file."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from pipeline.cli.output import FAILED, Complaint


def check(file: Path) -> None:
    """Complaint when no entry can be written there."""
    _read(file)
    if not file.parent.is_dir():
        raise Complaint(f"there is no directory {file.parent} for {file.name}: make it first", FAILED)


def add(file: Path, name: str, entry: Mapping[str, object]) -> None:
    """Write an entry, in the place of an earlier one of its name; mode 0600, in one step."""
    from ruamel.yaml import YAML

    content = _read(file)
    content.setdefault("clouds", {})[name] = dict(entry)
    handle, made = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")  # of mode 0600
    with os.fdopen(handle, "w") as there:
        YAML().dump(content, there)
    Path(made).replace(file)


def _read(file: Path) -> dict[str, dict[str, object]]:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        content = YAML().load(file) if file.exists() else {}
    except (YAMLError, OSError) as error:
        raise Complaint(f"{file} cannot be read as a clouds.yaml: {type(error).__name__}", FAILED) from None
    if not isinstance(content or {}, dict):
        raise Complaint(f"{file} is no clouds.yaml: it has no mapping at its top", FAILED)
    return content or {}
