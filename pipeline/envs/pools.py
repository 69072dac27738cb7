"""Warm pools: set by hand, kept full by the tick, their environments asked now and then whether they are well."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import median

from pipeline.domain import pools
from pipeline.domain.blueprint import Blueprint
from pipeline.domain.environments import Environment, EnvironmentState, planned_nodes
from pipeline.domain.errors import AlreadyExists, GreenroomError, InfraError, NotFound, UserError, VersionConflict
from pipeline.domain.guards import Act, Facts
from pipeline.domain.inventory import MachineState
from pipeline.domain.pools import Pool
from pipeline.domain.projects import Project
from pipeline.envs import events, jobs
from pipeline.envs.books import POOLED, POOLS, UNCHECKED, Books, Loaded, pool_index
from pipeline.envs.gate import Asking, Gate
from pipeline.envs.inventories import machine_id
from pipeline.envs.kept import Kept
from pipeline.envs.login_keys import LoginKeys
from pipeline.envs.providers import Provider
from pipeline.envs.templates import Templates
from pipeline.envs.wishes import unmet
from pipeline.ports.common import Clock, Ids
from pipeline.ports.stores import Delete, Event, Fence, JobRequest

log = logging.getLogger(__name__)
#: Failures that count for the pause before the next build, and for how long, in seconds.
FAILURES, FAILURE_S = 10, 3600.0
#: Environments whose nodes are asked at once.
AT_ONCE = 8
#: The latest that were handed out, or had to be built, of which waiting times are told.
LATELY = 50


@dataclass(frozen=True)
class Offer:
    """What a pool is made of now."""

    blueprint: Blueprint
    provider: str
    made_of: str


@dataclass(frozen=True)
class State:
    """How a pool fares. `short` says why fewer are ready than should be; waiting times are medians in seconds."""

    pool: Pool
    ready: int
    preparing: int
    handed_out: int
    hits: int
    misses: int
    hit_wait_s: float | None
    miss_wait_s: float | None
    short: tuple[str, ...]


@dataclass
class Pools:
    """Any number of processes at once; `round` is the leading tick's."""

    books: Books
    templates: Templates
    providers: Callable[[str], Provider]
    default_provider: str
    keys: LoginKeys
    gate: Gate
    clock: Clock
    ids: Ids

    @cached_property
    def _stock(self) -> Kept[Environment]:
        return Kept(self.books.environments, POOLED)

    # By hand

    def set(self, name: str, project: str, template: str, ready: int, most: int, max_age_s: float) -> Pool:
        """Make a pool, or change it. NotFound (project, template), UserError (what cannot be meant, or built),
        AlreadyExists when the project's template has another pool.
        """
        now = self.clock.now()
        pool = pools.checked(Pool(name, project, template, ready, most, max_age_s, now, now))
        self.offer(pool)
        return self.books.again(lambda: self._set(pool))

    def _set(self, pool: Pool) -> Pool:
        other = self.of(pool.project, pool.template)
        if other is not None and other.name != pool.name:
            raise AlreadyExists(
                f"template {pool.template} of project {pool.project} has a warm pool already: {other.name}; change or "
                "remove that one"
            )
        known = self.books.pools.find(pool.name)
        born = pool.created_at if known is None else known.value.created_at
        kept = replace(pool, created_at=born)
        self.books.commit(POOLS.put(pool.name, kept, known.version if known else 0))
        return kept

    def get(self, name: str) -> Pool:
        """NotFound names those that there are."""
        known = self.books.pools.find(name)
        if known is None:
            names = ", ".join(one.name for one in self.all()) or "none yet"
            raise NotFound(f"there is no warm pool {name[:80]!r}; there are: {names}; `PUT /v1/pools/NAME` makes one")
        return known.value

    def all(self) -> list[Pool]:
        return [loaded.value for loaded in self.books.pools.everything("pools")]

    def of(self, project: str, template: str) -> Pool | None:
        """The pool of a project's template, if it has one."""
        return next((one for one in self.all() if (one.project, one.template) == (project, template)), None)

    def forget(self, name: str, asking: Asking) -> Pool:
        """Remove a pool: what it keeps ready is taken back, what it handed out stays."""
        self.get(name)
        return self.books.again(lambda: self._forget(name, asking))

    def _forget(self, name: str, asking: Asking) -> Pool:
        loaded = self.books.pools.get(name)
        passed = self.gate.judge(Act.DELETE_OBJECT, f"warm pool {name}", Facts(who=asking.who), asking)
        gone = () if asking.dry_run else (Delete(POOLS.name, name, loaded.version),)
        self.books.commit(*gone, *passed.writes, events=passed.events)
        return loaded.value

    def state(self, name: str) -> State:
        """How a pool fares."""
        pool = self.get(name)
        everything = [one.value for one in self.books.environments.everything(POOLED)]
        stock = [one for one in everything if one.warm is not None and one.warm.pool == name]
        ready = self.books.store.count(pool_index("ready", name))
        handed_out = self.books.store.count(pool_index("out", name))
        return State(
            pool=pool,
            ready=ready,
            preparing=sum(one.state is not EnvironmentState.READY for one in stock),
            handed_out=handed_out,
            hits=self.books.store.count(pool_index("hits", name)),
            misses=self.books.store.count(pool_index("misses", name)),
            hit_wait_s=self._waited("hits", name),
            miss_wait_s=self._waited("misses", name),
            short=tuple(self._short(pool, stock, handed_out)) if ready < pool.ready else (),
        )

    def _waited(self, what: str, name: str) -> float | None:
        lately = self.books.environments.in_index(pool_index(what, name), limit=LATELY, newest_first=True)
        found = [wait for one in lately if (wait := pools.waited(one.value)) is not None]
        return median(found) if found else None

    def _short(self, pool: Pool, stock: Sequence[Environment], handed_out: int) -> Iterator[str]:
        if pool.trouble:
            yield pool.trouble
        for one in stock:
            warm = one.warm
            assert warm is not None  # noqa: S101  # stock has it
            if one.state is EnvironmentState.READY and not warm.well:
                yield f"{one.id}: its nodes " + (f"do not answer: {warm.fault}" if warm.silent else "are asked now")
            elif one.state is not EnvironmentState.READY:
                yield f"{one.id} is {one.state}" + (f": {one.reason}" if one.reason else "")
        made_of = self._offer_or_trouble(pool)[0]
        why = self._plan(pool, made_of.made_of if made_of else "", stock, handed_out).why
        if why:
            yield why
        failed = self.books.environments.in_index(pool_index("failed", pool.name), limit=1, newest_first=True)
        for loaded in failed:
            yield f"the last that failed: {loaded.value.id}: {loaded.value.fault or loaded.value.reason}"

    # What a pool is made of

    def offer(self, pool: Pool) -> Offer:
        """What a pool would be built of now. Errors: NotFound, InvalidBlueprint, UserError."""
        project = self.books.projects.get(pool.project).value
        template = self.templates.get(pool.template)
        blueprint = self.templates.read(f"template {template.name}", template.text)
        provider = self.provider_of(project, blueprint)
        lacking = unmet(self.providers(provider), planned_nodes(blueprint.environment))
        if lacking:
            raise UserError(lacking)
        return Offer(blueprint, provider, pools.fingerprint(pool.project, provider, template.text))

    def provider_of(self, project: Project, blueprint: Blueprint) -> str:
        """Where environments of a blueprint are built for a project."""
        return blueprint.environment.provider or project.provider or self.default_provider

    def _offer_or_trouble(self, pool: Pool) -> tuple[Offer | None, str]:
        try:
            return self.offer(pool), ""
        except GreenroomError as error:
            return None, str(error)

    # Kept full

    def round(self, fence: Fence | None) -> list[tuple[Loaded[Environment], str]]:
        """Ask for what is missing; what is to be taken back, each with the reason."""
        stock: dict[str, list[Loaded[Environment]]] = defaultdict(list)
        for loaded in self._stock.everything():
            if loaded.value.warm is not None:
                stock[loaded.value.warm.pool].append(loaded)
        back: list[tuple[Loaded[Environment], str]] = []
        for pool in self.books.pools.everything("pools"):
            back += self._tend(pool, stock.pop(pool.value.name, []), fence)
        return [*back, *((one, "its warm pool was removed") for some in stock.values() for one in some)]

    def _tend(
        self, loaded: Loaded[Pool], stock: Sequence[Loaded[Environment]], fence: Fence | None
    ) -> list[tuple[Loaded[Environment], str]]:
        pool = loaded.value
        offer, trouble = self._offer_or_trouble(pool)
        handed_out = self.books.store.count(pool_index("out", pool.name))
        plan = self._plan(pool, offer.made_of if offer else "", [one.value for one in stock], handed_out)
        if trouble != pool.trouble:
            self._note_trouble(loaded, trouble, fence)
        if offer is not None and plan.ask:
            self._ask(pool, offer, plan.ask, fence)
        return [(one, plan.back[one.value.id]) for one in stock if one.value.id in plan.back]

    def _note_trouble(self, loaded: Loaded[Pool], trouble: str, fence: Fence | None) -> None:
        name = loaded.value.name
        log.warning("warm pool %s: %s", name, trouble or "it can be built again")
        try:
            self.books.commit(POOLS.put(name, replace(loaded.value, trouble=trouble), loaded.version), fence=fence)
        except VersionConflict:
            log.debug("warm pool %s changed meanwhile; it is looked at again", name)

    def _plan(self, pool: Pool, made_of: str, stock: Sequence[Environment], handed_out: int) -> pools.Plan:
        now = self.clock.now()
        return pools.plan(
            pool, made_of, stock, handed_out, self._failures(pool, made_of, now), self.out_of_service(stock), now
        )

    def _failures(self, pool: Pool, made_of: str, now: float) -> list[float]:
        """Moments at which builds of what is offered now failed."""
        found = self.books.environments.in_index(pool_index("failed", pool.name), limit=FAILURES, newest_first=True)
        same = [one.value for one in found if one.value.warm is not None and one.value.warm.made_of == made_of]
        return [one.state_since for one in same if now - one.state_since < FAILURE_S]

    def out_of_service(self, environments: Sequence[Environment]) -> Mapping[str, str]:
        """Of the machines on which these stand those that are not in service, and what they are."""
        places = {machine_id(one.provider, node.machine) for one in environments for node in one.nodes if node.machine}
        machines = [loaded.value.machine for loaded in self.books.machines.many(sorted(places))] if places else []
        return {one.name: str(one.state) for one in machines if one.state is not MachineState.IN_SERVICE}

    def _ask(self, pool: Pool, offer: Offer, count: int, fence: Fence | None) -> None:
        now = self.clock.now()
        asked = [
            pools.stocked(self.ids.new("env"), pool, offer.blueprint, offer.provider, offer.made_of, now)
            for _ in range(count)
        ]
        puts = [self.books.environments.kind.put(one.id, one, 0) for one in asked]
        told = [event for one in asked for event in events.of_environment(None, one, now)]
        self.books.commit(*puts, events=told, jobs=[jobs.ADMIT], fence=fence)

    # Asked whether they are well

    def checks(self) -> list[JobRequest]:
        """Looks that are due, one a pool."""
        due = self.books.environments.due(UNCHECKED, self.clock.now())
        names = sorted({one.value.warm.pool for one in due if one.value.warm is not None})
        return [jobs.check_pool(name) for name in names]

    def check(self, name: str) -> None:
        """Ask the nodes of a pool's environments that are due; this opens the connections that are kept."""
        due = self.books.environments.due(UNCHECKED, self.clock.now())
        mine = [one for one in due if one.value.warm is not None and one.value.warm.pool == name]
        with ThreadPoolExecutor(AT_ONCE) as crew:
            for loaded, fault in zip(mine, crew.map(self._fault, (one.value for one in mine)), strict=True):
                self._note(loaded, fault)

    def _fault(self, environment: Environment) -> str:
        try:
            self.keys.answer(environment)
        except InfraError as error:
            return str(error)
        return ""

    def _note(self, loaded: Loaded[Environment], fault: str) -> None:
        """One that was claimed meanwhile is not ours to judge any more."""
        now, environment = self.clock.now(), loaded.value
        noted = pools.checked_ill(environment, fault, now) if fault else pools.checked_well(environment, now)
        told = [Event(environment.id, "environment.silent", now, {"fault": fault})] if fault else []
        try:
            self.books.commit(self.books.environments.kind.put(noted.id, noted, loaded.version), events=told)
        except VersionConflict:
            log.debug("environment %s changed meanwhile; its nodes are asked again", noted.id)
