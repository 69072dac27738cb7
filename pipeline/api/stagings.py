"""Routes of stagings: two slots, one of them live."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, Field

from pipeline.api.requests import AddressView, Duration, duration, span
from pipeline.api.views import Guarded, Wish
from pipeline.bootstrap import Application
from pipeline.domain.stagings import Check, Entry, Lock, Promotion, Slot, SlotName, Staging, StagingSpec, Wanted
from pipeline.envs.gate import Asking
from pipeline.stages.control import BY_HAND

Who = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[ -~]*$")]
Text = Annotated[str, Field(max_length=500)]


class NewCheck(Wish):
    """A command that must exit with 0 on every node of a role before a promotion."""

    run: str = Field(min_length=1, max_length=16 * 1024)
    role: str = Field(min_length=1, max_length=100)
    timeout: Duration = "1m"


class NewStaging(Wish):
    """`role` answers requests at `port`. Without `domain` it is the name below the deployment's base domain; without
    `blueprint`, a template, the greenroom.yml of each ref is taken; without `repository` the project's.
    """

    project: str
    role: str = Field(min_length=1, max_length=100)
    port: int
    domain: str = ""
    blueprint: str = ""
    repository: str = ""
    health: str = Field(default="/", description="the path that answers 2xx or 3xx while a node is well")
    sticky: bool = Field(default=False, description="a visitor stays with one node")
    checks: list[NewCheck] = Field(default=[], max_length=20)
    watch: Duration = Field(default="1m", description="for so long a promoted slot is watched")
    max_errors: float = Field(default=0.05, ge=0, le=1, description="more errors (5xx) than this share: it goes back")
    least_answers: int = Field(
        default=20, ge=1, description="before the end of the window, of at least so many answers"
    )
    drain: Duration = Field(default="30s", description="what is open in the old slot ends then; 0s: at once")
    keep: Duration = Field(default="1h", description="for so long a rollback is one switch")
    keep_warm: bool = Field(default=False, description="the old slot stays until the next deploy")
    approval: bool = Field(default=False, description="somebody must approve a slot before it is promoted")

    def spec(self) -> StagingSpec:
        checks = tuple(Check(one.run, one.role, duration("timeout", one.timeout)) for one in self.checks)
        return StagingSpec(
            **self.model_dump(exclude={"checks", "watch", "drain", "keep"}),
            checks=checks,
            watch_s=span("watch", self.watch),
            drain_s=span("drain", self.drain),
            keep_s=span("keep", self.keep),
        )


class NewDeploy(Wish):
    """`as_of`: when the ref was current (epoch seconds), so that an event that comes late changes nothing."""

    ref: str = Field(min_length=1, max_length=500)
    who: Who = BY_HAND
    reason: Text = ""
    as_of: float | None = None


class Act(Guarded):
    """Who wants it, beside what every guarded act is told."""

    who: Who = BY_HAND


class SlotView(BaseModel):
    """One slot. `url` is where it alone answers."""

    state: str
    environment: str
    number: int
    ref: str
    sha: str
    fault: str
    passed_at: float
    approved_by: str
    drains_until: float
    kept_until: float
    url: str

    @classmethod
    def of(cls, slot: Slot, base_domain: str) -> SlotView:
        url = f"{slot.environment}.{base_domain}" if slot.environment else ""
        return cls(**vars(slot), url=url)


class StagingView(BaseModel):
    """A staging. `activity` is what it does now."""

    name: str
    activity: str
    live: SlotName | None
    idle: SlotName
    blue: SlotView
    green: SlotView
    wanted: Wanted | None
    promotion: Promotion | None
    lock: Lock | None
    removing: bool
    created_at: float
    spec: StagingSpec
    links: dict[str, str]

    @classmethod
    def of(cls, one: Staging, base_domain: str) -> StagingView:
        own = f"/v1/stagings/{one.name}"
        return cls(
            name=one.name,
            activity=one.activity,
            live=one.live,
            idle=one.idle,
            blue=SlotView.of(one.blue, base_domain),
            green=SlotView.of(one.green, base_domain),
            wanted=one.wanted,
            promotion=one.promotion,
            lock=one.lock,
            removing=one.removing,
            created_at=one.created_at,
            spec=one.spec,
            links={"self": own, "history": f"{own}/history", "address": f"{own}/address"},
        )


def router(app: Application) -> APIRouter:
    routes = APIRouter(tags=["stagings"])
    _kept(app, routes)
    _acts(app, routes)
    _brakes(app, routes)
    return routes


def _view(app: Application, staging: Staging) -> StagingView:
    return StagingView.of(staging, app.settings.base_domain)


def _kept(app: Application, routes: APIRouter) -> None:
    @routes.get("/stagings", summary="All stagings")
    def stagings(project: str = "") -> list[StagingView]:
        return [_view(app, one) for one in app.stagings.all(project)]

    @routes.get("/stagings/{name}", summary="One staging")
    def staging(name: str) -> StagingView:
        return _view(app, app.stagings.get(name))

    @routes.put("/stagings/{name}", summary="Make a staging, or change what is wanted of it")
    def put(name: str, new: NewStaging) -> StagingView:
        return _view(app, app.stagings.put(name, new.spec()))

    @routes.post("/stagings/{name}/remove", status_code=202, summary="Take both slots back and forget it")
    def remove(name: str, act: Act | None = None) -> StagingView:
        return _view(app, app.stagings.remove(name, _asking(act, "removed by hand")))

    @routes.delete("/stagings/{name}", status_code=202, summary="The same, as `remove` without a body")
    def delete(name: str, dry_run: bool = False) -> StagingView:
        return _view(app, app.stagings.remove(name, _asking(Act(dry_run=dry_run), "removed by hand")))

    @routes.get("/stagings/{name}/address", summary="Where it is reached through the router, whatever slot is live")
    def address(name: str) -> AddressView:
        return AddressView(**vars(app.addresses.of_staging(name)))

    @routes.get("/stagings/{name}/history", summary="Who deployed, promoted and rolled back what, and when")
    def history(name: str) -> list[Entry]:
        return list(app.stagings.get(name).history)


def _acts(app: Application, routes: APIRouter) -> None:
    @routes.post(
        "/stagings/{name}/deploy", status_code=202, summary="Deliver a ref to the idle slot and run its stages"
    )
    def deploy(name: str, new: NewDeploy) -> StagingView:
        asking = _asking(Act(reason=new.reason, who=new.who), "deployed by hand")
        return _view(app, app.stagings.deploy(name, new.ref, asking, new.as_of))

    @routes.post("/stagings/{name}/promote", status_code=202, summary="Check the idle slot, make it live, watch it")
    def promote(name: str, act: Act | None = None) -> StagingView:
        return _view(app, app.stagings.promote(name, _asking(act, "promoted by hand")))

    @routes.post("/stagings/{name}/rollback", status_code=202, summary="Make the slot live again that was so before")
    def rollback(name: str, act: Act | None = None) -> StagingView:
        return _view(app, app.stagings.rollback(name, _asking(act, "rolled back by hand")))


def _brakes(app: Application, routes: APIRouter) -> None:
    @routes.post("/stagings/{name}/approve", summary="Let the idle slot be promoted")
    def approve(name: str, act: Act | None = None) -> StagingView:
        return _view(app, app.stagings.approve(name, _asking(act, "approved by hand")))

    @routes.post("/stagings/{name}/lock", summary="Let nobody deploy, promote or remove, for a reason")
    def lock(name: str, act: Act) -> StagingView:
        return _view(app, app.stagings.lock(name, _asking(act, "")))

    @routes.post("/stagings/{name}/unlock", summary="End the lock")
    def unlock(name: str, act: Act | None = None) -> StagingView:
        return _view(app, app.stagings.unlock(name, _asking(act, "unlocked by hand")))


def _asking(act: Act | None, why: str) -> Asking:
    wish = act or Act()
    return replace(wish.asking(why), who=wish.who)
