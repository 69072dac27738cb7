"""What the API shows. Times are seconds since the epoch; nothing sealed is ever shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from pipeline.domain import admission
from pipeline.domain.environments import Environment, EnvironmentState, Node, NodeState
from pipeline.domain.intake import TriggerRecord, TriggerState
from pipeline.domain.leases import may_end
from pipeline.domain.promises import Measured
from pipeline.domain.reports import CaseStatus, TestReport
from pipeline.domain.runs import AttemptState, Run, RunState, StageName, StageRun, StageState, Verdict
from pipeline.domain.scaling import Move
from pipeline.domain.triggers import TriggerKind
from pipeline.envs.books import QosCheck
from pipeline.envs.gate import Asking
from pipeline.stages.control import BY_HAND

T = TypeVar("T")


class Wish(BaseModel):
    """What a caller asks for; a key that nobody knows is refused, for a misspelt one would change what is done."""

    model_config = ConfigDict(extra="forbid")


class Page(BaseModel, Generic[T]):
    """A part of a list, newest first; `next` is the offset of the following part."""

    items: list[T]
    next: int | None = None

    @classmethod
    def of(cls, items: Sequence[T], offset: int, limit: int) -> Page[T]:
        """`items` holds one more than `limit` when there is more."""
        more = len(items) > limit
        return cls(items=list(items[:limit]), next=offset + limit if more else None)


class AttemptView(BaseModel):
    number: int
    state: AttemptState
    queued_at: float
    started_at: float | None
    finished_at: float | None
    code: str
    reason: str


class StageView(BaseModel):
    name: StageName
    state: StageState
    reason: str
    seconds: float | None = Field(description="from the first attempt's start to the last one's end")
    attempts: list[AttemptView]

    @classmethod
    def of(cls, stage: StageRun) -> StageView:
        attempts = [
            AttemptView.model_validate(
                {name: getattr(attempt, name) for name in AttemptView.model_fields}  # the token stays here
            )
            for attempt in stage.attempts
        ]
        return cls(name=stage.name, state=stage.state, reason=stage.reason, seconds=stage.seconds, attempts=attempts)


class TestCountsView(BaseModel):
    passed: int
    failed: int
    errors: int
    skipped: int


class RunView(BaseModel):
    id: str
    project: str
    service: str
    state: RunState
    verdict: Verdict | None
    reason: str
    kind: TriggerKind
    repository: str
    branch: str
    sha: str
    actor: str
    message: str
    provider: str
    environment: str
    position: int | None = Field(description="while it waits for room: its place among those that wait for the same")
    estimate_s: float | None = Field(description="about how long until then; null: nobody knows")
    rerun_of: str
    superseded_by: str
    created_at: float
    started_at: float | None
    finished_at: float | None
    stages: list[StageView]
    tests: TestCountsView

    @classmethod
    def of(cls, run: Run, environment: Environment | None = None) -> RunView:
        """`environment` is the one that a run waits for, if it does."""
        trigger = run.trigger
        return cls(
            id=run.id,
            project=run.project,
            service=run.blueprint.service if run.blueprint else "",
            state=run.state,
            verdict=run.verdict,
            reason=run.reason,
            kind=trigger.kind,
            repository=trigger.repository,
            branch=trigger.branch or trigger.tag,
            sha=trigger.sha,
            actor=trigger.actor,
            message=trigger.message,
            provider=run.provider,
            environment=run.environment_id,
            **_wait(environment),
            rerun_of=run.rerun_of,
            superseded_by=run.superseded_by,
            created_at=run.created_at,
            started_at=run.started_at,
            finished_at=run.finished_at,
            stages=[StageView.of(stage) for stage in run.stages],
            tests=TestCountsView.model_validate(vars(run.tests)),
        )


def _wait(environment: Environment | None) -> dict[str, Any]:
    wait = environment.wait if environment is not None else None
    return {"position": wait.position if wait else None, "estimate_s": wait.estimate_s if wait else None}


class NetworkView(BaseModel):
    """A network beside the main one: the environment's own, over `cidr`, or the provider's that is called `shared`."""

    name: str
    cidr: str
    shared: str


class NodeView(BaseModel):
    name: str
    role: str
    image: str
    state: NodeState
    address: str | None
    inside_address: str = Field(description="where nodes of the environment reach it; empty: at its address")
    networks: dict[str, str] = Field(description="further networks, with its address there; empty: not known yet")
    open: list[str] = Field(description="ports that are open to the outside, such as `443/tcp from 10.0.0.0/8`")
    virtual_address: str = Field(description="the address that it may take over from other nodes, if any")
    floating: bool = Field(description="it was asked for with an address of its own for the outside")
    fault: str
    machine: str
    zone: str

    @classmethod
    def of(cls, node: Node) -> NodeView:
        wiring = node.wiring
        wired = {
            "networks": {one.network: node.addresses.get(one.network, one.address) for one in wiring.attachments},
            "open": [str(one) for one in wiring.openings],
            "virtual_address": wiring.virtual_address,
            "floating": wiring.floating,
        }
        shown = {name: getattr(node, name) for name in cls.model_fields if name not in wired}
        return cls.model_validate({**shown, **wired})


class NoticeView(BaseModel):
    """It is taken back at `at` (epoch seconds), for environment `by` or, if empty, for its machine's sake."""

    at: float
    by: str
    reason: str


class MoveView(BaseModel):
    """A role goes to `to`: when as many nodes serve there as are `leaving`, these drain, and stand for `keep_s` more.

    `since` is when the last of these steps began (0: nobody came yet); `back` is why it goes back, if it does.
    """

    to: str
    leaving: tuple[str, ...]
    keep_s: float
    since: float
    back: str

    @classmethod
    def of(cls, move: Move | None) -> MoveView | None:
        return None if move is None else cls.model_validate(move, from_attributes=True)


class ScalingView(BaseModel):
    """A role is brought to `count` nodes: `coming` are built, or `going` go, at `drained_at` at the earliest.

    `run` configures and deploys those that come. `reason`: what it waits for; `fault`: why what came is taken back.
    """

    role: str
    count: int
    who: str
    why: str
    began_at: float
    coming: tuple[str, ...]
    going: tuple[str, ...]
    drained_at: float
    run: str
    replaces: bool = Field(description="lost nodes are replaced")
    moves: MoveView | None = Field(description="the role goes to other machines")
    reason: str
    fault: str

    @classmethod
    def of(cls, environment: Environment) -> ScalingView | None:
        scaling = environment.scaling
        if scaling is None:
            return None
        told = {name: getattr(scaling, name) for name in cls.model_fields}
        return cls.model_validate({**told, "moves": MoveView.of(scaling.moves)})


class CostView(BaseModel):
    """What it counts against its project's quota; nothing before it is reserved, and after it is gone."""

    environments: int
    nodes: int
    vcpu: float
    memory_mib: float
    disk_gib: float
    floating_addresses: int


class ContractView(BaseModel):
    """Durations in seconds, moments since the epoch, null where nobody can say it yet."""

    owner: str
    why: str
    name: str
    ttl_s: float = Field(description="it lives for so long once its nodes are in service")
    most_s: float = Field(description="and for so long at most, with all extensions and holds")
    ready_at: float | None = Field(description="when it was configured and deployed, too")
    dies_at: float | None
    last_end: float | None = Field(description="no extension or hold goes beyond")
    warned: bool
    protected: str
    may_end_earlier: list[str]
    costs: CostView
    pool: str = Field(description="the warm pool that was asked for it, if there was one")
    url: str = Field(description="the page of the pull request that it was made for, if so")
    host: str = Field(description="the name at which it answers requests instead of at its id, if so")

    @classmethod
    def of(cls, environment: Environment) -> ContractView | None:
        contract = environment.contract
        if contract is None:
            return None
        alive = contract.began_at > 0
        return cls(
            owner=contract.owner,
            why=contract.why,
            name=contract.name,
            ttl_s=contract.ttl_s,
            most_s=contract.most_s,
            ready_at=contract.ready_at or None,
            dies_at=environment.ends_at if alive and not environment.protected else None,
            last_end=contract.last_end if alive else None,
            warned=alive and contract.warned == environment.ends_at,
            protected=environment.protected,
            may_end_earlier=may_end(environment),
            costs=CostView(**vars(admission.use_of(environment))),
            pool=contract.pool,
            url=contract.url,
            host=contract.host,
        )


class EnvironmentView(BaseModel):
    id: str
    project: str
    service: str
    owner: str
    provider: str
    state: EnvironmentState
    reason: str
    fault: str
    created_at: float
    state_since: float
    ends_at: float
    position: int | None = Field(description="while it waits: its place among those that wait for the same")
    estimate_s: float | None = Field(description="about how long until it may have its place; null: nobody knows")
    notes: tuple[str, ...]
    preempted: int
    notice: NoticeView | None
    scaling: ScalingView | None = Field(description="the change of its nodes that goes on")
    degraded: str = Field(description="why it has not the nodes that it should have")
    contract: ContractView | None = Field(description="what holds for whoever asked for it; null: a run did")
    pool: str = Field(description="the warm pool that it was built for, if so")
    links: dict[str, str]
    networks: list[NetworkView]
    nodes: list[NodeView]

    @classmethod
    def of(cls, environment: Environment) -> EnvironmentView:
        made = {"networks", "nodes", "notice", "position", "estimate_s", "contract", "links", "scaling", "pool"}
        shown = {name: getattr(environment, name) for name in cls.model_fields if name not in made}
        notice = NoticeView(**vars(environment.notice)) if environment.notice is not None else None
        mine = {
            "contract": ContractView.of(environment),
            "links": _links(environment),
            "pool": environment.warm.pool if environment.warm is not None else "",
            "scaling": ScalingView.of(environment),
            "networks": [NetworkView(**vars(one)) for one in environment.networks],
            "nodes": [NodeView.of(node) for node in environment.nodes],
            "notice": notice,
        }
        return cls.model_validate({**shown, **_wait(environment), **mine})


def _links(environment: Environment) -> dict[str, str]:
    own = f"/v1/environments/{environment.id}"
    parts = ("nodes", "events", "logs", "address", "ssh", "extend", "hold", "protect", "scale", "move", "release")
    run = {"run": f"/v1/runs/{environment.owner}"} if environment.owner else {}
    return {"self": own, **{part: f"{own}/{part}" for part in parts}, **run}


class MeasuredView(BaseModel):
    node: str
    direction: str
    promise: int
    measured: float
    at_least: float
    ratio: float
    kept: bool

    @classmethod
    def of(cls, one: Measured) -> MeasuredView:
        return cls(**vars(one), ratio=one.ratio, kept=one.kept)


class QosCheckView(BaseModel):
    id: str
    environment: str
    asked_at: float
    finished_at: float | None
    kept: bool
    fault: str
    found: list[MeasuredView]

    @classmethod
    def of(cls, check: QosCheck) -> QosCheckView:
        found = [MeasuredView.of(one) for one in check.found]
        shown = {name: getattr(check, name) for name in cls.model_fields if name != "found"}
        return cls.model_validate({**shown, "found": found})


class TriggerView(BaseModel):
    id: str
    project: str
    kind: TriggerKind
    branch: str
    sha: str
    state: TriggerState
    reason: str
    run: str
    received_at: float

    @classmethod
    def of(cls, record: TriggerRecord) -> TriggerView:
        return cls(
            id=record.id,
            project=record.project,
            kind=record.trigger.kind,
            branch=record.trigger.branch or record.trigger.tag,
            sha=record.trigger.sha,
            state=record.state,
            reason=record.reason,
            run=record.run_id,
            received_at=record.received_at,
        )


class NewRun(Wish):
    """`repository` defaults to the project's; `ref` is a branch, tag or commit."""

    project: str
    repository: str = ""
    ref: str = "HEAD"


class Guarded(Wish):
    """Why; for each guard that is to be overridden the reason; whether to ask the guards and change nothing."""

    reason: str = Field(default="", max_length=500)
    overrides: dict[str, str] = {}
    dry_run: bool = False

    def asking(self, otherwise: str = "") -> Asking:
        """The wish of whoever holds the token; `otherwise`: the reason when none was given."""
        return Asking(BY_HAND, self.reason or otherwise, self.overrides, self.dry_run)


class Reasoned(Guarded):
    """The same, with a reason that cannot be left out."""

    reason: str = Field(min_length=1, max_length=500)


class Rerun(Wish):
    """`first`: the stage to begin with on the held nodes, or `failed` for the one that failed; whole when left out."""

    first: StageName | Literal["failed"] | None = None


class SshNode(BaseModel):
    name: str
    role: str
    address: str
    port: int
    user: str
    host_public_key: str


class SshAccess(BaseModel):
    environment: str
    private_key: str
    nodes: list[SshNode]


class FileView(BaseModel):
    name: str
    size: int


class LogView(FileView):
    complete: bool


class CaseView(BaseModel):
    suite: str
    classname: str
    name: str
    status: CaseStatus
    time_s: float
    message: str


class ReportView(BaseModel):
    name: str
    cases: list[CaseView]

    @classmethod
    def of(cls, name: str, report: TestReport) -> ReportView:
        return cls(name=name, cases=[CaseView.model_validate(vars(case)) for case in report.cases])


class EventView(BaseModel):
    position: str
    type: str
    at: float
    data: dict[str, object]
