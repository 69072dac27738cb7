"""Notices nodes of environments in use that are not there any more."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from pipeline.domain import resizing
from pipeline.domain.environments import Environment, NodeState
from pipeline.domain.errors import VersionConflict
from pipeline.envs import events
from pipeline.envs.books import Books, Loaded
from pipeline.envs.providers import Provider
from pipeline.envs.steps import Steps
from pipeline.ports.common import Clock
from pipeline.ports.drivers import NodeStatus, NodeView
from pipeline.ports.stores import Put

log = logging.getLogger(__name__)
#: A node must be missed twice, at least so far apart, and at most, in seconds.
SECOND_SIGHTING_S, SIGHTING_TTL_S = 4.0, 30
#: When more than this part of so many nodes is missed at once, it is the listing that is wrong.
MOST_MISSED, FEW = 0.5, 4
UNSEEN = "the provider does not show it any more"


@dataclass(frozen=True)
class Watch:
    """One call of the provider for all its environments in use; any number of processes at once."""

    books: Books
    providers: Callable[[str], Provider]
    clock: Clock

    def look(self, provider_name: str) -> list[str]:
        """Mark what was missed twice as lost; `environment/node` of each. Errors: those of the driver."""
        watched = self.books.environments.everything(f"environments:watched:{provider_name}")
        if not watched:
            return []
        listed = self.providers(provider_name).driver.nodes()
        missed = {one.value.id: missing(one.value, listed) for one in watched}
        nodes, gone = sum(len(one.value.nodes) for one in watched), sum(map(len, missed.values()))
        if nodes >= FEW and gone > MOST_MISSED * nodes:
            log.error("provider %s shows %d of %d nodes: nothing of it is believed", provider_name, nodes - gone, nodes)
            return []
        return [name for one in watched for name in self._note(one, missed[one.value.id])]

    def _note(self, loaded: Loaded[Environment], missed: Mapping[str, str]) -> Sequence[str]:
        faults = {name: why for name, why in missed.items() if self._missed_before(loaded.value.id, name)}
        if not faults:
            return []
        now = self.clock.now()
        told = [events.node_lost(loaded.value, name, why, now) for name, why in faults.items()]
        try:
            Steps(self.books, self.clock).save(loaded, resizing.lose(loaded.value, faults), told=told)
        except VersionConflict:
            log.debug("environment %s changed meanwhile; its nodes are looked for again", loaded.value.id)
            return []
        log.warning("environment %s lost %s", loaded.value.id, ", ".join(faults))
        return [f"{loaded.value.id}/{name}" for name in faults]

    def _missed_before(self, environment_id: str, node: str) -> bool:
        id, now = f"lost.{environment_id}.{node}", self.clock.now()
        sighting = self.books.store.get("sighting", id)
        if sighting is None:
            self.books.commit(Put("sighting", id, 0, {"at": now}, ttl_s=SIGHTING_TTL_S))
            return False
        return now - float(sighting.body["at"]) >= SECOND_SIGHTING_S


def missing(environment: Environment, listed: Sequence[NodeView]) -> Mapping[str, str]:
    """Its nodes in service that are not there, or broken, by name, and why."""
    views = {view.name: view for view in listed if view.environment_id == environment.id}
    serving = [node.name for node in environment.nodes if node.state is NodeState.IN_SERVICE]
    return dict(_faults(serving, views))


def _faults(names: Sequence[str], views: Mapping[str, NodeView]) -> Iterator[tuple[str, str]]:
    for name in names:
        view = views.get(name)
        if view is None:
            yield name, UNSEEN
        elif view.status is NodeStatus.ERROR:
            yield name, view.fault or "the provider reports an error without saying which"
