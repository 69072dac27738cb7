"""Routes of snapshots: images of nodes' disks, which outlive their environments."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel, Field

from pipeline.api.views import Guarded, Wish
from pipeline.bootstrap import Application
from pipeline.domain.snapshots import Snapshot, SnapshotState

#: Why one is removed where nobody says it.
NOT_NEEDED = "not needed any more"


class SnapshotWish(Wish):
    """`node` may be left out where there is one, `name` where the environment and the node make a good one."""

    node: str = Field(default="", max_length=100)
    name: str = Field(default="", max_length=63)


class SnapshotRemoval(Guarded):
    """Beside what every guarded act is told: whose it is, which may be left out where one project has that name."""

    project: str = Field(default="", max_length=100)


class SnapshotView(BaseModel):
    """Moments are seconds since the epoch."""

    name: str
    project: str
    environment: str = Field(description="where it was taken; it may be gone")
    node: str
    state: SnapshotState
    image: str = Field(description="what a blueprint of the project says for it")
    size: int = Field(description="in bytes; 0 while it is saved")
    taken_at: float
    id: str = Field(description="the provider's")

    @classmethod
    def of(cls, one: Snapshot) -> SnapshotView:
        return cls(**{name: getattr(one, name) for name in cls.model_fields})


def router(app: Application) -> APIRouter:
    routes = APIRouter(tags=["environments"])

    @routes.post(
        "/environments/{id}/snapshot", status_code=202, summary="Keep a node's disk as an image, if that can be"
    )
    def take(id: str, wish: SnapshotWish | None = None) -> SnapshotView:
        wish = wish or SnapshotWish()
        return SnapshotView.of(app.snapshots.take(id, wish.node, wish.name))

    @routes.get("/providers/{name}/snapshots", summary="The snapshots that a provider keeps")
    def of(name: str) -> list[SnapshotView]:
        return [SnapshotView.of(one) for one in app.snapshots.of(name)]

    def gone(name: str, snapshot: str, wish: SnapshotRemoval) -> SnapshotView:
        return SnapshotView.of(app.snapshots.remove(name, snapshot, wish.project, wish.asking(NOT_NEEDED)))

    @routes.post("/providers/{name}/snapshots/{snapshot}/remove", summary="Remove one, through the gate")
    def remove(name: str, snapshot: str, wish: SnapshotRemoval | None = None) -> SnapshotView:
        return gone(name, snapshot, wish or SnapshotRemoval())

    @routes.delete("/providers/{name}/snapshots/{snapshot}", summary="The same, as `remove` without a body")
    def delete(name: str, snapshot: str, project: str = "", dry_run: bool = False, reason: str = "") -> SnapshotView:
        return gone(name, snapshot, SnapshotRemoval(project=project, dry_run=dry_run, reason=reason))

    return routes
