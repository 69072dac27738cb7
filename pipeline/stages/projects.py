"""Projects: added, listed, changed, given another secret, removed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from pipeline.domain.admission import Use
from pipeline.domain.errors import AlreadyExists, InvalidTransition, UserError, VersionConflict
from pipeline.domain.guards import Act, Facts
from pipeline.domain.projects import Project, ProjectChange, changed, check_name, local_path
from pipeline.envs import jobs
from pipeline.envs.books import Books
from pipeline.envs.gate import Asking, Gate
from pipeline.envs.uses import uses
from pipeline.ports.common import Clock, Ids, Secret
from pipeline.ports.secrets import Secrets
from pipeline.ports.stores import Delete

#: How many of the things that keep a project are named.
NAMED = 10


@dataclass(frozen=True)
class Overview:
    """A project and what it has now: the use that counts against its quota, and active runs."""

    project: Project
    use: Use
    active_runs: int


class Projects:
    """The tenants of a deployment, whose providers are `provider_names`."""

    def __init__(
        self, books: Books, secrets: Secrets, clock: Clock, ids: Ids, gate: Gate, provider_names: Sequence[str]
    ) -> None:
        self._books = books
        self._secrets = secrets
        self._clock = clock
        self._ids = ids
        self._gate = gate
        self._provider_names = provider_names

    def add(
        self,
        name: str,
        *,
        repository: str = "",
        provider: str = "",
        api_url: str = "",
        forge_token: Secret | None = None,
        hook_secret: Secret | None = None,
    ) -> tuple[Project, Secret]:
        """A new project and its hook secret, which is made when none is given. AlreadyExists."""
        secret = hook_secret or Secret(self._ids.token())
        project = Project(
            name=check_name(name),
            created_at=self._clock.now(),
            sealed_hook_secret=self._secrets.seal(secret),
            repository=repository,
            sealed_forge_token=self._secrets.seal(forge_token) if forge_token else "",
            api_url=api_url,
            provider=provider,
            local_repositories=(local_path(repository),) if local_path(repository) else (),
        )
        try:
            self._books.commit(self._books.projects.kind.put(name, project, 0))
        except VersionConflict as error:
            raise AlreadyExists(
                f"there is a project {name} already; `greenroom project set {name}` changes it, or take another name"
            ) from error
        return project, secret

    def hook_secret(self, name: str) -> Secret:
        return self._secrets.open(self._books.projects.get(name).value.sealed_hook_secret)

    def all(self) -> list[Project]:
        return [loaded.value for loaded in self._books.projects.in_index("projects")]

    def allow_local(self, name: str, repository: str) -> Project:
        """Let deliveries of a project name a repository of this machine. UserError when it is not one."""
        path = local_path(repository)
        if not path:
            raise UserError(
                f"{repository!r} is no path of this machine; deliveries may name repositories elsewhere anyway"
            )

        def allowed(project: Project) -> Project:
            known = project.local_repositories
            return replace(project, local_repositories=tuple(dict.fromkeys((*known, path))))

        return self._changed(name, allowed)

    def change(self, name: str, change: ProjectChange) -> Project:
        """Change what a project may use; what waits is looked at again at once. UserError, NotFound."""
        return self._changed(name, lambda project: changed(project, change))

    def _changed(self, name: str, change: Callable[[Project], Project]) -> Project:
        def decide() -> Project:
            loaded = self._books.projects.get(name)
            project = change(loaded.value)
            self._books.commit(self._books.projects.kind.put(name, project, loaded.version), jobs=[jobs.ADMIT])
            return project

        return self._books.again(decide)

    def overview(self, name: str) -> Overview:
        """NotFound names the project."""
        return self._overviews([self._books.projects.get(name).value])[0]

    def overviews(self) -> list[Overview]:
        """All projects, with what each has."""
        return self._overviews(self.all())

    def _overviews(self, projects: Sequence[Project]) -> list[Overview]:
        used = uses(self._books, self._provider_names)
        active = {one.name: self._books.store.count(f"runs:active:{one.name}") for one in projects}
        return [Overview(one, used.get(one.name, Use()), active[one.name]) for one in projects]

    def remove(self, name: str, asking: Asking) -> None:
        """Forget a project; its finished runs stay until they are old. InvalidTransition names what it still has.

        A dry run passes the gate and changes nothing.
        """
        self._books.again(lambda: self._remove(name, asking))

    def _remove(self, name: str, asking: Asking) -> None:
        loaded = self._books.projects.get(name)
        left = list(self._left(name))
        if left:
            named = ", ".join(left[:NAMED]) + (f" and {len(left) - NAMED} more" if len(left) > NAMED else "")
            raise InvalidTransition(
                f"project {name} cannot be removed: it has {named}; wait for them, or end them with "
                "`greenroom cancel` and `greenroom release`"
            )
        passed = self._gate.judge(Act.DELETE_OBJECT, f"project {name}", Facts(who=asking.who), asking)
        gone = (
            () if asking.dry_run else (Delete(self._books.projects.kind.name, name, loaded.version), *self._own(name))
        )
        self._books.commit(*gone, *passed.writes, events=passed.events)

    def _own(self, name: str) -> Iterator[Delete]:
        """What goes with the project: its schedules, and what is known of its pull requests."""
        for one in self._books.schedules.everything(f"schedules:project:{name}"):
            yield Delete(self._books.schedules.kind.name, one.value.id, one.version)
        for pull in self._books.pulls.everything(f"pulls:project:{name}"):
            yield Delete(self._books.pulls.kind.name, pull.value.id, pull.version)

    def _left(self, name: str) -> Iterator[str]:
        """What still needs the project: triggers, runs, environments."""
        books = self._books
        for trigger in books.triggers.everything("triggers:due"):
            if trigger.value.project == name:
                yield f"trigger {trigger.value.id}"
        pending = (one for one in books.runs.everything("runs:pending") if one.value.project == name)
        for run in (*pending, *books.runs.everything(f"runs:active:{name}")):
            yield f"run {run.value.id} ({run.value.state})"
        indexes = ["environments:requested", *(f"environments:standing:{one}" for one in self._provider_names)]
        for index in indexes:
            for one in books.environments.everything(index):
                if one.value.project == name:
                    yield f"environment {one.value.id} ({one.value.state})"
