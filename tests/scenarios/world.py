"""A whole deployment in one process: every port is its in-memory twin, time stands still until it is told to move."""

from __future__ import annotations

import json
import logging
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

from pipeline.adapters.blueprints.yaml12 import YamlBlueprintReader
from pipeline.adapters.clock import CountingIds, ManualClock
from pipeline.adapters.configurators.memory import MemoryConfigurator
from pipeline.adapters.drivers.memory import MemoryCloud, MemoryDriver
from pipeline.adapters.drivers.static.beside import BesideDriver
from pipeline.adapters.drivers.static.driver import StaticDriver
from pipeline.adapters.drivers.static.memory import MemoryHands, MemoryMachines
from pipeline.adapters.keys import SshKeys
from pipeline.adapters.logs.memory import MemoryLogStore
from pipeline.adapters.queues.memory import MemoryJobQueue
from pipeline.adapters.reports.junit import JUnitReader
from pipeline.adapters.repositories.memory import MemoryRepositories
from pipeline.adapters.routers.memory import MemoryRouter
from pipeline.adapters.stores.memory import MemoryStore
from pipeline.adapters.transports.memory import Call, MemoryTransport
from pipeline.adapters.verifiers.commands import CommandVerifier
from pipeline.adapters.workspaces import DirectoryWorkspaces
from pipeline.domain.environments import Environment
from pipeline.domain.errors import (
    CapacityError,
    Fenced,
    GreenroomError,
    InfraError,
    NotFound,
    PermanentError,
    TransientError,
    UserError,
)
from pipeline.domain.intake import TriggerRecord
from pipeline.domain.inventory import Inventory, Machine, Zone
from pipeline.domain.milestones import Deadlines
from pipeline.domain.pulls import Said
from pipeline.domain.qos import PROFILES
from pipeline.domain.registered import Login, Registered, Use
from pipeline.domain.runs import Run, StageName
from pipeline.domain.traffic import Backend
from pipeline.domain.triggers import ZERO_SHA, Trigger, TriggerKind
from pipeline.envs import jobs
from pipeline.envs.books import REGISTERED, Books
from pipeline.envs.calls import CallLimits, WatchedDriver
from pipeline.envs.care import Care
from pipeline.envs.cloud_acts import CloudActs
from pipeline.envs.cloud_setups import CloudSetups, Usual
from pipeline.envs.doors import Doors
from pipeline.envs.gate import Budget, Gate
from pipeline.envs.inventories import Inventories
from pipeline.envs.leases import Leases
from pipeline.envs.leftovers import Leftovers
from pipeline.envs.lifecycle import Lifecycle
from pipeline.envs.login_keys import LoginKeys
from pipeline.envs.measuring import Measuring
from pipeline.envs.moving_off import MovingOff
from pipeline.envs.orders import Orders
from pipeline.envs.pools import Pools
from pipeline.envs.preemption import Preemptions
from pipeline.envs.providers import Provider
from pipeline.envs.qos_checks import QosChecks
from pipeline.envs.reaper import Reaper
from pipeline.envs.registry import Registry
from pipeline.envs.relief import Relief
from pipeline.envs.removals import Removals
from pipeline.envs.room import Room
from pipeline.envs.scheduler import Scheduler
from pipeline.envs.stocks import BookedStock
from pipeline.envs.surveys import Surveys
from pipeline.envs.suspects import Suspects
from pipeline.envs.templates import Templates
from pipeline.envs.watch import Watch
from pipeline.ports.common import Limits, Secret, Sink
from pipeline.ports.configurators import ConvergeRequest, ConvergeResult
from pipeline.ports.drivers import Driver, EnvironmentRequest
from pipeline.ports.forges import CommitStatus, Delivery, Received
from pipeline.ports.routers import Router
from pipeline.ports.stores import Commit, Document, Fence, JobRequest
from pipeline.ports.transports import Connection
from pipeline.ports.verifiers import VerifyRequest, VerifyResult
from pipeline.stages.acceptances import Acceptances
from pipeline.stages.commands import Commands
from pipeline.stages.context import Tools
from pipeline.stages.control import Control
from pipeline.stages.handouts import Handouts
from pipeline.stages.mornings import Mornings
from pipeline.stages.moving import Moving
from pipeline.stages.planner import Planner
from pipeline.stages.preempted import Preempted
from pipeline.stages.projects import Projects
from pipeline.stages.pulls import Pulls
from pipeline.stages.remarks import Remarks
from pipeline.stages.requests import Requests
from pipeline.stages.retention import Retention
from pipeline.stages.runner import BEAT_TTL_S, Runner
from pipeline.stages.scaling import Scale
from pipeline.stages.schedules import Schedules
from pipeline.stages.stagings import Stagings
from pipeline.stages.statuses import Statuses
from pipeline.stages.switching import Switching
from pipeline.stages.tick import Tick
from pipeline.stages.verdicts import Verdicts
from pipeline.stages.work import Work

log = logging.getLogger(__name__)
#: One for all worlds: it keeps nothing but its schema.
READER = YamlBlueprintReader()
#: Rounds of the tick until everything must have come to rest; more means that work makes work for ever.
ROUNDS = 500
KEEP_DAYS = 7.0
#: How long a tick holds its office, in seconds.
OFFICE_S = 5.0
ERRORS: Mapping[str, type[InfraError]] = {
    "transient": TransientError,
    "capacity": CapacityError,
    "permanent": PermanentError,
}


class WorkerKilled(BaseException):
    """What a scenario raises where a worker is to die: nothing after it is done or written."""


class Grave:
    """Where a scenario lets processes die: at the n-th write of a worker or a tick, or at a call of the driver.

    Who died writes and calls nothing more, not even from what he left to be done `finally`, until he is buried.
    """

    def __init__(self) -> None:
        self.where: str | None = None
        self.countdown = 0
        self.passed: list[str] = []
        self.looks = 0
        self._dead = False
        self._pause: tuple[int, Callable[[], None]] | None = None

    def dig(self, where: str, countdown: int = 1) -> None:
        """Kill at the `countdown`-th time that this place is passed."""
        self.where, self.countdown = where, countdown

    def counted(self) -> Iterator[tuple[str, int]]:
        """What workers and ticks passed, in order, each place with the how-manieth time it was."""
        seen: Counter[str] = Counter()
        for place in self.passed:
            seen[place] += 1
            if not place.startswith("world"):
                yield place, seen[place]

    @contextmanager
    def around(self, act: str) -> Iterator[None]:
        """The places just before and just after an act, where it does not fail."""
        self.pass_by(f"before {act}")
        yield
        self.pass_by(f"after {act}")

    def pass_by(self, where: str) -> None:
        if self._dead:
            raise WorkerKilled(where)
        self.passed.append(where)
        if where != self.where:
            return
        self.countdown -= 1
        if self.countdown == 0:
            self.where = None
            self.die(where)

    def pause(self, looks: int, meanwhile: Callable[[], None]) -> None:
        """Stop the tick for a while after it looked into the books so many times; it goes on with what it saw then."""
        self._pause = (looks, meanwhile)

    def look(self) -> None:
        """A tick looked into the books."""
        self.looks += 1
        if self._pause is not None and self._pause[0] == self.looks:
            (_, meanwhile), self._pause = self._pause, None
            meanwhile()

    @property
    def paused(self) -> bool:
        """Whether somebody was stopped, if anybody was to be."""
        return self._pause is None

    def die(self, where: str) -> NoReturn:
        """Let whoever is at work die."""
        self._dead = True
        raise WorkerKilled(where)

    def bury(self) -> None:
        """The process is gone; what follows is done by others."""
        self._dead = False


class MortalStore(MemoryStore):
    """A store whose writers may die just before or just after a write, and whose ticks may stop after every look.

    `most` is how many environments stood at the provider at most.
    """

    def __init__(self, clock: ManualClock, grave: Grave) -> None:
        super().__init__(clock)
        self.writer = "world"
        self.most = 0
        self._grave = grave

    def commit(self, commit: Commit) -> None:
        writer = self.writer
        self._grave.pass_by(f"{writer} before write")
        self.writer = "store"  # nobody stops in the middle of a commit
        try:
            super().commit(commit)
        finally:
            self.writer = writer
        self.most = max(self.most, self.count("environments:standing:cloud"))
        self._grave.pass_by(f"{writer} after write")

    def get(self, kind: str, id: str) -> Document | None:
        found = super().get(kind, id)
        self._looked()
        return found

    def index(self, name: str, *, limit: int = 1000, offset: int = 0, newest_first: bool = False) -> Sequence[str]:
        found = super().index(name, limit=limit, offset=offset, newest_first=newest_first)
        self._looked()
        return found

    def index_upto(self, name: str, score: float, *, limit: int = 1000) -> Sequence[str]:
        found = super().index_upto(name, score, limit=limit)
        self._looked()
        return found

    def _looked(self) -> None:
        if self.writer == "tick":
            self._grave.look()

    def wait(self, timeout_s: float) -> None:
        """Return at once: time moves only when a scenario says so."""

    def drop(self, count: int, fence: Fence) -> None:
        self._grave.pass_by("tick before drop")
        super().drop(count, fence)


class MortalDriver(MemoryDriver):
    """A driver whose callers may die just before or just after a call."""

    grave: Grave

    def create(self, request: EnvironmentRequest) -> None:
        with self.grave.around("create"):
            super().create(request)

    def destroy(self, environment_id: str, nodes: Sequence[str] | None = None) -> None:
        with self.grave.around("destroy"):
            super().destroy(environment_id, nodes)

    def mark_end(self, environment_id: str, ends_at: float) -> None:
        with self.grave.around("mark"):
            super().mark_end(environment_id, ends_at)


class MortalMetal(StaticDriver):
    """The same on registered machines."""

    grave: Grave

    def create(self, request: EnvironmentRequest) -> None:
        with self.grave.around("create"):
            super().create(request)

    def destroy(self, environment_id: str, nodes: Sequence[str] | None = None) -> None:
        with self.grave.around("destroy"):
            super().destroy(environment_id, nodes)


class MortalHands(MemoryHands):
    """Hands whose owner may die just before or just after he reached for a machine."""

    def __init__(self, machines: MemoryMachines, deployment: str, grave: Grave) -> None:
        super().__init__(machines, deployment)
        self._grave = grave

    def hand_over(self, machine: Registered, keys: Sequence[str]) -> None:
        with self._grave.around("hand_over"):
            super().hand_over(machine, keys)

    def take_back(self, machine: Registered) -> None:
        with self._grave.around("take_back"):
            super().take_back(machine)

    def reset(self, machine: Registered) -> None:
        with self._grave.around("reset"):
            super().reset(machine)


class MortalRouter(MemoryRouter):
    """A router whose callers may die just before or just after they told it something."""

    grave: Grave

    def register(self, backend: Backend) -> None:
        with self.grave.around("register"):
            super().register(backend)

    def forget(self, environment: str) -> None:
        with self.grave.around("forget"):
            super().forget(environment)

    def switch(self, host: str, environment: str) -> None:
        with self.grave.around("switch"):
            super().switch(host, environment)

    def unroute(self, host: str) -> None:
        with self.grave.around("unroute"):
            super().unroute(host)

    def cut(self, environment: str) -> None:
        with self.grave.around("cut"):
            super().cut(environment)


class Converger(MemoryConfigurator):
    """A configurator that also raises what it was told to, once each."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.once: list[BaseException] = []

    def converge(
        self, connection: Connection, request: ConvergeRequest, *, limits: Limits, output: Sink
    ) -> ConvergeResult:
        if self.once:
            raise self.once.pop(0)
        return super().converge(connection, request, limits=limits, output=output)


class ClearSecrets:
    """`Secrets` that only wrap; what is sealed is still told from what is not."""

    def seal(self, secret: Secret) -> str:
        return f"sealed:{secret.reveal()}"

    def open(self, sealed: str) -> Secret:
        if not sealed.startswith("sealed:"):
            raise PermanentError("this was never sealed")
        return Secret(sealed.removeprefix("sealed:"))


@dataclass
class RecordingForge:
    """A forge that takes statuses, and refuses as often as it was told to."""

    name: str = "github"
    reported: list[CommitStatus] = field(default_factory=list)
    refusals: list[InfraError] = field(default_factory=list)
    comments: dict[str, list[str]] = field(default_factory=dict)
    deaf: list[BaseException] = field(default_factory=list)

    def recognises(self, delivery: Delivery) -> bool:
        raise AssertionError("scenarios begin with a trigger")

    def receive(self, delivery: Delivery, secret: Secret) -> Received:
        raise AssertionError("scenarios begin with a trigger")

    def report(self, status: CommitStatus, api_url: str, token: Secret) -> None:
        if self.refusals:
            raise self.refusals.pop(0)
        self.reported.append(status)

    def comment(self, said: Said, api_url: str, token: Secret) -> str:
        """`comments` are the texts that each had, in order; `deaf` is raised after a comment was taken."""
        if self.refusals:
            raise self.refusals.pop(0)
        marked = (id for id, texts in self.comments.items() if said.marked in texts[-1])
        id = said.id or next(marked, "") or f"comment-{len(self.comments) + 1}"
        self.comments.setdefault(id, []).append(said.body)
        if self.deaf:
            raise self.deaf.pop(0)
        return id


@dataclass
class PeopleTwin:
    """Forges with users, each with the text of their keys by `<forge>/<user>`."""

    keys: dict[str, str] = field(default_factory=dict)

    def of(self, forge: str, user: str) -> str:
        if f"{forge}/{user}" not in self.keys:
            raise NotFound(f"{forge}/{user}.keys: there is no such user")
        return self.keys[f"{forge}/{user}"]


@dataclass
class SuiteTwin:
    """A testinfra verifier that answers as it was told, by the suite's path."""

    answers: dict[str, VerifyResult] = field(default_factory=dict)

    def verify(self, request: VerifyRequest, connection: Connection, *, limits: Limits, output: Sink) -> VerifyResult:
        path = getattr(request.spec, "path", "")
        if path not in self.answers:
            raise AssertionError(f"the suite {path!r} was not told what to answer")
        output(f"suite {path}\n".encode())
        return self.answers[path]


def _racks(machines: int) -> Inventory:
    """So many machines `m1`, `m2`… for one small node each, in turn in `rack-a` and `rack-b`."""
    racks = ("rack-a", "rack-b")
    capacity = {"vcpu": 1.0}
    made = tuple(Machine(f"m{number}", racks[(number - 1) % 2], capacity) for number in range(1, machines + 1))
    return Inventory(made, tuple(Zone(rack) for rack in racks))


def repository_of(project: str) -> str:
    return f"https://forge.test/{project}.git"


class World:
    """One deployment with one provider, `cloud`, and the projects that scenarios add."""

    def __init__(
        self,
        scratch: str,
        *,
        max_nodes: int = 20,
        machines: int = 0,
        max_builds: int | None = None,
        max_deletes: int | None = None,
        calls_per_s: float | None = None,
        registered: int = 0,
        front: Router | None = None,
        metal: str = "203.0.113",
    ) -> None:
        self.metal = metal
        self.clock = ManualClock()
        self.ids = CountingIds()
        self.grave = Grave()
        self.store = MortalStore(self.clock, self.grave)
        self.books = Books(self.store)
        self.cloud = MemoryCloud(machine_of=self._machine_of)
        self.queue = MemoryJobQueue()
        self.transport = MemoryTransport(self.clock, [self._run_programmed])
        self.repositories = MemoryRepositories()
        self.logs = MemoryLogStore()
        self.forge = RecordingForge()
        self.people = PeopleTwin()
        self.suites = SuiteTwin()
        self.chef = Converger("chef")
        self.script = Converger("script")
        self.secrets = ClearSecrets()
        self.commands: list[tuple[re.Pattern[str], Callable[[Call], int | None]]] = []
        self.login_keys: dict[tuple[str, str], str] = {}
        self.broken: list[GreenroomError] = []
        self.budgets = {"cloud": Budget()}
        self.router = MortalRouter("front")
        self.router.grave = self.grave
        self.front = front or self.router
        self.gate = Gate(self.books, self.clock, self.budgets, (self.front,))
        self.inventories = Inventories(self.books, self.clock, self.gate)
        self.machines = MemoryMachines()
        self.hands = MortalHands(self.machines, "world", self.grave)
        self._alone = not machines
        driver = self._driver(cloud=bool(machines) or not registered, metal=bool(registered))
        call_limits = CallLimits(max_deletes, calls_per_s)
        self.provider = Provider(
            "cloud",
            WatchedDriver("cloud", driver, self.books, self.clock, call_limits),
            self.transport,
            max_nodes=max_nodes,
            deadlines=Deadlines(120.0),
            max_builds=max_builds,
            visit_s=15.0 if registered else None,
        )
        self.removals = Removals(self.books, self.gate, self.clock)
        self.tools = self._tools(scratch)
        if machines:
            self.inventories.sync("cloud", _racks(machines))
        if registered:
            self._register(registered)
        self.reaper = Reaper(self.books, self._provider, self.clock, self.gate, self.removals)
        self.control = Control(self.tools, self.reaper)
        self.projects = Projects(self.books, self.secrets, self.clock, self.ids, self.gate, ("cloud",))
        self.templates = Templates(self.books, READER, self.gate, self.clock)
        self.leases = Leases(self.books, self.secrets, self.clock)
        keys = LoginKeys(self._provider, self.secrets)
        self.pools = Pools(self.books, self.templates, self._provider, "cloud", keys, self.gate, self.clock, self.ids)
        self.handouts = Handouts(self.tools, self.pools, keys, self.control)
        self.requests = Requests(
            self.tools, self.templates, self.control, self.reaper, SshKeys(), self.people, self.handouts, ("cloud",)
        )
        self.acceptances = Acceptances(self.tools, self.inventories, self.templates, PROFILES)
        self.schedules = Schedules(self.books, self.gate, self.clock, self.ids)
        self.mornings = Mornings(self.books, self.clock)
        self.room = Room(self.books, self._provider, self.inventories, self.clock)
        self.scale = Scale(self.tools, self.inventories, self.room, ("cloud",))
        self.moving = Moving(self.scale)
        self.stagings = Stagings(self.tools, self.templates, self.gate, self.front, "test.example")
        self.pulls = Pulls(self.tools, self.requests, self.front, "test.example")
        self.switching = Switching(self.stagings, self.requests, Commands(self.tools))
        self.registry = Registry(
            self.books, self._stock, self.hands, self.inventories, self.gate, "world", self.clock, ("cloud",)
        )
        self.leftovers = Leftovers(self.books, self._provider, self.clock, "world")
        self.cloud_acts = self._cloud_acts()
        self.work = self._work()
        self.fence = self._lead()
        self.tick = self._tick()

    def _driver(self, *, cloud: bool, metal: bool) -> Driver:
        """A cloud, registered machines, or the one beside the other."""
        if not metal:
            return self._cloud_driver()
        return BesideDriver(self._cloud_driver(), self._metal_driver()) if cloud else self._metal_driver()

    def _cloud_driver(self) -> Driver:
        driver = MortalDriver(self.cloud, "world", images=("debian-12", "debian-13"), login=True)
        driver.grave = self.grave
        return driver

    def _metal_driver(self) -> StaticDriver:
        """Registered machines at the provider `cloud`."""
        driver = MortalMetal("world", self._stock("cloud"), self.hands)
        driver.grave = self.grave
        return driver

    def _register(self, count: int) -> None:
        """So many free machines, `m1`, `m2`… or `b1`, `b2`… beside a cloud's, in turn in `rack-a` and `rack-b`."""
        images, login = frozenset({"debian-12"}), Login("", "ssh-ed25519 AAAA")
        for number in range(1, count + 1):
            at, zone = replace(login, address=f"{self.metal}.{number}"), ("rack-a", "rack-b")[(number - 1) % 2]
            one = Registered(
                "cloud",
                f"{'m' if self._alone else 'b'}{number}",
                at,
                zone,
                "reset",
                images=images,
                use=Use.FREE,
                reset_s=30.0,
            )
            self.books.commit(REGISTERED.put(one.id, one, 0))
        self._stock("cloud").take_over()

    def _stock(self, provider: str) -> BookedStock:
        return BookedStock(provider, self.books, self.inventories, self.clock, self._alone)

    def _provider(self, name: str) -> Provider:
        if name != "cloud":
            raise UserError(f"there is no provider {name!r} in the settings; there are: cloud")
        return self.provider

    def _tools(self, scratch: str) -> Tools:
        return Tools(
            books=self.books,
            providers=self._provider,
            removals=self.removals,
            repositories=self.repositories,
            configurator=lambda name: {"chef": self.chef, "script": self.script}[name],
            testinfra=self.suites,
            commands=CommandVerifier(JUnitReader()),
            reports=JUnitReader(),
            logs=self.logs,
            workspaces=DirectoryWorkspaces(scratch),
            secrets=self.secrets,
            clock=self.clock,
            ids=self.ids,
        )

    def _cloud_acts(self) -> CloudActs:
        return CloudActs(
            self.books,
            self._provider,
            self.inventories,
            self.leftovers,
            self.removals,
            MovingOff(self.books, self.inventories, self.gate, self.clock, "world"),
            self.gate,
            self.clock,
            self.ids,
        )

    def _work(self) -> Work:
        suspects = Suspects(self.books, self.inventories, self.clock)
        orders = Orders(self.secrets, SshKeys(), "world")
        lifecycle = Lifecycle(
            self.books, self._provider, self.removals, suspects, self.room, orders, self.clock, self.ids
        )
        planner = Planner(self.tools, READER, "cloud")
        statuses = Statuses(
            self.books, {"github": self.forge}, self.secrets, self.clock, self.ids, "http://greenroom.test"
        )
        runner = Runner(self.tools, self._pulse)
        return Work(
            self.books,
            planner,
            runner,
            lifecycle,
            self.reaper,
            statuses,
            self._retention(),
            self._qos_checks(),
            Measuring(self._provider, self.inventories),
            Surveys(self.books, self._provider, self.inventories, self.clock, "world", lambda _: None),
            self.leftovers,
            Commands(self.tools),
            self.cloud_acts,
            CloudSetups(
                self.books,
                self._provider,
                lambda _: Usual("net"),
                self.secrets,
                self.gate,
                self.clock,
                self.ids,
                "world",
            ),
            Watch(self.books, self._provider, self.clock),
            self.switching,
            Care(self.books, self._stock, self.hands, "world", self.clock),
            self.pools,
            self.handouts,
            self.pulls,
            Remarks(self.books, {"github": self.forge}, self.secrets, self.clock, self.ids, "http://{}".format),
        )

    def _qos_checks(self) -> QosChecks:
        return QosChecks(self.books, self._provider, self.secrets, self.clock, self.ids)

    def _retention(self) -> Retention:
        return Retention(self.books, self.logs, self.tools.workspaces, self.clock, KEEP_DAYS)

    @contextmanager
    def _pulse(self, _run_id: str, _stage: StageName, token: str) -> Iterator[None]:
        """The worker gives signs of life as long as it lives, however far time moves."""
        self.store.beat(token, 1e9)
        try:
            yield
        finally:
            self.store.beat(token, BEAT_TTL_S)

    def _lead(self) -> Fence:
        fence = self.store.acquire("tick", "world", OFFICE_S)
        assert fence is not None
        return fence

    def _tick(self) -> Tick:
        return Tick(
            tools=self.tools,
            scheduler=Scheduler(
                self.books, self._provider, self.inventories, Preemptions(self.books, self.gate), self.clock
            ),
            inventories=self.inventories,
            relief=Relief(self.books, self.inventories, self.gate, self.clock),
            reaper=self.reaper,
            control=self.control,
            preempted=Preempted(self.tools),
            verdicts=Verdicts(self.books, self.inventories, self.clock),
            cloud_acts=self.cloud_acts,
            schedules=self.schedules,
            scale=self.scale,
            queue=self.queue,
            outbox=self.store,
            provider_names=("cloud",),
            switching=self.switching,
            doors=Doors(self.books, self.front, "test.example"),
            pools=self.pools,
            handouts=self.handouts,
            pulls=Pulls(self.tools, self.requests, self.front, "test.example"),
        )

    def _machine_of(self, environment_id: str, node: str) -> str:
        known = self.books.environments.find(environment_id)
        machines = {one.name: one.machine for one in known.value.nodes} if known else {}
        return machines.get(node, "")

    # What scenarios do

    def project(self, name: str, max_runs: int = 20, repository: str = "") -> None:
        ours = repository or f"https://forge.test/{name}.git"
        self.projects.add(name, forge_token=Secret("forge-token"), repository=ours, api_url="https://api.forge.test")
        loaded = self.books.projects.get(name)
        limited = replace(loaded.value, max_runs=max_runs)
        self.books.commit(self.books.projects.kind.put(name, limited, loaded.version))

    def push(
        self,
        project: str,
        blueprint: Any,
        *,
        branch: str = "main",
        message: str = "change",
        files: Mapping[str, str] | None = None,
    ) -> str:
        """Commit a blueprint (text, a mapping, or None for none) to a project's repository; the trigger's id."""
        url = repository_of(project)
        content = {name: body.encode() for name, body in (files or {}).items()}
        if blueprint is not None:
            text = blueprint if isinstance(blueprint, str) else json.dumps(blueprint)
            content["greenroom.yml"] = text.encode()
        sha = self.repositories.commit(url, branch, content)
        trigger = Trigger(
            TriggerKind.PUSH, "github", url, sha, slug=project, branch=branch, base=ZERO_SHA, message=message
        )
        return self.trigger(project, trigger)

    def trigger(self, project: str, trigger: Trigger) -> str:
        now = self.clock.now()
        record = TriggerRecord(self.ids.new("trg"), project, trigger, "delivery", received_at=now, due_at=now + 5)
        put = self.books.triggers.kind.put(record.id, record, 0)
        self.books.commit(put, jobs=[jobs.plan(record.id, 0)])
        return record.id

    def program(self, pattern: str, answer: Callable[[Call], int | None]) -> None:
        """Let nodes answer commands that the pattern is found in; None passes the call on."""
        self.commands.append((re.compile(pattern, re.DOTALL), answer))

    def settle(self) -> None:
        """Let the tick and the workers do all that there is to do now."""
        for _ in range(ROUNDS):
            self._step()
            if not self._do_jobs() and not self.store.peek(1):
                return
        raise AssertionError(f"not at rest after {ROUNDS} rounds; waiting: {self.queue.jobs}")

    def _step(self) -> None:
        self.store.writer = "tick"
        try:
            self.tick.step(self.fence)
        except WorkerKilled:
            self.grave.bury()
            self.take_over()
        except Fenced as fenced:
            log.info("a tick goes: %s", fenced)
        finally:
            self.store.writer = "world"
        if not self.store.renew(self.fence, "world", OFFICE_S):
            self.fence = self._lead()

    def take_over(self) -> None:
        """The tick is not heard of any more; another one begins, and knows nothing but the books."""
        self.clock.sleep(OFFICE_S)
        self.fence, self.tick = self._lead(), self._tick()

    def advance(self, seconds: float) -> None:
        """Let time pass, with everything that falls due in it."""
        end = self.clock.now() + seconds
        while self.clock.now() < end:
            self.clock.sleep(min(1.0, end - self.clock.now()))
            self.settle()

    def _do_jobs(self) -> bool:
        """Do all waiting jobs; whether there was one."""
        any_done = False
        while (job := self.queue.take()) is not None:
            any_done = True
            self._do(job)
        return any_done

    def _do(self, job: JobRequest) -> None:
        """As a worker of RQ: a job that breaks is written down, and the next one is taken."""
        self.store.writer = "worker"
        try:
            getattr(self.work, job.task)(*job.args)
        except WorkerKilled:
            self.grave.bury()
            log.info("the worker of %s died", job.id)
        except GreenroomError as error:
            self.broken.append(error)
        finally:
            self.store.writer = "world"

    def _run_programmed(self, call: Call) -> int | None:
        for pattern, answer in self.commands:
            if pattern.search(call.command) and (status := answer(call)) is not None:
                return status
        if "authorized_keys" in call.command:
            return self._set_keys(call)
        return 0 if "current.new" in call.command else None

    def _set_keys(self, call: Call) -> int:
        """As a node does that takes the keys of whoever an environment was handed out to."""
        self.login_keys[call.environment_id, call.node] = call.stdin.decode()
        call.output(f"{call.node}\n".encode() + call.stdin)
        return 0

    # What scenarios look at

    def all_runs(self) -> list[Run]:
        return [loaded.value for loaded in self.books.runs.in_index("runs")]

    def all_environments(self) -> list[Environment]:
        return [loaded.value for loaded in self.books.environments.in_index("environments")]

    def let_beats_lapse(self) -> None:
        self.clock.sleep(BEAT_TTL_S + 0.1)
