"""What placement would answer now: a dry run that writes nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pipeline.domain import admission
from pipeline.domain.admission import Use
from pipeline.domain.blueprint import Blueprint, Priority
from pipeline.domain.environments import Environment, EnvironmentState, planned_nodes
from pipeline.domain.placement import engine
from pipeline.domain.placement.choices import choices
from pipeline.domain.placement.model import Choice, Decision, Explanation, Infeasible, Placed, Unschedulable
from pipeline.domain.placement.requests import request_of
from pipeline.domain.projects import Quota
from pipeline.envs.books import Books
from pipeline.envs.fleets import Fleets
from pipeline.envs.inventories import Inventories
from pipeline.envs.providers import Provider
from pipeline.envs.uses import uses
from pipeline.envs.wishes import unmet
from pipeline.ports.common import Clock


@dataclass(frozen=True)
class Trial:
    """The answer, the zone of every machine, and why each node went where it did."""

    provider: str
    decision: Decision
    zones: dict[str, str]
    choices: tuple[Choice, ...] = ()


class Placements:
    """Tries blueprints out against the inventories as they are."""

    def __init__(
        self,
        books: Books,
        providers: Callable[[str], Provider],
        inventories: Inventories,
        clock: Clock,
        default_provider: str,
        provider_names: Sequence[str],
    ) -> None:
        self._books = books
        self._provider = providers
        self._inventories = inventories
        self._clock = clock
        self._default = default_provider
        self._names = provider_names

    def try_out(self, blueprint: Blueprint, provider: str = "", project: str = "") -> Trial:
        """Where the nodes of a blueprint would stand; UserError when there is no such provider or project."""
        known = self._books.projects.get(project).value if project else None
        name = provider or blueprint.environment.provider or (known.provider if known else "") or self._default
        now = self._clock.now()
        account = self._provider(name)
        fleets = Fleets(self._books, self._inventories)
        picture = fleets.current(name, now)
        environment = _environment(blueprint, name, project, now)
        short = self._short(environment, known.quota) if known else ""
        room = admission.room_for(environment, picture.nodes, account.max_nodes)
        lacking = unmet(account, environment.nodes)
        if lacking:
            return Trial(name, Infeasible(Explanation("", lacking)), {})
        if short:
            return Trial(name, Unschedulable(Explanation("", short)), {})
        if isinstance(room, admission.Infeasible):
            return Trial(name, Infeasible(Explanation("", room.reason)), {})
        if isinstance(room, admission.Unschedulable):
            return Trial(name, Unschedulable(Explanation("", room.reason)), {})
        own = known.rules if known else ()
        request = request_of(environment, (*own, *picture.fleet.inventory.rules))
        decision = engine.decide(picture.fleet, request, now)
        zones = {machine.name: machine.zone for machine in picture.fleet.machines}
        why = choices(picture.fleet, request, decision) if isinstance(decision, Placed) else ()
        return Trial(name, decision, zones, why)

    def _short(self, environment: Environment, quota: Quota) -> str:
        used = uses(self._books, self._names).get(environment.project, Use())
        return admission.over_quota(quota, used, admission.use_of(environment))


def _environment(blueprint: Blueprint, provider: str, project: str, now: float) -> Environment:
    return Environment(
        id="dry-run",
        project=project,
        service=blueprint.service,
        owner="",
        provider=provider,
        state=EnvironmentState.REQUESTED,
        nodes=planned_nodes(blueprint.environment),
        priority=Priority.INTERACTIVE,
        created_at=now,
        state_since=now,
        ends_at=now,
        rules=blueprint.environment.rules,
    )
