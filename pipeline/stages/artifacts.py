"""Artifacts: what the blueprint wants kept, fetched from the nodes before they go."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

from pipeline.domain.blueprint import Artifact
from pipeline.domain.errors import NotFound, TooLarge
from pipeline.ports.common import Sink
from pipeline.ports.transports import Connection, NodeAccess
from pipeline.stages.context import Stage, limits, line
from pipeline.stages.places import chosen

#: One artifact of one node, in bytes.
LIMIT_BYTES = 256 * 1024 * 1024
FETCH = limits(300, 120)


def fetch(stage: Stage, sink: Sink) -> None:
    """Fetch all; one that is missing or too large is written down and does not keep the others."""
    with stage.connection() as (connection, access):
        for artifact in stage.plan.artifacts:
            for node in chosen(access, artifact.on):
                _fetch_one(stage, connection, artifact, node, sink)


def _fetch_one(stage: Stage, connection: Connection, artifact: Artifact, node: NodeAccess, sink: Sink) -> None:
    try:
        names = _copy(stage, connection, artifact, node)
    except (NotFound, TooLarge) as error:
        line(sink, f"{node.name}: {artifact.path}: {error}")
    else:
        line(sink, f"{node.name}: {artifact.path}: {len(names)} files kept")


def _copy(stage: Stage, connection: Connection, artifact: Artifact, node: NodeAccess) -> list[str]:
    with stage.tools.workspaces.scratch(f"{stage.run.id}.artifacts") as directory:
        names = connection.fetch_tree(node.name, artifact.path, directory, limit_bytes=LIMIT_BYTES, limits=FETCH)
        kept = []
        for name in names:
            place = str(PurePosixPath(node.name) / PurePosixPath(artifact.path.lstrip("/")).parent / name)
            stage.tools.logs.save_artifact(stage.run.id, place, pieces(f"{directory}/{name}"))
            kept.append(place)
    return kept


def pieces(path: str, size: int = 1 << 20) -> Iterator[bytes]:
    """The content of a local file, in pieces."""
    with open(path, "rb") as file:  # noqa: PTH123  # pathlib is outside this layer
        while piece := file.read(size):
            yield piece
