"""Projects: added, listed, given another secret."""

from __future__ import annotations

from dataclasses import replace

from pipeline.domain.errors import AlreadyExists, UserError, VersionConflict
from pipeline.domain.projects import Project, check_name, local_path
from pipeline.envs.books import Books
from pipeline.ports.common import Clock, Ids, Secret
from pipeline.ports.secrets import Secrets


class Projects:
    """The tenants of a deployment."""

    def __init__(self, books: Books, secrets: Secrets, clock: Clock, ids: Ids) -> None:
        self._books = books
        self._secrets = secrets
        self._clock = clock
        self._ids = ids

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
            raise AlreadyExists(f"there is a project {name} already") from error
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

        def decide() -> Project:
            loaded = self._books.projects.get(name)
            known = loaded.value.local_repositories
            changed = replace(loaded.value, local_repositories=tuple(dict.fromkeys((*known, path))))
            self._books.commit(self._books.projects.kind.put(name, changed, loaded.version))
            return changed

        return self._books.again(decide)
