"""Files that commands are given."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.output import USAGE, Complaint

Blueprint = Annotated[Path, typer.Argument(metavar="FILE", help="or a directory that holds it")]
#: Where a blueprint is looked for when none is named.
BLUEPRINT = Path("greenroom.yml")


def blueprint_in(given: Path) -> Path:
    """The blueprint that a file or directory means."""
    return given / BLUEPRINT if given.is_dir() else given


def unreadable(file: Path, error: OSError) -> str:
    return f"{file} cannot be read: {error.strerror}; name the file, or go to the directory where it is"


def text_of(file: Path) -> str:
    """What a file holds; the command ends when it cannot be read."""
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise Complaint(unreadable(file, error), USAGE) from error
    except UnicodeDecodeError as error:
        raise Complaint(f"{file} cannot be read: it is no text in UTF-8", USAGE) from error
