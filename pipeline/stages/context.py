"""What a stage has at hand, and what it may answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

from pipeline.domain.blueprint import Blueprint
from pipeline.domain.environments import Environment
from pipeline.domain.errors import InvalidTransition
from pipeline.domain.runs import Attempt, Outcome, Run, StageName, StageState
from pipeline.envs.access import access_of
from pipeline.envs.books import Books, Loaded
from pipeline.envs.providers import Provider
from pipeline.envs.removals import Removals
from pipeline.ports.common import Clock, Ids, Limits, Secret, Sink
from pipeline.ports.configurators import Configurator
from pipeline.ports.logs import LogStore, LogWriter
from pipeline.ports.reports import ReportReader
from pipeline.ports.repositories import Repositories
from pipeline.ports.secrets import Secrets
from pipeline.ports.stores import Event, JobRequest, Put
from pipeline.ports.transports import Connection, EnvironmentAccess
from pipeline.ports.verifiers import Verifier
from pipeline.ports.workspaces import Workspaces

T = TypeVar("T")
#: Nodes of one environment that are worked on at once.
PARALLEL = 8
PASSED = Outcome(StageState.PASSED)
#: The file of a repository that says what a run does.
FILE = "greenroom.yml"


@dataclass(frozen=True)
class Tools:
    """The outside world of the stages."""

    books: Books
    providers: Callable[[str], Provider]
    removals: Removals
    repositories: Repositories
    configurator: Callable[[str], Configurator]
    testinfra: Verifier
    commands: Verifier
    reports: ReportReader
    logs: LogStore
    workspaces: Workspaces
    secrets: Secrets
    clock: Clock
    ids: Ids


@dataclass(frozen=True)
class Waiting:
    """The stage has submitted what it wants; it is woken when the environment is settled.

    `reason`: what it was refused for now; it asks again at `again_at`.
    """

    environment_id: str
    writes: tuple[Put, ...] = ()
    events: tuple[Event, ...] = ()
    jobs: tuple[JobRequest, ...] = ()
    reason: str = ""
    again_at: float = 0.0


#: What a stage changes of its run besides its own state.
Change = Callable[[Run], Run]


@dataclass(frozen=True)
class Done:
    """The stage is over, and these writes belong to its end."""

    outcome: Outcome
    change: Change = lambda run: run
    writes: tuple[Put, ...] = ()
    events: tuple[Event, ...] = ()
    jobs: tuple[JobRequest, ...] = ()


Answer = Waiting | Done | Outcome
#: A decision that depends on documents besides the run: taken again when one of them changed meanwhile.
Decision = Callable[[], Answer | None]


@dataclass(frozen=True)
class Stage:
    """One attempt at work: the run as it was read, its tools, its logs."""

    tools: Tools
    run: Run
    name: StageName
    attempt: Attempt

    @property
    def plan(self) -> Blueprint:
        return self.run.plan

    def environment(self) -> Loaded[Environment]:
        """The run's environment; InvalidTransition when it has none."""
        if not self.run.environment_id:
            raise InvalidTransition(f"run {self.run.id} has no environment")
        return self.tools.books.environments.get(self.run.environment_id)

    def access(self) -> EnvironmentAccess:
        return access_of(self.environment().value, self.tools.secrets)

    @contextmanager
    def connection(self) -> Iterator[tuple[Connection, EnvironmentAccess]]:
        """An open channel to the environment's nodes."""
        access = self.access()
        transport = self.tools.providers(self.run.provider).transport
        with transport.connect(access) as connection:
            yield connection, access

    def log(self, node: str = "") -> AbstractContextManager[LogWriter]:
        """This attempt's log, or its log of one node."""
        name = f"{self.name}-{self.attempt.number}" + (f".{node}" if node else "")
        token = self.credential()
        return self.tools.logs.writer(self.run.id, name, (token.reveal(),) if token is not None else ())

    @contextmanager
    def sink(self, node: str = "") -> Iterator[Sink]:
        with self.log(node) as writer:
            yield writer.write

    @contextmanager
    def source(self) -> Iterator[str]:
        """A directory with exactly the commit's files; an empty one for a run of no commit."""
        trigger = self.run.trigger
        with self.tools.workspaces.scratch(f"{self.run.id}.{self.name}") as directory:
            if trigger.repository:
                self.tools.repositories.export(trigger.repository, trigger.sha, directory, credential=self.credential())
            yield directory

    def credential(self) -> Secret | None:
        """The project's forge token, for private repositories."""
        return project_token(self.tools.books, self.tools.secrets, self.run.project, self.run.trigger.repository)


def project_token(books: Books, secrets: Secrets, project: str, repository: str) -> Secret | None:
    """The forge token of a project, for repositories on the host of the project's own one and nowhere else.

    A delivery names the repository to clone: whoever may sign one must not be able to have the token sent to a host
    of theirs.
    """
    loaded = books.projects.find(project)
    if loaded is None or not loaded.value.sealed_forge_token:
        return None
    if not loaded.value.repository or host_of(repository) != host_of(loaded.value.repository):
        return None
    return secrets.open(loaded.value.sealed_forge_token)


def host_of(repository: str) -> str:
    """The host of a repository's URL or `git@host:path`, with its port; empty for a path of this machine."""
    if "://" in repository:
        return urlsplit(repository).netloc.rpartition("@")[2].lower()
    return repository.partition(":")[0].rpartition("@")[2].lower() if "@" in repository else ""


def line(sink: Sink, text: str) -> None:
    """One line of Greenroom's own into a log."""
    sink(f"greenroom: {text}\n".encode())


def each(work: Callable[[Any], T], items: Sequence[Any]) -> list[T]:
    """Do `work` for all items in parallel; all of them end before the first error is raised."""
    if len(items) == 1:
        return [work(items[0])]
    with ThreadPoolExecutor(PARALLEL) as pool:
        futures = [pool.submit(work, item) for item in items]
    return [future.result() for future in futures]


def limits(total_s: float, silence_s: float) -> Limits:
    return Limits(total_s=total_s, silence_s=silence_s)
