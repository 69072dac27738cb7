"""What a `greenroom.yml` asks for, after it was read and checked. Durations are seconds, sizes are bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from pipeline.domain.promises import TOLERANCE
from pipeline.domain.qos import QosProfile
from pipeline.domain.resources import SIZES, Resources
from pipeline.domain.rules import EnvironmentRules, PlacementRules, Strategy, Within
from pipeline.domain.traffic import Door
from pipeline.domain.wiring import Attachment, Custom, Network, Opening, Wiring


class Priority(StrEnum):
    """Who goes first."""

    INTERACTIVE = "interactive"
    PUSH = "push"
    NIGHTLY = "nightly"


@dataclass(frozen=True)
class PushFilter:
    """Which pushes run: glob patterns as `fnmatch` reads them, `*` also matches `/`.

    A push runs when its branch matches `branches` (empty: every branch), no `branches_ignore`, and not all
    its changed paths match `paths_ignore`; tags run only when they match `tags`. A commit whose
    run passed is deployed to `staging`, unless it came with a tag; empty: to none.
    """

    branches: tuple[str, ...] = ()
    branches_ignore: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    paths_ignore: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    staging: str = ""


@dataclass(frozen=True)
class PullRequestFilter:
    """Which pull requests run, by the branch they want to merge into.

    With `environment` each has one beside its runs, which lives for `ttl_s` after a push (None: as long as the project
    says). Those of `forks` run only if the branch that they want to merge into says so, and have no environment.
    """

    branches: tuple[str, ...] = ()
    paths_ignore: tuple[str, ...] = ()
    environment: bool = False
    ttl_s: float | None = None
    forks: bool = False


class Overlap(StrEnum):
    """Whether a schedule's next run begins while its last one is not finished."""

    SKIP = "skip"
    ALLOW = "allow"


class Missed(StrEnum):
    """What becomes of due times at which nobody could start a run."""

    RUN_ONCE = "run-once"
    SKIP = "skip"


@dataclass(frozen=True)
class ScheduleSpec:
    """A regular run of a branch: `cron` has five fields, read in the IANA time zone `timezone`."""

    cron: str
    branch: str
    priority: Priority = Priority.NIGHTLY
    timezone: str = "UTC"
    overlap: Overlap = Overlap.SKIP
    missed: Missed = Missed.RUN_ONCE


@dataclass(frozen=True)
class Triggers:
    """The `on:` of a blueprint; `None` means that this kind of trigger never runs."""

    push: PushFilter | None = field(default_factory=PushFilter)
    pull_request: PullRequestFilter | None = None
    schedule: tuple[ScheduleSpec, ...] = ()


@dataclass(frozen=True)
class RoleSpec:
    """`count` nodes that do the same work. `networks` maps names to the addresses of its nodes there, or to none."""

    name: str
    count: int = 1
    size: str = "small"
    image: str | None = None
    run_list: tuple[str, ...] = ()
    script: str | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)
    qos: QosProfile = field(default_factory=QosProfile)
    rules: PlacementRules = field(default_factory=PlacementRules)
    hugepages_mib: int = 0
    openings: tuple[Opening, ...] = ()
    networks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    virtual_address: str = ""
    floating: bool = False
    custom: Custom = field(default_factory=Custom)

    @property
    def resources(self) -> Resources:
        return replace(SIZES[self.size], hugepages_mib=self.hugepages_mib)

    def wiring(self, index: int) -> Wiring:
        """How one of its nodes is connected."""
        addresses = {name: given[index] if given else "" for name, given in self.networks.items()}
        attachments = tuple(Attachment(name, address) for name, address in addresses.items())
        return Wiring(attachments, self.openings, self.virtual_address, self.floating)


@dataclass(frozen=True)
class EnvironmentSpec:
    """The nodes that are requested, leased and destroyed together."""

    image: str
    roles: tuple[RoleSpec, ...]
    provider: str | None = None
    within: Within = Within.ANYWHERE
    strategy: Strategy = Strategy.PACK
    networks: tuple[Network, ...] = ()

    def role(self, name: str) -> RoleSpec:
        return next(role for role in self.roles if role.name == name)

    @property
    def rules(self) -> EnvironmentRules:
        """What placement is asked to heed."""
        return EnvironmentRules({role.name: role.rules for role in self.roles}, self.within, self.strategy)

    @property
    def node_names(self) -> tuple[str, ...]:
        return tuple(f"{role.name}-{i}" for role in self.roles for i in range(role.count))


@dataclass(frozen=True)
class ConfigureSpec:
    """How nodes are converged. `with_` is `chef`, `script` or `auto`: chef where a client can be had, else script.

    `cookbooks` and every role's `script` are paths in the repository. `idempotent`: converge twice, and expect
    that the second time changes nothing.
    """

    with_: str = "auto"
    cookbooks: str = "chef-cookbooks"
    attributes: Mapping[str, Any] = field(default_factory=dict)
    idempotent: bool = False
    timeout_s: float = 1800.0
    silence_s: float = 600.0


@dataclass(frozen=True)
class Readiness:
    """When a deployed role counts as up: `http` (`:port/path`, asked from the node itself), `tcp` port or `run`."""

    http: str | None = None
    tcp: int | None = None
    run: str | None = None
    within_s: float = 60.0


@dataclass(frozen=True)
class DeploySpec:
    """One deployment: the commit goes to `to`/releases/<sha>, `to`/current points at it, then `run`, then `ready`."""

    role: str
    to: str
    run: tuple[str, ...] = ()
    ready: Readiness | None = None
    timeout_s: float = 600.0
    silence_s: float = 300.0


@dataclass(frozen=True)
class TestinfraSpec:
    """A testinfra suite of the repository, run over all nodes (or those of `roles`) from a sandbox.

    `shipped`: `path` is the name of a suite that comes with Greenroom.
    """

    __test__ = False  # not a test class, whatever its name

    path: str
    roles: tuple[str, ...] = ()
    timeout_s: float = 1800.0
    silence_s: float = 600.0
    shipped: bool = False


@dataclass(frozen=True)
class CommandSpec:
    """A command run on nodes: `on` is `web`, `web[0]` or `all`; in the deployed release where the role has one."""

    run: str
    on: str = "all"
    junit: str | None = None
    timeout_s: float = 1800.0
    silence_s: float = 600.0


@dataclass(frozen=True)
class QosSpec:
    """A measurement of what nodes are promised: `qos` is a role, or `all`. `at_least` of a promise is enough."""

    qos: str
    at_least: float = 1 - TOLERANCE


@dataclass(frozen=True)
class DestroySpec:
    """`hold_on_failure_s`: how long a failed run keeps its nodes for debugging; 0 takes them back at once."""

    hold_on_failure_s: float = 0.0


@dataclass(frozen=True)
class Artifact:
    """A file or directory of nodes (`on` as in `CommandSpec`) to keep after the run."""

    path: str
    on: str = "all"


@dataclass(frozen=True)
class Blueprint:
    """A whole `greenroom.yml`."""

    service: str
    environment: EnvironmentSpec
    triggers: Triggers = field(default_factory=Triggers)
    configure: ConfigureSpec = field(default_factory=ConfigureSpec)
    deploy: tuple[DeploySpec, ...] = ()
    test: tuple[TestinfraSpec | CommandSpec | QosSpec, ...] = ()
    destroy: DestroySpec = field(default_factory=DestroySpec)
    artifacts: tuple[Artifact, ...] = ()
    timeout_s: float = 3600.0

    @property
    def named_files(self) -> tuple[str, ...]:
        """Scripts and suites that a run needs, by their paths in the repository."""
        scripts = [role.script for role in self.environment.roles if role.script]
        suites = [one.path for one in self.test if isinstance(one, TestinfraSpec) and not one.shipped]
        return tuple(dict.fromkeys([*scripts, *suites]))

    @property
    def door(self) -> Door | None:
        """Where it answers requests: what a deploy waits for by HTTP or TCP, else the first TCP port that is open."""
        for deploy in self.deploy:
            ready = deploy.ready or Readiness()
            port, slash, path = (ready.http or "").removeprefix(":").partition("/")
            if port or ready.tcp:
                return Door(deploy.role, int(port or ready.tcp or 0), slash + path if slash else "/")
        opened = (
            (role.name, one.first) for role in self.environment.roles for one in role.openings if one.protocol == "tcp"
        )
        return next((Door(role, port) for role, port in opened), None)
