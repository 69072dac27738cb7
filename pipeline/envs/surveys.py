"""Surveys of providers: their servers compared with the books, their machines taken over, both kept for who asks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from pipeline.domain.breakers import Call
from pipeline.domain.drift import Server, Told, compare, without_others
from pipeline.domain.environments import Environment
from pipeline.domain.errors import InfraError, InvalidTransition, UserError
from pipeline.domain.inventory import Inventory
from pipeline.envs import jobs
from pipeline.envs.books import SURVEYS, Books, Loaded, Survey
from pipeline.envs.calls import Breakers
from pipeline.envs.inventories import Inventories
from pipeline.envs.providers import Provider
from pipeline.ports.clouds import Sight
from pipeline.ports.common import Clock
from pipeline.ports.drivers import Driver


class Surveys:
    """Any number of processes at once; of two surveys of one provider the later one stays.

    `declared`: the inventory that a provider's settings name, which goes before what its cloud tells.
    """

    def __init__(
        self,
        books: Books,
        providers: Callable[[str], Provider],
        inventories: Inventories,
        clock: Clock,
        deployment: str,
        declared: Callable[[str], Inventory | None],
    ) -> None:
        self._books = books
        self._provider = providers
        self._inventories = inventories
        self._clock = clock
        self._deployment = deployment
        self._declared = declared

    def ask(self, provider: str) -> None:
        """Let a worker look at a provider now; UserError when there is no such provider."""
        self._provider(provider)
        self._books.commit(jobs=[jobs.survey(provider, takes_over=False)])

    def last(self, provider: str) -> Survey | None:
        """The last survey; None before the first."""
        loaded = self._books.surveys.find(provider)
        return None if loaded is None else loaded.value

    def survey(self, name: str, *, takes_over: bool) -> None:
        """Look, keep what was seen, and take the machines over if that is wanted. A failure is kept beside it."""
        provider, survey = self._provider(name), self.last(name) or Survey()
        try:
            Breakers(self._books, self._clock).check(name, Call.LIST)
            survey = self._made(provider)
            if takes_over and survey.inventory is not None and self._declared(name) is None:
                self._inventories.sync(name, survey.inventory)
        except (InfraError, UserError) as error:
            self._keep(name, replace(survey, tried_at=self._clock.now(), fault=str(error)))
            raise
        self._keep(name, survey)

    def take_over(self, provider: str) -> None:
        """Put what `seen` tells in force."""
        self._inventories.sync(provider, self.seen(provider))

    def seen(self, provider: str) -> Inventory:
        """The machines that a file declares, else those of the last survey; InvalidTransition when there are none."""
        declared = self._declared(provider)
        if declared is not None:
            return declared
        survey = self.last(provider)
        if survey is None:
            raise InvalidTransition(
                f"provider {provider} was not looked at yet; `greenroom providers sync {provider}` does"
            )
        if survey.inventory is None:
            raise InvalidTransition(
                f"provider {provider} does not tell its machines: name an `admin_cloud` in its settings, whose "
                "account may see them, or declare them in an inventory file"
            )
        return survey.inventory

    def _made(self, provider: Provider) -> Survey:
        before = self._standing(provider.name)
        sight = provider.cloud.look() if provider.cloud is not None else _of_driver(provider.driver, self._deployment)
        at = self._clock.now()
        after = self._standing(provider.name)
        steady = frozenset(id for id, one in after.items() if id in before and before[id].version == one.version)
        machines = frozenset(sight.used)
        told = Told(self._deployment, steady, sight.zones, machines)
        rows = compare([*(one.value for one in after.values()), *self._over(sight.servers, after)], sight.servers, told)
        inventory = None if sight.inventory is None else without_others(sight.inventory, sight.used, rows)
        return Survey(at, at, "", rows, inventory)

    def _standing(self, provider: str) -> Mapping[str, Loaded[Environment]]:
        found = self._books.environments.everything(f"environments:standing:{provider}")
        return {one.value.id: one for one in found}

    def _over(self, servers: Iterable[Server], standing: Mapping[str, object]) -> list[Environment]:
        """Environments that servers name beside those that stand."""
        marked = {one.environment_id for one in servers if one.deployment == self._deployment}
        return [one.value for one in self._books.environments.many(sorted(marked - standing.keys()))]

    def _keep(self, provider: str, survey: Survey) -> None:
        def once() -> None:
            self._books.commit(SURVEYS.put(provider, survey, self._books.store_version(SURVEYS.name, provider)))

        self._books.again(once)


def _of_driver(driver: Driver, deployment: str) -> Sight:
    """What a provider without a cloud shows: our own nodes alone, and the machines that its driver knows."""
    servers = (
        Server(
            id=view.driver_id,
            name=view.name,
            status=view.status.value,
            address=view.address or "",
            machine=view.machine,
            fault=view.fault,
            deployment=deployment,
            environment_id=view.environment_id,
            node=view.name,
        )
        for view in driver.list().nodes
    )
    return Sight(tuple(servers), driver.inventory())
