"""Projects: the tenants."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from pipeline.domain.errors import UserError

NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?")


@dataclass(frozen=True)
class Quota:
    """What all environments of a project may take together; None is not limited."""

    nodes: int | None = None
    vcpu: float | None = None
    memory_mib: float | None = None
    disk_gib: float | None = None
    environments: int | None = None
    floating_addresses: int | None = None


@dataclass(frozen=True)
class Project:
    """`sealed_*` were written by `Secrets.seal`; `api_url` and the token are for commit statuses and clones.

    `local_repositories` are the paths of this machine that its deliveries may name; a delivery that names another one
    is refused, so that who may sign deliveries cannot read what else lies here. `max_runs` run at a time; `weight` is
    its share of what several projects want at once.
    """

    name: str
    created_at: float
    sealed_hook_secret: str
    repository: str = ""
    sealed_forge_token: str = ""
    api_url: str = ""
    provider: str = ""
    max_runs: int = 20
    local_repositories: tuple[str, ...] = ()
    quota: Quota = field(default_factory=Quota)
    weight: float = 1.0


def local_path(repository: str) -> str:
    """The path of a repository on this machine, empty for one elsewhere."""
    path = repository.removeprefix("file://")
    return path if path.startswith("/") else ""


def check_name(name: str) -> str:
    """A project's name: 1 to 40 of a-z, 0-9 and inner hyphens."""
    if NAME.fullmatch(name) is None:
        raise UserError(f"project name {name!r}: use 1 to 40 of a-z, 0-9 and hyphens between them")
    return name
