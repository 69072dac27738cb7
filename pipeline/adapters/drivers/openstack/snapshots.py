"""Snapshots as private images of a cloud: Nova copies the disk, and the image says whose it is."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pipeline.adapters.drivers.openstack import servers
from pipeline.clients.openstack import Account, Mark, connect, marks, told
from pipeline.domain.errors import NotFound
from pipeline.domain.snapshots import Snapshot, SnapshotState

if TYPE_CHECKING:
    from openstack.connection import Connection

#: Glance's words for an image that is, or may still become, whole.
_STATES: Mapping[str, SnapshotState] = {
    "queued": SnapshotState.SAVING,
    "saving": SnapshotState.SAVING,
    "importing": SnapshotState.SAVING,
    "active": SnapshotState.READY,
}


class OpenStackSnapshots:
    """`Snapshots` of a provider; `projects` are the accounts of those projects that have one of their own."""

    def __init__(self, deployment: str, account: Account, projects: Mapping[str, Account]) -> None:
        self._deployment = deployment
        self._accounts = {"": account, **projects}
        self._connections: dict[Account, Connection] = {}
        self._connecting = threading.Lock()

    def take(self, wish: Snapshot) -> Snapshot:
        connection = self._of_project(wish.project)
        server = self._server(connection, wish)
        name = marks.snapshot_image(self._deployment, wish.project, wish.name)
        whose = {
            marks.DEPLOYMENT: self._deployment,
            marks.ENVIRONMENT: wish.environment,
            marks.NODE: wish.node,
            marks.PROJECT: wish.project,
            marks.SNAPSHOT: wish.name,
        }
        with told(f"taking {wish}"):
            return _snapshot(connection.compute.create_server_image(server, name, whose), whose)

    def all(self) -> Sequence[Snapshot]:
        found = {one.id: one for account in self._every() for one in self._those_of(self._connection(account))}
        return tuple(found.values())  # two accounts may be of one project

    def users(self, snapshot: Snapshot) -> Sequence[str]:
        with told(f"asking what uses {snapshot}"):
            made = list(self._of_project(snapshot.project).compute.servers(details=True, image=snapshot.id))
        return [f"server {one.name} ({one.id})" for one in made]

    def remove(self, snapshot: Snapshot) -> None:
        with told(f"removing {snapshot}"):
            self._of_project(snapshot.project).image.delete_image(snapshot.id)

    def close(self) -> None:
        for connection in self._connections.values():
            connection.close()
        self._connections.clear()

    def _server(self, connection: Connection, wish: Snapshot) -> str:
        mark = Mark(self._deployment, wish.environment)
        with told(f"looking for node {wish.node} of environment {wish.environment}"):
            found = list(connection.compute.servers(details=True, tags=servers.environment_tag(mark)))
        for one in found:
            if marks.marked(one.metadata) == mark and one.metadata.get(marks.NODE) == wish.node:
                return str(one.id)
        raise NotFound(f"environment {wish.environment} has no server of node {wish.node} in the cloud")

    def _those_of(self, connection: Connection) -> Iterator[Snapshot]:
        with told("listing private images"):
            images = list(connection.image.images(visibility="private"))
        for one in images:
            whose = one.properties or {}
            if whose.get(marks.DEPLOYMENT) == self._deployment and marks.SNAPSHOT in whose:
                yield _snapshot(one, whose)

    def _every(self) -> Sequence[Account]:
        return list(dict.fromkeys(self._accounts.values()))

    def _of_project(self, project: str) -> Connection:
        return self._connection(self._accounts.get(project, self._accounts[""]))

    def _connection(self, account: Account) -> Connection:
        with self._connecting:
            if account not in self._connections:
                self._connections[account] = connect(account)
            return self._connections[account]


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
