"""Routes of placement: a dry run, and what passed the gate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from pipeline.api.runs import Position
from pipeline.bootstrap import Application
from pipeline.domain.placement.changes import Remedy
from pipeline.domain.placement.model import Candidate, Group, Infeasible, Placed, Unschedulable
from pipeline.envs.gate import AUDIT
from pipeline.envs.placements import Trial

#: Characters of a blueprint.
LIMIT = 256 * 1024


class NewPlacement(BaseModel):
    """A whole greenroom.yml, and for whom it is to be tried out where."""

    blueprint: str = Field(max_length=LIMIT)
    provider: str = ""
    project: str = ""


class StepView(BaseModel):
    """One change: the name of its kind, its words, and its parts."""

    change: str
    text: str
    what: dict[str, Any]


class RemedyView(BaseModel):
    """What is enough by itself: all of its steps."""

    text: str
    steps: list[StepView]

    @classmethod
    def of(cls, remedy: Remedy) -> RemedyView:
        steps = [StepView(change=type(one).__name__, text=str(one), what=asdict(one)) for one in remedy.steps]
        return cls(text=str(remedy), steps=steps)


class GroupView(BaseModel):
    zone: str
    role: str
    rule: str
    machines: list[str]
    of: int
    why: str
    remedy: str
    change: RemedyView | None = None

    @classmethod
    def of_group(cls, group: Group) -> GroupView:
        change = None if group.change is None else RemedyView.of(group.change)
        return cls.model_validate({**vars(group), "machines": list(group.machines), "change": change})


class CandidateView(BaseModel):
    """A machine and its points by score; more is better."""

    machine: str
    zone: str
    total: float
    points: dict[str, float]

    @classmethod
    def of(cls, one: Candidate, zones: Mapping[str, str]) -> CandidateView:
        return cls(machine=one.machine, zone=zones[one.machine], total=one.total, points=dict(one.points))


class PlaceView(BaseModel):
    """Where one node would stand, and why: the points of its machine, and of the best other one that would take it."""

    role: str
    node: str
    machine: str
    zone: str
    chosen: CandidateView | None = None
    other: CandidateView | None = None


class PlacementView(BaseModel):
    """`placed` now; `unschedulable`: it would wait; `infeasible`: proved that it never fits.

    `text` is all that a person is told of a refusal, the same words wherever it is told.
    """

    answer: Literal["placed", "unschedulable", "infeasible"]
    provider: str
    nodes: list[PlaceView] = []
    notes: list[str] = []
    rule: str = ""
    summary: str = ""
    text: str = ""
    remedies: list[RemedyView] = []
    groups: list[GroupView] = []

    @classmethod
    def of(cls, trial: Trial) -> PlacementView:
        decision = trial.decision
        if isinstance(decision, Placed):
            return cls(answer="placed", provider=trial.provider, nodes=_places(trial), notes=list(decision.notes))
        return cls.refused(trial.provider, decision)

    @classmethod
    def refused(cls, provider: str, decision: Unschedulable | Infeasible) -> PlacementView:
        told = decision.explanation
        return cls(
            answer="infeasible" if isinstance(decision, Infeasible) else "unschedulable",
            provider=provider,
            summary=told.summary,
            rule=told.rule,
            text=str(told),
            remedies=[RemedyView.of(remedy) for remedy in told.remedies],
            groups=[GroupView.of_group(group) for group in told.groups],
        )


def _places(trial: Trial) -> list[PlaceView]:
    def view(one: Candidate | None) -> CandidateView | None:
        return None if one is None else CandidateView.of(one, trial.zones)

    return [
        PlaceView(
            role=one.role,
            node=f"{one.role}-{one.number}",
            machine=one.chosen.machine,
            zone=trial.zones[one.chosen.machine],
            chosen=view(one.chosen),
            other=view(one.other),
        )
        for one in trial.choices
    ]


class AuditView(BaseModel):
    act: str
    at: float
    target: str
    who: str
    why: str
    dry_run: bool
    refused: str = ""
    because: str = ""
    overridden: dict[str, str] = {}
    verified: bool | None = Field(default=None, description="whether it was seen to be gone; null: this tells the act")
    still: str = Field(default="", description="what was still there")
    keys: list[str] = Field(default=[], description="fingerprints and words of the public keys that were installed")


def router(app: Application) -> APIRouter:
    routes = APIRouter(tags=["placement"])

    @routes.post("/placements", summary="Where a blueprint's nodes would stand now, or why nowhere; writes nothing")
    def placement(new: NewPlacement) -> PlacementView:
        blueprint = app.reader.read("greenroom.yml", new.blueprint.encode())
        return PlacementView.of(app.placements.try_out(blueprint, new.provider, new.project))

    @routes.get("/audit", summary="What passed the gate and what was refused, oldest first")
    def audit(after: Position = "", limit: Annotated[int, Query(ge=1, le=1000)] = 200) -> list[AuditView]:
        found = app.store.events(AUDIT, after=after, limit=limit)
        return [AuditView(act=one.type.removeprefix("audit."), at=one.at, **one.data) for one in found]

    return routes
