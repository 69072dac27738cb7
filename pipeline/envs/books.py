"""The aggregates as documents: how each is written, in which index sets it stands, and what its changes are called."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any, Generic, TypeVar

from pydantic import TypeAdapter, ValidationError

from pipeline.domain.acceptances import Acceptance
from pipeline.domain.admission import RANK
from pipeline.domain.breakers import Breaker
from pipeline.domain.cloud_acts import CloudAct
from pipeline.domain.cloud_setups import CloudSetup
from pipeline.domain.drift import Row
from pipeline.domain.environments import (
    BUILD_STATES,
    LEAVING_STATES,
    MOVING_STATES,
    QUOTA_STATES,
    TIMED_STATES,
    Environment,
    EnvironmentState,
)
from pipeline.domain.errors import NotFound, PermanentError, VersionConflict
from pipeline.domain.intake import TriggerRecord, TriggerState
from pipeline.domain.inventory import Inventory, Load, Machine
from pipeline.domain.leases import LIVING, warning_due
from pipeline.domain.leftovers import Leftover
from pipeline.domain.limits import Bucket, Slots
from pipeline.domain.pools import Pool, is_unconfirmed
from pipeline.domain.projects import Project
from pipeline.domain.promises import Measured
from pipeline.domain.pulls import Pull
from pipeline.domain.registered import Registered, Use
from pipeline.domain.reports import TestReport
from pipeline.domain.resizing import is_scaled, is_watched, replaced_at
from pipeline.domain.runs import ACTIVE_STATES, Run, RunState
from pipeline.domain.schedules import Schedule
from pipeline.domain.stagings import Staging, due_at
from pipeline.domain.suspicion import History
from pipeline.domain.warm import CLAIM_S
from pipeline.ports.stores import Body, Commit, Delete, Document, Event, Fence, JobRequest, Put, Store

log = logging.getLogger(__name__)
T = TypeVar("T")
#: Documents that are read in one go.
PAGE = 1000
#: Documents of a kind that need not be understood again while their text is the same; a few KiB each.
KEPT = 256
#: Version of every document's schema; a reader refuses a newer one.
SCHEMA = 1
#: How often a use case decides again when somebody else wrote first.
TRIES = 20
#: The poller leaves an environment alone for so long after a change, since that change has a job of its own.
POLL_GRACE_S = 1.0
#: One rank's span in the score of the pending index, wider than any time in seconds.
RANK_SPAN = 1e11


@dataclass(frozen=True)
class Loaded(Generic[T]):
    """An aggregate and the version that was read."""

    value: T
    version: int


class Kind(Generic[T]):
    """How one kind of aggregate is written and found. `lists` is the command that shows all of it to people."""

    def __init__(self, name: str, type_: type[T], indexes: Callable[[T], Mapping[str, float]], lists: str = "") -> None:
        self.name = name
        self.lists = lists
        self._type = type_
        self._indexes = indexes
        self._understood = lru_cache(KEPT)(self._understand)

    @cached_property
    def _adapter(self) -> TypeAdapter[T]:
        return TypeAdapter(self._type)

    def warm_up(self) -> None:
        """Build the validator now; it costs tens of milliseconds, which no fork should pay again."""
        _ = self._adapter

    def body(self, value: T) -> Body:
        dumped: dict[str, Any] = self._adapter.dump_python(value, mode="json")
        return {"schema": SCHEMA, **dumped}

    def value(self, document: Document) -> T:
        """PermanentError names a document that cannot be understood."""
        return self._understood(document.id, document.text)

    def _understand(self, id: str, text: str) -> T:
        fields: dict[str, Any] = json.loads(text)
        if fields.pop("schema", 0) > SCHEMA:
            raise PermanentError(f"{self.name} {id} was written by a newer Greenroom; upgrade this one")
        try:
            return self._adapter.validate_python(fields)
        except ValidationError as error:
            wrong = ", ".join(".".join(map(str, each["loc"])) for each in error.errors()[:3])
            raise PermanentError(f"{self.name} {id} in the store cannot be read: {wrong}") from error

    def put(
        self,
        id: str,
        value: T,
        version: int,
        indexes: Mapping[str, float] | None = None,
        *,
        ttl_s: int | None = None,
    ) -> Put:
        """A write of it; `indexes` replaces those that its state asks for. `ttl_s`: forgotten after so many seconds."""
        named = self._indexes(value) if indexes is None else indexes
        return Put(self.name, id, version, self.body(value), named, ttl_s)


def lane_index(lane: str) -> str:
    return "runs:lane:" + hashlib.sha256(lane.encode()).hexdigest()[:24]


def _run_indexes(run: Run) -> Mapping[str, float]:
    indexes = {"runs": run.created_at, f"runs:project:{run.project}": run.created_at}
    if run.state is RunState.PENDING:
        indexes["runs:pending"] = RANK[run.priority] * RANK_SPAN + run.created_at
    if run.state in ACTIVE_STATES:
        indexes["runs:active"] = run.created_at
        indexes[f"runs:active:{run.project}"] = run.created_at
    if run.state is RunState.FINISHED:
        indexes[f"runs:verdict:{run.verdict}"] = run.created_at
        indexes["runs:finished"] = run.finished_at or run.created_at
    if run.state is not RunState.FINISHED and run.trigger.lane:
        indexes[lane_index(run.trigger.lane)] = run.created_at
    if run.status.due_at is not None:
        indexes["runs:status"] = run.status.due_at
    return indexes


def _environment_indexes(environment: Environment) -> Mapping[str, float]:
    born = environment.created_at
    indexes = {"environments": born, f"environments:project:{environment.project}": born}
    if environment.state is EnvironmentState.REQUESTED:
        indexes["environments:requested"] = RANK[environment.priority] * RANK_SPAN + born
    if environment.nomination is not None and environment.state is EnvironmentState.REQUESTED:
        indexes["environments:nominated"] = born
    if environment.state in QUOTA_STATES:
        indexes[f"environments:standing:{environment.provider}"] = born
    if environment.state in BUILD_STATES:
        indexes[f"environments:building:{environment.provider}"] = born
    if environment.state is EnvironmentState.BUILDING:
        indexes[f"environments:begun:{environment.provider}"] = born
    if environment.state in MOVING_STATES or is_scaled(environment):
        indexes[f"environments:moving:{environment.provider}"] = max(
            environment.not_before, environment.state_since + POLL_GRACE_S
        )
    if environment.state in TIMED_STATES:
        indexes["environments:ending"] = environment.taken_back_at
    if environment.notice is not None and environment.state not in LEAVING_STATES:
        indexes["environments:noticed"] = environment.notice.at
    if environment.final:
        indexes["environments:final"] = environment.state_since
    parts = (_node_indexes, _door_indexes, _contract_indexes, _warm_indexes)
    return {**indexes, **{name: score for part in parts for name, score in part(environment).items()}}


def _node_indexes(environment: Environment) -> Mapping[str, float]:
    indexes = {}
    if environment.resizes and environment.state in QUOTA_STATES:
        indexes[f"environments:resized:{environment.provider}"] = environment.created_at
    if is_watched(environment):
        indexes[f"environments:watched:{environment.provider}"] = environment.created_at
    due = replaced_at(environment)
    return indexes if due is None else {**indexes, "environments:lost": due}


def _door_indexes(environment: Environment) -> Mapping[str, float]:
    answers = environment.door is not None and environment.state in LIVING
    return {"environments:doors": environment.created_at} if answers else {}


def _contract_indexes(environment: Environment) -> Mapping[str, float]:
    contract, warning = environment.contract, warning_due(environment)
    owned = {} if contract is None else {f"environments:of:{contract.owner}": environment.created_at}
    if contract is not None and contract.pull and environment.state not in LEAVING_STATES:
        owned["environments:pulls"] = environment.created_at
    return owned if warning is None else {**owned, "environments:warning": warning}


#: All that warm pools keep, or are to keep; those whose nodes are to be asked; claims that are not confirmed.
POOLED, UNCHECKED, UNCONFIRMED = "environments:pooled", "environments:unchecked", "environments:unconfirmed"


def pool_index(what: str, pool: str) -> str:
    """Those of one pool: `ready` to be handed out, handed `out` and standing, `hits` and `misses`, `failed` builds."""
    return f"environments:pool:{what}:{pool}"


def _warm_indexes(environment: Environment) -> Mapping[str, float]:
    contract, since = environment.contract, environment.state_since
    if environment.warm is None:
        missed = contract.pool if contract is not None else ""
        return {pool_index("misses", missed): environment.created_at} if missed else {}
    if environment.unclaimed:
        return _stock_indexes(environment)
    pool, warm = environment.warm.pool, environment.warm
    indexes = {pool_index("out", pool): since} if environment.state in QUOTA_STATES else {}
    if is_unconfirmed(environment):
        indexes[UNCONFIRMED] = warm.claimed_at + CLAIM_S
    return indexes if not warm.keyed_at else {**indexes, pool_index("hits", pool): warm.claimed_at}


def _stock_indexes(environment: Environment) -> Mapping[str, float]:
    assert environment.warm is not None  # noqa: S101  # only those of a pool are asked about
    pool, warm, since = environment.warm.pool, environment.warm, environment.state_since
    if environment.state in LEAVING_STATES:
        failed = environment.state is EnvironmentState.REJECTED or environment.fault
        return {pool_index("failed", pool): since} if failed else {}
    indexes = {POOLED: environment.created_at}
    if environment.state is not EnvironmentState.READY:
        return indexes
    indexes[UNCHECKED] = warm.check_due_at
    return {**indexes, pool_index("ready", pool): since} if warm.well and environment.notice is None else indexes


def _trigger_indexes(record: TriggerRecord) -> Mapping[str, float]:
    indexes = {"triggers": record.received_at, f"triggers:project:{record.project}": record.received_at}
    if record.state is TriggerState.RECEIVED:
        indexes["triggers:due"] = record.due_at
    else:
        indexes["triggers:settled"] = record.received_at
    return indexes


def _schedule_indexes(schedule: Schedule) -> Mapping[str, float]:
    born = schedule.created_at
    return {"schedules": born, f"schedules:project:{schedule.project}": born, "schedules:due": schedule.due_at}


def _staging_indexes(staging: Staging) -> Mapping[str, float]:
    indexes = {"stagings": staging.created_at, f"stagings:project:{staging.spec.project}": staging.created_at}
    due = due_at(staging)
    return indexes if due is None else {**indexes, "stagings:due": due}


def _pull_indexes(pull: Pull) -> Mapping[str, float]:
    since = pull.as_of.received_at
    indexes = {f"pulls:project:{pull.project}": since} if pull.open or pull.busy else {}
    if pull.busy:
        indexes["pulls:busy"] = since
    if pull.serving is not None:
        indexes["pulls:serving"] = since
    if pull.remark.due_at is not None:
        indexes["pulls:remarks"] = pull.remark.due_at
    return indexes


@dataclass(frozen=True)
class MachineRecord:
    """One machine of a provider's inventory."""

    provider: str
    machine: Machine


def _machine_indexes(record: MachineRecord) -> Mapping[str, float]:
    indexes = {f"machines:{record.provider}": 0.0}
    if record.machine.back_at is not None:
        indexes["machines:back"] = record.machine.back_at
    return indexes


def _registered_indexes(one: Registered) -> Mapping[str, float]:
    indexes = {"registered": one.registered_at, f"registered:{one.provider}": one.registered_at}
    return {**indexes, f"registered:dirty:{one.provider}": one.cleaning_until} if one.use is Use.DIRTY else indexes


def _acceptance_indexes(acceptance: Acceptance) -> Mapping[str, float]:
    asked = acceptance.asked_at
    machine = f"acceptances:{acceptance.provider}.{acceptance.machine}"
    indexes = {"acceptances": asked, f"acceptances:{acceptance.provider}": asked, machine: asked}
    return {**indexes, "acceptances_open": asked} if acceptance.open else indexes


@dataclass(frozen=True)
class Loads:
    """What was measured last, by machine."""

    machines: Mapping[str, Load]


@dataclass(frozen=True)
class Ledger:
    """Nothing but a version, which every reservation and every change of an inventory counts up."""


@dataclass(frozen=True)
class QosCheck:
    """One measurement of an environment's promises; `fault` is why it could not be made, if so."""

    id: str
    environment: str
    asked_at: float
    finished_at: float | None = None
    found: tuple[Measured, ...] = ()
    fault: str = ""

    @property
    def kept(self) -> bool:
        """Whether something was promised, and all of it is kept."""
        return bool(self.found) and not self.fault and all(one.kept for one in self.found)


@dataclass(frozen=True)
class Survey:
    """What a provider showed at `at` (epoch seconds; 0: never): servers and nodes compared, and its machines.

    `fault`: why the look at `tried_at` failed, if it did; the rest is older then. `inventory` is None where it tells
    none.
    """

    at: float = 0.0
    tried_at: float = 0.0
    fault: str = ""
    rows: tuple[Row, ...] = ()
    inventory: Inventory | None = None


@dataclass(frozen=True)
class LeftoverReport:
    """What hung about at a provider at `at` (epoch seconds; 0: never looked). `fault`: why the look at `tried_at`
    failed, if it did; the rest is older then.
    """

    at: float = 0.0
    tried_at: float = 0.0
    fault: str = ""
    found: tuple[Leftover, ...] = ()


@dataclass(frozen=True)
class Template:
    """A blueprint that is kept: the `text` of its greenroom.yml. Times are seconds since the epoch."""

    name: str
    text: str
    created_at: float
    changed_at: float


@dataclass(frozen=True)
class Command:
    """One command on `nodes` of an environment, which may take `timeout_s` on each. Times are seconds since the epoch.

    `statuses` are exit statuses by node; `fault` is why it could not be run on all of them, if so.
    """

    id: str
    environment: str
    nodes: tuple[str, ...]
    text: str
    timeout_s: float
    asked_at: float
    started_at: float | None = None
    finished_at: float | None = None
    statuses: Mapping[str, int] = field(default_factory=dict)
    fault: str = ""

    @property
    def exit_status(self) -> int | None:
        """The first that is not 0, else 0; None until it is finished everywhere."""
        if self.finished_at is None or self.fault:
            return None
        return next((status for status in self.statuses.values() if status), 0)


RUNS = Kind("run", Run, _run_indexes, "greenroom runs")
ENVIRONMENTS = Kind("environment", Environment, _environment_indexes, "greenroom env ls")
TRIGGERS = Kind("trigger", TriggerRecord, _trigger_indexes, "greenroom triggers")
PROJECTS = Kind("project", Project, lambda project: {"projects": project.created_at}, "greenroom project ls")
INVENTORIES = Kind("inventory", Inventory, lambda _: {"inventories": 0.0})
MACHINES = Kind("machine", MachineRecord, _machine_indexes)
REGISTERED = Kind("registered", Registered, _registered_indexes)
ACCEPTANCES = Kind("acceptance", Acceptance, _acceptance_indexes)
LOADS: Kind[Loads] = Kind("loads", Loads, lambda _: {})
#: One a provider and kind of call.
BREAKERS: Kind[Breaker] = Kind("breaker", Breaker, lambda _: {})
#: One a provider that has the limit.
BUCKETS: Kind[Bucket] = Kind("bucket", Bucket, lambda _: {})
SLOTS: Kind[Slots] = Kind("slots", Slots, lambda _: {})
#: What came of a provider's builds lately.
HISTORIES: Kind[History] = Kind("history", History, lambda _: {})
#: One a provider.
SURVEYS: Kind[Survey] = Kind("survey", Survey, lambda _: {})
#: One a provider.
LEFTOVERS: Kind[LeftoverReport] = Kind("leftovers", LeftoverReport, lambda _: {})
QOS_CHECKS: Kind[QosCheck] = Kind("qos_check", QosCheck, lambda _: {})
CLOUD_ACTS: Kind[CloudAct] = Kind(
    "cloud_act", CloudAct, lambda act: {} if act.finished_at is not None else {"cloud_acts:open": act.due_at}
)
CLOUD_SETUPS: Kind[CloudSetup] = Kind("cloud_setup", CloudSetup, lambda _: {})
LEDGERS: Kind[Ledger] = Kind("ledger", Ledger, lambda _: {})
COMMANDS: Kind[Command] = Kind("command", Command, lambda _: {})
SCHEDULES = Kind("schedule", Schedule, _schedule_indexes)
TEMPLATES = Kind("template", Template, lambda template: {"templates": template.created_at})
STAGINGS = Kind("staging", Staging, _staging_indexes)
PULLS = Kind("pull", Pull, _pull_indexes)
POOLS = Kind("pool", Pool, lambda pool: {"pools": pool.created_at})
REPORTS: Kind[TestReport] = Kind("report", TestReport, lambda _: {})


def warm_up() -> None:
    """Build every validator."""
    RUNS.warm_up()
    ENVIRONMENTS.warm_up()
    TRIGGERS.warm_up()
    PROJECTS.warm_up()
    REPORTS.warm_up()


class Book(Generic[T]):
    """All aggregates of one kind."""

    def __init__(self, store: Store, kind: Kind[T]) -> None:
        self._store = store
        self.kind = kind
        self._told: set[tuple[str, int]] = set()

    def find(self, id: str) -> Loaded[T] | None:
        document = self._store.get(self.kind.name, id)
        return None if document is None else Loaded(self.kind.value(document), document.version)

    def get(self, id: str) -> Loaded[T]:
        """NotFound names the object, and the command that lists those that there are, if one does."""
        loaded = self.find(id)
        if loaded is None:
            listed = f"; `{self.kind.lists}` lists them" if self.kind.lists else ""
            raise NotFound(f"there is no {self.kind.name} {id}{listed}")
        return loaded

    def many(self, ids: Sequence[str]) -> list[Loaded[T]]:
        """Those that exist and can be read: one that cannot must not hide the others."""
        return list(self._readable(self._store.get_many(self.kind.name, ids)))

    def _readable(self, documents: Sequence[Document]) -> Iterator[Loaded[T]]:
        for document in documents:
            try:
                yield Loaded(self.kind.value(document), document.version)
            except PermanentError as error:
                if (document.id, document.version) not in self._told:
                    log.error("left out: %s", error)
                self._told.add((document.id, document.version))

    def in_index(self, name: str, *, limit: int = PAGE, offset: int = 0, newest_first: bool = False) -> list[Loaded[T]]:
        return self.many(self._store.index(name, limit=limit, offset=offset, newest_first=newest_first))

    def everything(self, name: str) -> list[Loaded[T]]:
        """All in an index, however many."""
        found: list[Loaded[T]] = []
        offset = 0
        while True:
            ids = self._store.index(name, limit=PAGE, offset=offset)
            found += self.many(ids)
            if len(ids) < PAGE:
                return found
            offset += PAGE

    def ids(self, name: str) -> Iterator[str]:
        """The ids of all in an index, for whoever does not need the documents."""
        offset = 0
        while page := self._store.index(name, limit=10 * PAGE, offset=offset):
            yield from page
            offset += len(page)

    def versions(self, ids: Sequence[str]) -> Mapping[str, int]:
        """The versions of those that exist."""
        return self._store.versions(self.kind.name, ids)

    def due(self, name: str, moment: float) -> list[Loaded[T]]:
        """Those in an index whose score is at most `moment`."""
        return self.many(self._store.index_upto(name, moment))


class Books:
    """All books of a deployment and the one way to write in them."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.runs = Book(store, RUNS)
        self.environments = Book(store, ENVIRONMENTS)
        self.triggers = Book(store, TRIGGERS)
        self.projects = Book(store, PROJECTS)
        self.reports = Book(store, REPORTS)
        self.inventories = Book(store, INVENTORIES)
        self.machines = Book(store, MACHINES)
        self.registered = Book(store, REGISTERED)
        self.acceptances = Book(store, ACCEPTANCES)
        self.loads = Book(store, LOADS)
        self.qos_checks = Book(store, QOS_CHECKS)
        self.cloud_acts = Book(store, CLOUD_ACTS)
        self.cloud_setups = Book(store, CLOUD_SETUPS)
        self.commands = Book(store, COMMANDS)
        self.templates = Book(store, TEMPLATES)
        self.schedules = Book(store, SCHEDULES)
        self.stagings = Book(store, STAGINGS)
        self.pulls = Book(store, PULLS)
        self.pools = Book(store, POOLS)
        self.breakers = Book(store, BREAKERS)
        self.buckets = Book(store, BUCKETS)
        self.slots = Book(store, SLOTS)
        self.histories = Book(store, HISTORIES)
        self.surveys = Book(store, SURVEYS)
        self.leftovers = Book(store, LEFTOVERS)

    def store_version(self, kind: str, id: str) -> int:
        """The version of a document, 0 when there is none."""
        document = self.store.get(kind, id)
        return 0 if document is None else document.version

    def commit(
        self,
        *writes: Put | Delete,
        events: Iterable[Event] = (),
        jobs: Iterable[JobRequest] = (),
        fence: Fence | None = None,
    ) -> None:
        self.store.commit(Commit(writes, tuple(events), tuple(jobs), fence))

    def again(self, decide: Callable[[], T]) -> T:
        """Run a use case that reads, decides and commits; once more from the start when somebody wrote in between."""
        for _ in range(TRIES - 1):
            try:
                return decide()
            except VersionConflict:
                continue
        return decide()
