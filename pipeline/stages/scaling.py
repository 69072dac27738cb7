"""Wishes for more or fewer nodes of a role: checked, answered at once, carried out by the tick and the workers.

Where nodes are configured or deployed, a run prepares those that come, as one prepared the environment.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pipeline.domain import admission, resizing
from pipeline.domain.admission import Use
from pipeline.domain.blueprint import Blueprint, Priority
from pipeline.domain.environments import Environment
from pipeline.domain.errors import InvalidTransition, OverQuota, UserError
from pipeline.domain.guards import Act
from pipeline.domain.projects import Quota
from pipeline.domain.runs import Run, RunState, StageName, StageRun, StageState
from pipeline.domain.scaling import Scaling
from pipeline.domain.stagings import OWNER
from pipeline.envs import events, jobs
from pipeline.envs.books import Loaded
from pipeline.envs.gate import TICK, Asking
from pipeline.envs.inventories import Inventories
from pipeline.envs.room import NoRoom, Reserved, Room
from pipeline.envs.uses import uses
from pipeline.ports.stores import Event, Put
from pipeline.stages.context import Tools
from pipeline.stages.requests import UNTESTED
from pipeline.stages.runner import save_run


@dataclass(frozen=True)
class Scale:
    """Any number of processes at once. `provider_names` are all whose environments count against quotas."""

    tools: Tools
    inventories: Inventories
    room: Room
    provider_names: Sequence[str]

    def scale(
        self, environment_id: str, role: str, count: int, asking: Asking, drain_s: float | None = None
    ) -> Environment:
        """Bring a role to `count` nodes; the environment as it is from now on, or in a dry run as it would be.

        `drain_s`: nodes that go have no traffic for so long before; None: as its staging drains, or the usual time.
        The same wish once more changes nothing. Errors: NotFound, UserError (no such role, addresses of its own, more
        than the provider takes), OverQuota, GuardRefused, InvalidTransition (not leased, or scaled already).
        """
        resizing.check_drain(drain_s)
        return self.tools.books.again(lambda: self._scale(environment_id, role, count, asking, drain_s))

    def _scale(self, id: str, role: str, count: int, asking: Asking, drain_s: float | None) -> Environment:
        ledger = self.inventories.ledger_put(self.inventories.ledger_version())  # first of all, as every reservation
        loaded, now = self.tools.books.environments.get(id), self.tools.clock.now()
        environment, scaling = loaded.value, loaded.value.scaling
        resizing.check(environment, role)
        if scaling is not None and not scaling.replaces and (scaling.role, scaling.count) == (role, count):
            return environment
        if scaling is not None:
            raise InvalidTransition(f"{resizing.busy(environment)}: wait until that is over, and ask again")
        wish = Scaling(
            role,
            count,
            asking.who,
            asking.why,
            now,
            overrides=asking.overrides,
            drain_s=self.drain_s(environment) if drain_s is None else drain_s,
        )
        standing = len(environment.of_role(role))
        if count < standing:
            return self._shrink(loaded, wish, asking)
        return self._grow(loaded, wish, asking, ledger) if count > standing else environment

    def _shrink(self, loaded: Loaded[Environment], wish: Scaling, asking: Asking) -> Environment:
        now = self.tools.clock.now()
        names = resizing.chosen_to_go(loaded.value, wish.role, wish.count)
        begun = self.tools.removals.judge_nodes(loaded.value, names, Act.SCALE_IN, asking, drain=True)
        going = replace(wish, going=names)
        drains = replace(begun.environment, scaling=going, not_before=0.0, degraded="")
        if asking.dry_run:
            self.tools.books.commit(events=begun.events)
            return drains
        told = [*begun.events, events.scaling_begins(drains, going, now)]
        self.tools.books.commit(self._put(loaded, drains), *begun.writes, events=told)
        return drains

    def drain_s(self, environment: Environment) -> float:
        """How long what is open may go on at most, where nobody says."""
        owner = environment.contract.owner if environment.contract is not None else ""
        staging = self.tools.books.stagings.find(owner.removeprefix(OWNER)) if owner.startswith(OWNER) else None
        return resizing.DRAIN_S if staging is None else min(staging.value.spec.drain_s, resizing.MOST_DRAIN_S)

    def _grow(self, loaded: Loaded[Environment], wish: Scaling, asking: Asking, ledger: Put) -> Environment:
        grown = resizing.grown(loaded.value, wish)
        self.check_room(loaded.value, grown)
        if asking.dry_run:
            return tried(grown, self.find(grown))
        run = self.preparing(grown)
        return self.begin(loaded, grown, run, (ledger,))

    def replace_lost(self, environment_id: str) -> Environment:
        """Begin to replace lost nodes of one role, if any is to be replaced; the environment as it is from now on.

        Errors: GuardRefused (the provider's budget), InvalidTransition (nobody knows what is to be done on them).
        """
        return self.tools.books.again(lambda: self._replace_lost(environment_id))

    def _replace_lost(self, id: str) -> Environment:
        loaded, now = self.tools.books.environments.get(id), self.tools.clock.now()
        environment, due = loaded.value, resizing.replaced_at(loaded.value)
        if due is None or due > now:
            return environment
        gone = resizing.lost(environment)
        names, role = tuple(node.name for node in gone), gone[0].role
        why = "; ".join(f"{node.name} is lost: {node.fault}" for node in gone)
        asking = Asking(TICK, why, again=True)
        begun = self.tools.removals.judge_nodes(environment, names, Act.REBUILD, asking)
        count = len(environment.of_role(role))
        wish = Scaling(role, count, asking.who, why, now, coming=names, replaces=True)
        coming = resizing.replacing(environment, wish)
        return self.begin(loaded, coming, self.preparing(coming), begun.writes, begun.events)

    def begin(
        self,
        loaded: Loaded[Environment],
        coming: Environment,
        run: Run | None,
        writes: tuple[Put, ...],
        before: tuple[Event, ...] = (),
    ) -> Environment:
        """Store nodes that are to come, with the run that prepares them."""
        now, scaling = self.tools.clock.now(), coming.scaling
        assert scaling is not None, "nodes are to come"  # noqa: S101  # says it to the reader
        named = replace(scaling, run=run.id if run is not None else "")
        begun = replace(coming, scaling=named)
        told: list[Event] = [*before, events.scaling_begins(begun, named, now)]
        work = (jobs.advance(begun, loaded.version),)
        if run is None:
            self.tools.books.commit(self._put(loaded, begun), *writes, events=told, jobs=work)
        else:
            save_run(self.tools, None, run, (self._put(loaded, begun), *writes), tuple(told), work)
        return begun

    def _put(self, loaded: Loaded[Environment], environment: Environment) -> Put:
        return self.tools.books.environments.kind.put(environment.id, environment, loaded.version)

    def check_room(self, before: Environment, grown: Environment) -> None:
        """UserError or OverQuota when so many nodes are too many."""
        most = self.tools.providers(grown.provider).max_nodes
        if len(grown.nodes) > most:
            raise UserError(
                f"environment {grown.id} would have {len(grown.nodes)} nodes, and provider {grown.provider} takes "
                f"{most} in all: ask for fewer"
            )
        project = self.tools.books.projects.get(grown.project).value
        if project.quota == Quota():  # nothing to compare with, and counting reads all that stands
            return
        used = uses(self.tools.books, self.provider_names).get(project.name, Use())
        more = admission.use_of(grown).plus(admission.use_of(before), -1)
        short = admission.over_quota(project.quota, used, more)
        if short:
            raise OverQuota(f"{len(grown.nodes) - len(before.nodes)} more nodes of environment {grown.id} are {short}")

    def find(self, grown: Environment) -> Reserved | NoRoom:
        """Room for its further nodes as it is now."""
        assert grown.scaling is not None, "nodes are to come"  # noqa: S101  # says it to the reader
        return self.room.find(grown, grown.scaling.coming)

    def preparing(self, environment: Environment) -> Run | None:
        """The run that configures and deploys the nodes that come; None where there is nothing to do on them.

        Those that take the place of others, which serve, are tested, too. InvalidTransition when what there is to do is
        forgotten.
        """
        scaling = environment.scaling
        assert scaling is not None, "nodes are to come"  # noqa: S101  # says it to the reader
        if not environment.owner:
            return None
        owner = self.tools.books.runs.find(environment.owner)
        if owner is None:
            raise InvalidTransition(
                f"environment {environment.id}: run {environment.owner}, which prepared it, is forgotten, and nobody "
                "knows any more what is to be done on a further node; ask for a new environment"
            )
        tested = scaling.moves is not None
        if not _has_work(owner.value.plan, scaling.role) and not (tested and owner.value.plan.test):
            return None
        run = Run(
            id=self.tools.ids.new("run"),
            project=environment.project,
            trigger=owner.value.trigger,
            state=RunState.PENDING,
            created_at=self.tools.clock.now(),
            blueprint=_counted(owner.value.plan, scaling),
            provider=environment.provider,
            priority=Priority.INTERACTIVE,
            environment_id=environment.id,
            nodes=scaling.coming,
        )
        return run if tested else run.with_stage(StageRun(StageName.TEST, StageState.SKIPPED, UNTESTED))


def tried(grown: Environment, found: Reserved | NoRoom) -> Environment:
    """Where its further nodes would stand, or why there is no room now."""
    assert grown.scaling is not None, "nodes are to come"  # noqa: S101  # says it to the reader
    if isinstance(found, NoRoom):
        return replace(grown, scaling=replace(grown.scaling, reason=f"waits for room: {found.reason}"))
    return found.environment


def _has_work(blueprint: Blueprint, role: str) -> bool:
    spec = blueprint.environment.role(role)
    return bool(spec.script or spec.run_list) or any(one.role == role for one in blueprint.deploy)


def _counted(blueprint: Blueprint, scaling: Scaling) -> Blueprint:
    """The blueprint as the environment will be."""
    spec = blueprint.environment
    roles = tuple(replace(one, count=scaling.count) if one.name == scaling.role else one for one in spec.roles)
    return replace(blueprint, environment=replace(spec, roles=roles))
