"""Snapshots of nodes: taken of environments that somebody has, found again at the provider, removed past the gate."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pipeline.domain.environments import Environment, EnvironmentState, Node, NodeState
from pipeline.domain.errors import (
    AlreadyExists,
    InvalidTransition,
    NotFound,
    NotSupported,
    OverQuota,
    TransientError,
    UserError,
)
from pipeline.domain.guards import Act, Facts
from pipeline.domain.snapshots import MOST, Snapshot, SnapshotState, check_name
from pipeline.envs.books import Books
from pipeline.envs.gate import Asking, Gate
from pipeline.envs.providers import Provider
from pipeline.ports import snapshots as port
from pipeline.ports.common import Clock
from pipeline.ports.stores import Event

log = logging.getLogger(__name__)
#: Environments that are somebody's, and nodes that have a disk worth keeping.
HAD = frozenset({EnvironmentState.LEASED, EnvironmentState.HELD})
RUNNING = frozenset({NodeState.ACTIVE, NodeState.REACHABLE, NodeState.IN_SERVICE, NodeState.DRAINING})


@dataclass(frozen=True)
class Snapshots:
    """Any number of processes at once. What is known of snapshots stands at the providers, and in no book."""

    books: Books
    providers: Callable[[str], Provider]
    gate: Gate
    clock: Clock

    def take(self, environment_id: str, node: str = "", name: str = "") -> Snapshot:
        """Ask for an image of a node's disk; it is saved while the node goes on. The same wish again finds it.

        `node` may be left out where there is one, `name` is that of environment and node where it is left out. Errors:
        NotFound, NotSupported, UserError, InvalidTransition, AlreadyExists (the name), OverQuota (`MOST` a project).
        """
        environment = self.books.environments.get(environment_id).value
        keeper = self._keeper(environment.provider, f"environment {environment_id} stands at ")
        chosen = _node(environment, node)
        wish = Snapshot(name or f"{environment_id}-{chosen.name}", environment.project, environment_id, chosen.name)
        check_name(wish.name)
        own = [one for one in keeper.all() if one.project == wish.project]
        known = next((one for one in own if one.name == wish.name), None)
        if known is not None:
            return _the_same(known, wish)
        if len(own) >= MOST:
            raise OverQuota(
                f"project {wish.project} has {len(own)} snapshots at provider {environment.provider}, as many as it "
                f"may; remove one: `greenroom snapshot rm {environment.provider} {own[0].name}`"
            )
        taken = keeper.take(wish)
        data = {"snapshot": wish.name, "node": wish.node, "image": wish.image, "id": taken.id}
        self.books.commit(events=[Event(environment_id, "environment.snapshot", self.clock.now(), data)])
        log.info("environment %s: %s of node %s is being saved", environment_id, taken, wish.node)
        return taken

    def of(self, provider: str) -> Sequence[Snapshot]:
        """All that a provider keeps, by project and name; none where it keeps none."""
        keeper = self.providers(provider).snapshots
        found = [] if keeper is None else keeper.all()
        return sorted(found, key=lambda one: (one.project, one.name))

    def remove(self, provider: str, name: str, project: str, asking: Asking) -> Snapshot:
        """Remove one that nothing uses; what it was. Errors: NotFound, UserError (several projects have one of that
        name), GuardRefused, NotSupported.
        """
        keeper = self._keeper(provider)
        one = _the_one([each for each in keeper.all() if each.name == name], name, provider, project)
        using = [*self._environments(provider, one), *keeper.users(one)]
        facts = Facts(asking.who, provider=provider, used_by=using, now=self.clock.now())
        self.gate.pass_(Act.DELETE_OBJECT, f"{one} at provider {provider}", facts, asking)
        if not asking.dry_run:
            keeper.remove(one)
            if any(each.id == one.id for each in keeper.all()):
                raise TransientError(f"{one} is still there after it was removed; ask again")
        return one

    def _environments(self, provider: str, one: Snapshot) -> Sequence[str]:
        """Those that have nodes of it, or will have."""
        indexes = ("environments:requested", f"environments:standing:{provider}")
        there = (each.value for index in indexes for each in self.books.environments.everything(index))
        return [
            f"environment {each.id}"
            for each in there
            if (each.provider, each.project) == (provider, one.project) and one.image in {n.image for n in each.nodes}
        ]

    def _keeper(self, provider: str, told: str = "") -> port.Snapshots:
        found = self.providers(provider).snapshots
        if found is None:
            raise NotSupported(
                f"{told}provider {provider}, which takes no snapshots: only providers on OpenStack do. Keep files with "
                "`artifacts` in greenroom.yml, or what prepares a node as a template (`PUT /v1/templates/NAME`) and a "
                "warm pool of it"
            )
        return found


def _node(environment: Environment, name: str) -> Node:
    if environment.state not in HAD:
        raise InvalidTransition(
            f"environment {environment.id} is {environment.state}; snapshots are taken of leased and held ones"
        )
    names = [node.name for node in environment.nodes]
    if not name and len(names) > 1:
        raise UserError(f"environment {environment.id} has several nodes; name one: {', '.join(names)}")
    found = [node for node in environment.nodes if node.name == (name or names[0])]
    if not found:
        raise NotFound(f"environment {environment.id} has no node {name}; it has {', '.join(names)}")
    if found[0].state not in RUNNING:
        raise InvalidTransition(
            f"node {found[0].name} of environment {environment.id} is {found[0].state}, and not running"
        )
    return found[0]


def _the_same(known: Snapshot, wish: Snapshot) -> Snapshot:
    """What was taken by the same wish; AlreadyExists when it is of something else, or of no use."""
    same = (known.environment, known.node) == (wish.environment, wish.node)
    if same and known.state is not SnapshotState.FAILED:
        return known
    what = f"of node {known.node} of environment {known.environment}" if not same else "and it failed"
    raise AlreadyExists(f"{known} is there already, {what}; choose another name, or remove it first")


def _the_one(found: Sequence[Snapshot], name: str, provider: str, project: str) -> Snapshot:
    matching = [one for one in found if not project or one.project == project]
    if not matching:
        raise NotFound(f"provider {provider} keeps no snapshot {name}; `greenroom snapshot ls {provider}` lists them")
    if len(matching) > 1:
        projects = ", ".join(sorted(one.project for one in matching))
        raise UserError(f"projects {projects} each have a snapshot {name}: say which project's")
    return matching[0]
