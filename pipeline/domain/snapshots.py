"""Snapshots: images of nodes' disks that outlive their environments, and are images of nodes again."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from pipeline.domain.errors import UserError

#: How blueprints name the snapshot `NAME` of their project as an image.
PREFIX = "snapshot/"
#: So many of one project at a provider: a disk image is large, and nothing ends it but a person.
MOST = 20
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")


class SnapshotState(StrEnum):
    """`saving` until the whole disk is copied; one that is `failed` is of no use, and may be removed."""

    SAVING = "saving"
    READY = "ready"
    FAILED = "failed"


@dataclass(frozen=True)
class Snapshot:
    """An image of the disk of a node, by a name that is unique in its project at a provider.

    `id` is the provider's. `size` is in bytes, 0 while it is saved; `taken_at` in epoch seconds, 0 if it is not told.
    """

    name: str
    project: str
    environment: str
    node: str
    id: str = ""
    state: SnapshotState = SnapshotState.SAVING
    size: int = 0
    taken_at: float = 0.0

    def __str__(self) -> str:
        return f"snapshot {self.name} of project {self.project}"

    @property
    def image(self) -> str:
        """What a blueprint of the project says for it."""
        return PREFIX + self.name


def named(image: str) -> str:
    """The name of the snapshot that a blueprint's image is; empty: it is none."""
    return image.removeprefix(PREFIX) if image.startswith(PREFIX) else ""


def check_name(name: str) -> None:
    """UserError when it is no name of a snapshot."""
    if not _NAME.fullmatch(name):
        raise UserError(f"{name!r} is no name of a snapshot: up to 63 small letters, digits and - inside")
