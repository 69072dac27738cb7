"""The scheduler's kept picture: a fleet for every provider, changed by what came and went since the last look."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from pipeline.domain import admission, preemption
from pipeline.domain.admission import Use
from pipeline.domain.durations import passed
from pipeline.domain.environments import BUILD_STATES, Environment, Nomination
from pipeline.domain.placement.fleet import Fleet
from pipeline.domain.placement.requests import NOMINATED, build_ended_at, nominated_of, standing_of
from pipeline.domain.preemption import Candidate
from pipeline.envs.books import PAGE, POOLED, Books, Loaded
from pipeline.envs.inventories import Inventories

#: Seconds between two looks at what was measured.
LOADS_S = 2.0
#: Stands for what is not there.
NOBODYS = ("", Use())


@dataclass
class Picture:
    """One provider's fleet, and the versions it was made from.

    `freed` counts the changes that may have made room: what found no place before the last of them finds none now.
    `candidates` may be taken back, as they were when they were placed. `nominated` are requests that have places
    waiting for them, with their projects, and `promised` those of the last look. What is `leaving` was told to go.
    `nodes` counts those that stand at the provider, or have a place that waits for them. `resized` are the versions of
    environments that got or gave nodes since they were placed.
    """

    fleet: Fleet
    inventory_version: int
    known: dict[str, tuple[str, Use]] = field(default_factory=dict)
    candidates: dict[str, Candidate] = field(default_factory=dict)
    nominated: dict[str, tuple[str, Use]] = field(default_factory=dict)
    promised: set[str] = field(default_factory=set)
    leaving: set[str] = field(default_factory=set)
    building: set[str] = field(default_factory=set)
    freed: int = 0
    loads_at: float = -LOADS_S
    nodes: int = 0
    resized: dict[str, int] = field(default_factory=dict)

    def add(self, environment: Environment) -> None:
        self.known[environment.id] = (environment.project, admission.use_of(environment))
        self.nodes += len(environment.nodes)
        self.fleet.add(standing_of(environment))
        if environment.state in BUILD_STATES:
            self.building.add(environment.id)
        may_go = preemption.candidate(environment)
        if may_go is not None:
            self.candidates[environment.id] = may_go

    def remove(self, environment_id: str) -> None:
        self.nodes -= self.known.pop(environment_id, NOBODYS)[1].nodes
        self.building.discard(environment_id)
        self.candidates.pop(environment_id, None)
        self.leaving.discard(environment_id)
        self.fleet.remove(environment_id)
        self.freed += 1

    def nominate(self, environment: Environment) -> None:
        """Keep the places that a request will have once its victims are gone."""
        if environment.nomination is not None and environment.id not in self.nominated:
            self.nominated[environment.id] = (environment.project, admission.use_of(environment))
            self.nodes += len(environment.nodes)
            self.fleet.add(nominated_of(environment))

    def step_aside(self, environment_id: str) -> None:
        """Keep them no more: the request has them, tries anew, or is gone."""
        if environment_id in self.nominated:
            self.nodes -= self.nominated.pop(environment_id)[1].nodes
            self.fleet.remove(NOMINATED + environment_id)

    def takes(self, nomination: Nomination) -> bool:
        """Whether all places of a nomination are on machines that take nodes."""
        rows = [self.fleet.row.get(machine) for machine in nomination.machines.values()]
        return all(row is not None and self.fleet.in_service[row] for row in rows)


class Fleets:
    """Keeps the pictures; one scheduler uses it."""

    def __init__(self, books: Books, inventories: Inventories) -> None:
        self._books = books
        self._inventories = inventories
        self._pictures: dict[str, Picture] = {}

    def current(self, provider: str, now: float) -> Picture:
        """The picture of a provider, brought up to date."""
        version = self._inventories.version(provider)
        picture = self._pictures.get(provider)
        if picture is None:
            picture = self._pictures[provider] = Picture(Fleet(self._inventories.view(provider).inventory), version)
        elif picture.inventory_version != version:
            view = self._inventories.view(provider)
            picture.fleet.replace_inventory(view.inventory)
            picture.inventory_version = view.version
            picture.freed += 1
        self._follow(provider, picture)
        picture.leaving = picture.known.keys() & set(self._books.environments.ids("environments:noticed"))
        self._measure(provider, picture, now)
        return picture

    def kept(self, provider: str) -> Picture:
        """The picture as it was when it was last brought up to date."""
        return self._pictures[provider]

    def keep_nominations(self, nominated: Iterable[Loaded[Environment]]) -> None:
        """Places that these requests wait for count as taken; those of others do not any more."""
        waiting = {loaded.value.id: loaded.value for loaded in nominated}
        for name, picture in self._pictures.items():
            here = {id: one for id, one in waiting.items() if one.provider == name}
            picture.freed += len(picture.promised - here.keys())
            picture.promised = set(here)
            for gone in picture.nominated.keys() - here.keys():
                picture.step_aside(gone)
            for environment in here.values():
                picture.nominate(environment)

    def _follow(self, provider: str, picture: Picture) -> None:
        standing = set(self._books.environments.ids(f"environments:standing:{provider}"))
        for gone in [id for id in picture.known if id not in standing]:
            picture.remove(gone)
        new = sorted(standing.difference(picture.known))
        for at in range(0, len(new), PAGE):
            for loaded in self._books.environments.many(new[at : at + PAGE]):
                picture.add(loaded.value)
        self._resize(provider, picture)
        self._claimed(picture)
        building = set(self._books.environments.ids(f"environments:building:{provider}"))
        self._settle(picture, sorted(picture.building - building))

    def _resize(self, provider: str, picture: Picture) -> None:
        """Count those anew whose nodes are others than when they were placed."""
        ids = list(self._books.environments.ids(f"environments:resized:{provider}"))
        versions = self._books.environments.versions(ids) if ids else {}
        changed = [id for id, version in versions.items() if picture.resized.get(id) != version]
        for loaded in self._books.environments.many(changed) if changed else ():
            picture.remove(loaded.value.id)
            picture.add(loaded.value)
        picture.resized = dict(versions)

    def _claimed(self, picture: Picture) -> None:
        """What a warm pool gave away meanwhile is somebody's now."""
        idle = [id for id, one in picture.candidates.items() if one.idle]
        kept = set(self._books.environments.ids(POOLED)) if idle else set()
        for loaded in self._books.environments.many([id for id in idle if id not in kept]) if idle else ():
            picture.candidates.pop(loaded.value.id)
            may_go = preemption.candidate(loaded.value)
            if may_go is not None:
                picture.candidates[loaded.value.id] = may_go

    def _settle(self, picture: Picture, built: list[str]) -> None:
        """Note when builds were over: much may have been measured since then, when nobody asked for a place."""
        for at in range(0, len(built), PAGE):
            for loaded in self._books.environments.many(built[at : at + PAGE]):
                picture.fleet.built(loaded.value.id, build_ended_at(loaded.value))
                picture.freed += 1
        picture.building.difference_update(built)

    def _measure(self, provider: str, picture: Picture, now: float) -> None:
        if picture.fleet.inventory.limits is None or not passed(picture.loads_at, now, LOADS_S):
            return
        picture.loads_at = now
        loads = self._inventories.loads(provider)
        if loads != picture.fleet.loads:
            picture.fleet.set_loads(loads)
            picture.freed += 1

    def idle(self, project: str) -> dict[str, Use]:
        """What warm pools keep of a project's quota, by environment."""
        pictures = self._pictures.values()
        found = [(picture, id) for picture in pictures for id, one in picture.candidates.items() if one.idle]
        return {id: picture.known[id][1] for picture, id in found if picture.known[id][0] == project}

    def standing(self, ids: Iterable[str]) -> dict[str, Use]:
        """Those of these that still count, and what they take."""
        pictures = self._pictures.values()
        return {id: picture.known[id][1] for picture in pictures for id in ids if id in picture.known}

    def uses(self) -> dict[str, Use]:
        """What each project has at all providers that were looked at, places that wait for it included."""
        uses: dict[str, Use] = defaultdict(Use)
        for picture in self._pictures.values():
            for project, use in (*picture.known.values(), *picture.nominated.values()):
                uses[project] = uses[project].plus(use)
        return uses
