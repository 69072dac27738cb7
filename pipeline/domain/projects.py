"""Projects: where their runs come from, and what they may use."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from pipeline.domain.durations import parse_positive_duration
from pipeline.domain.errors import UserError
from pipeline.domain.resources import parse_size
from pipeline.domain.rules import OperatorRule
from pipeline.domain.user_keys import checked_forges

NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?")


@dataclass(frozen=True)
class Quota:
    """What all environments of a project may take together; None is not limited.

    `floating_addresses` are those that blueprints ask for, not those that a provider gives to all its nodes.
    """

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
    its share of what several projects want at once. `rules` are laid on all that it requests. An environment on request
    lives `ttl_s` where nobody says how long, and never longer than `most_ttl_s`, in seconds. `key_forges` are the
    addresses of the forges whose users' public keys it may install.
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
    rules: tuple[OperatorRule, ...] = ()
    ttl_s: float = 2 * 3600.0
    most_ttl_s: float = 24 * 3600.0
    key_forges: tuple[str, ...] = ()


def local_path(repository: str) -> str:
    """The path of a repository on this machine, empty for one elsewhere."""
    path = repository.removeprefix("file://")
    return path if path.startswith("/") else ""


def check_name(name: str) -> str:
    """A project's name: 1 to 40 of a-z, 0-9 and inner hyphens."""
    if NAME.fullmatch(name) is None:
        raise UserError(f"project name {name!r}: use 1 to 40 of a-z, 0-9 and hyphens between them")
    return name


#: What a person calls each limit of a quota, its field, and more than which of it is a mistake of units.
LIMITS: Mapping[str, tuple[str, float]] = {
    "nodes": ("nodes", 1e6),
    "vcpu": ("vcpu", 1e7),
    "memory": ("memory_mib", 2.0**40),
    "disk": ("disk_gib", 2.0**40),
    "environments": ("environments", 1e6),
    "floating_addresses": ("floating_addresses", 1e6),
}
#: The word that takes a limit away.
NONE = "none"
MOST_RUNS = 10_000
WEIGHTS = (0.01, 1000.0)
Amount = str | float | None


@dataclass(frozen=True)
class ProjectChange:
    """What is to become of a project; None leaves a field as it is.

    `quota` maps limits to amounts, sizes with their unit; an amount of None or `none` takes its limit away, and
    `unlimited` all of them before that. `rules` take the place of all that the project had.
    """

    quota: Mapping[str, Amount] = field(default_factory=dict)
    unlimited: bool = False
    max_runs: int | None = None
    weight: float | None = None
    provider: str | None = None
    rules: tuple[OperatorRule, ...] | None = None
    ttl: str | None = None
    most_ttl: str | None = None
    key_forges: tuple[str, ...] | None = None


def changed(project: Project, change: ProjectChange) -> Project:
    """The project after a change; UserError names what makes no sense."""
    quota = Quota() if change.unlimited else project.quota
    limits = dict(_limit(name, amount) for name, amount in change.quota.items())
    return replace(
        project,
        quota=replace(quota, **limits),  # type: ignore[arg-type]  # counts are whole: `_limit` saw to it
        max_runs=project.max_runs if change.max_runs is None else _runs(change.max_runs),
        weight=project.weight if change.weight is None else _weight(change.weight),
        provider=project.provider if change.provider is None else change.provider,
        rules=project.rules if change.rules is None else _own(project, change.rules),
        ttl_s=project.ttl_s if change.ttl is None else _duration("ttl", change.ttl),
        most_ttl_s=project.most_ttl_s if change.most_ttl is None else _duration("most_ttl", change.most_ttl),
        key_forges=project.key_forges if change.key_forges is None else checked_forges(change.key_forges),
    )


def _own(project: Project, rules: tuple[OperatorRule, ...]) -> tuple[OperatorRule, ...]:
    for rule in rules:
        if "project" in rule.match:
            raise UserError(
                f"rule {rule.name}: the rules of project {project.name} hold for it alone; leave `match: project` out"
            )
    return rules


def _limit(name: str, amount: Amount) -> tuple[str, float | None]:
    """A quota's field and its value."""
    if name not in LIMITS:
        raise UserError(f"there is no quota of {name!r}; there are: {', '.join(LIMITS)}")
    field_name, most = LIMITS[name]
    if amount is None or amount == NONE:
        return field_name, None
    try:
        value = _size(name, amount) if name in {"memory", "disk"} else float(amount)
    except ValueError as error:
        raise UserError(f"quota of {name}: {_expected(name)}, got {amount!r}") from error
    if not 0 <= value <= most:
        raise UserError(f"quota of {name}: {amount} makes no sense; {_expected(name)}")
    if name not in {"nodes", "environments", "floating_addresses"}:
        return field_name, value
    if value != int(value):
        raise UserError(f"quota of {name}: {amount} is no whole number")
    return field_name, int(value)


def _size(name: str, amount: str | float) -> float:
    mib = parse_size(str(amount))
    return mib / 1024 if name == "disk" else mib


def _expected(name: str) -> str:
    what = "a size such as 64GiB" if name in {"memory", "disk"} else "a number from 0 on"
    return f"expected {what}, or `{NONE}` for no limit"


def _duration(name: str, text: str) -> float:
    try:
        return parse_positive_duration(text)
    except ValueError as error:
        raise UserError(f"{name}: {error}") from error


def _runs(most: int) -> int:
    if not 1 <= most <= MOST_RUNS:
        raise UserError(f"max_runs {most} makes no sense; use 1 to {MOST_RUNS}")
    return most


def _weight(weight: float) -> float:
    least, most = WEIGHTS
    if not (math.isfinite(weight) and least <= weight <= most):
        raise UserError(f"weight {weight:g} makes no sense; use {least:g} to {most:g}, where 1 is usual")
    return weight
