"""What the API shows of projects, and what it takes."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field, StrictFloat, StrictInt, StrictStr

from pipeline.api.views import Wish
from pipeline.domain.admission import Use
from pipeline.domain.projects import Quota
from pipeline.domain.rules import OperatorRule, Stance
from pipeline.domain.user_keys import MOST_FORGES
from pipeline.stages.projects import Overview


class LimitView(BaseModel):
    """One limit of a quota, null where there is none, and what is in use of it now."""

    limit: int | float | None
    used: int | float


class RuleView(BaseModel):
    """One rule of a project, as its file says it."""

    name: str
    match: dict[str, list[str]]
    require: dict[str, list[str]]
    prefer: dict[str, list[str]]
    forbid: dict[str, list[str]]
    apart_from: list[str]
    max_per_zone: int | None

    @classmethod
    def of(cls, rule: OperatorRule) -> RuleView:
        def said(stance: Stance) -> dict[str, list[str]]:
            return {str(one.attribute): list(one.values) for one in rule.affinities if one.stance is stance}

        return cls(
            name=rule.name,
            match={key: list(values) for key, values in rule.match.items()},
            require=said(Stance.REQUIRE),
            prefer=said(Stance.PREFER),
            forbid=said(Stance.FORBID),
            apart_from=list(rule.apart_from),
            max_per_zone=rule.max_per_zone,
        )


class ProjectView(BaseModel):
    name: str
    repository: str
    provider: str
    api_url: str
    reports_status: bool = Field(description="whether it has a forge token to report commit statuses with")
    created_at: float
    quota: dict[str, LimitView] = Field(description="nodes, vcpu, memory_mib, disk_gib, environments, ...")
    max_runs: int
    active_runs: int
    weight: float
    ttl_s: float = Field(description="an environment on request lives so long where nobody says how long")
    most_ttl_s: float = Field(description="and so long at most, with all extensions and holds")
    key_forges: list[str] = Field(description="forges whose users' public keys its environments may take")
    rules: list[RuleView]

    @classmethod
    def of(cls, overview: Overview) -> ProjectView:
        project = overview.project
        return cls(
            quota=_limits(project.quota, overview.use),
            max_runs=project.max_runs,
            active_runs=overview.active_runs,
            weight=project.weight,
            ttl_s=project.ttl_s,
            most_ttl_s=project.most_ttl_s,
            key_forges=list(project.key_forges),
            rules=[RuleView.of(rule) for rule in project.rules],
            name=project.name,
            repository=project.repository,
            provider=project.provider,
            api_url=project.api_url,
            reports_status=bool(project.sealed_forge_token),
            created_at=project.created_at,
        )


def _limits(quota: Quota, use: Use) -> dict[str, LimitView]:
    return {name: LimitView(limit=limit, used=getattr(use, name)) for name, limit in vars(quota).items()}


class NewProject(Wish):
    """`hook_secret` is made when none is given."""

    name: str
    repository: str = ""
    provider: str = ""
    api_url: str = ""
    forge_token: str = ""
    hook_secret: str = ""


class ProjectWish(Wish):
    """What is to change; what is left out stays. `quota`: amounts by limit, sizes with their unit (`"64GiB"`), null
    for no limit; `"quota": null` takes all limits away. An empty `provider` is the deployment's own.
    `ttl` and `most_ttl` are durations such as `2h`. `key_forges`, such as `https://github.com`, take the place of those
    that it had.
    """

    quota: dict[str, StrictInt | StrictFloat | StrictStr | None] | None = Field(default_factory=dict)
    max_runs: StrictInt | None = None
    weight: StrictInt | StrictFloat | None = None
    provider: str | None = None
    ttl: str | None = Field(default=None, max_length=40)
    most_ttl: str | None = Field(default=None, max_length=40)
    key_forges: list[Annotated[str, Field(max_length=300)]] | None = Field(default=None, max_length=MOST_FORGES)


class NewRules(Wish):
    """A text with `version: 1` and `rules:`, in the syntax of an inventory's; they take the place of all others."""

    rules: str = Field(max_length=64 * 1024)


class RulesView(BaseModel):
    """`warnings`: what the rules name that no inventory has now."""

    rules: list[RuleView]
    warnings: list[str]


class RemovedProject(BaseModel):
    name: str
    removed: bool


class AddedProject(BaseModel):
    """The only time that the hook secret is shown, but for `hook-secret`."""

    project: ProjectView
    hook_secret: str
    hook_url: str


class HookWish(Wish):
    """`local_repository`: a path of this machine that the project's deliveries may name from now on."""

    local_repository: str = ""


class HookAccess(BaseModel):
    hook_secret: str
    hook_url: str
