"""Snapshots as private images of a cloud: Nova copies the disk, and the image says whose it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from pipeline.adapters.drivers.openstack import servers
from pipeline.adapters.drivers.openstack.cloud import Cloud
from pipeline.adapters.drivers.openstack.clouds import Clouds
from pipeline.adapters.drivers.openstack.terms import Terms
from pipeline.clients.openstack import Account, Mark, marks, told
from pipeline.domain.errors import NotFound
from pipeline.domain.snapshots import Snapshot, SnapshotState

#: Glance's words for an image that is, or may still become, whole.
_STATES: Mapping[str, SnapshotState] = {
    "queued": SnapshotState.SAVING,
    "saving": SnapshotState.SAVING,
    "importing": SnapshotState.SAVING,
    "active": SnapshotState.READY,
}


class OpenStackSnapshots:
    """`Snapshots` of a provider; `projects` are the accounts of those projects that have one of their own."""

    def __init__(self, deployment: str, account: Account, projects: Mapping[str, Account], terms: Terms) -> None:
        self._deployment = deployment
        self._clouds = Clouds(account, projects, terms)

    def take(self, wish: Snapshot) -> Snapshot:
        cloud = self._clouds.of(wish.project)
        server = self._server(cloud, wish)
        name = marks.snapshot_image(self._deployment, wish.project, wish.name)
        whose = {
            marks.DEPLOYMENT: self._deployment,
            marks.ENVIRONMENT: wish.environment,
            marks.NODE: wish.node,
            marks.PROJECT: wish.project,
            marks.SNAPSHOT: wish.name,
        }
        with told(f"taking {wish}"):
            return _snapshot(cloud.connection.compute.create_server_image(server, name, whose), whose)

    def all(self) -> Sequence[Snapshot]:
        found = {one.id: one for cloud in self._clouds.all() for one in self._those_of(cloud)}
        return tuple(found.values())  # two accounts may be of one project

    def users(self, snapshot: Snapshot) -> Sequence[str]:
        with told(f"asking what uses {snapshot}"):
            there = self._clouds.of(snapshot.project).servers()
        return [f"server {one.name} ({one.id})" for one in there if (one.image or {}).get("id") == snapshot.id]

    def remove(self, snapshot: Snapshot) -> None:
        with told(f"removing {snapshot}"):
            self._clouds.of(snapshot.project).connection.image.delete_image(snapshot.id)

    def close(self) -> None:
        self._clouds.close()

    def _server(self, cloud: Cloud, wish: Snapshot) -> str:
        there = servers.of_environment(cloud, Mark(self._deployment, wish.environment))
        found = next((one for one in there if one.metadata.get(marks.NODE) == wish.node), None)
        if found is None:
            raise NotFound(f"environment {wish.environment} has no server of node {wish.node} in the cloud")
        return str(found.id)

    def _those_of(self, cloud: Cloud) -> Iterator[Snapshot]:
        with told("listing private images"):
            images = list(cloud.connection.image.images(visibility="private"))
        for one in images:
            whose = one.properties or {}
            if whose.get(marks.DEPLOYMENT) == self._deployment and marks.SNAPSHOT in whose:
                yield _snapshot(one, whose)


def _snapshot(image: Any, whose: Mapping[str, str]) -> Snapshot:
    made = image.created_at
    return Snapshot(
        whose[marks.SNAPSHOT],
        whose.get(marks.PROJECT, ""),
        whose.get(marks.ENVIRONMENT, ""),
        whose.get(marks.NODE, ""),
        str(image.id),
        _STATES.get(image.status or "queued", SnapshotState.FAILED),
        int(image.size or 0),
        datetime.fromisoformat(made).timestamp() if made else 0.0,
    )
