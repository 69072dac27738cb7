"""Routes of acceptances: asked for, watched, looked up."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, Field

from pipeline.api.projects import Limit, Offset
from pipeline.api.views import Guarded, MeasuredView, Page, TestCountsView
from pipeline.bootstrap import Application
from pipeline.domain.acceptances import AT_LEAST, IMAGE, PROFILE, SIZE, Acceptance, Terms
from pipeline.domain.runs import Verdict
from pipeline.stages.acceptances import NO_PROJECT, Wish

UNSAID = "before it goes into service"
MachineFilter = Annotated[str, Query(description="of one machine alone; together with its provider")]


class NewAcceptance(Guarded):
    """A node of this size and image is tried out on the machine, and has to get `at_least` of what the profile `qos`
    promises. `peer`: the machine of the node with which its network is measured; any other one in service where it is
    left out. The tests of the greenroom.yml of `repository` at `ref` judge it, too.
    """

    size: str = SIZE
    image: str = Field(default=IMAGE, min_length=1, max_length=200)
    qos: str = PROFILE
    at_least: float = Field(default=AT_LEAST, gt=0, le=1)
    peer: str = ""
    project: str = Field(default=NO_PROJECT, description="whose token, account and quota are used; none")
    repository: str = ""
    ref: str = ""

    def wish(self, provider: str, machine: str) -> Wish:
        terms = Terms(self.size, self.image, self.qos, self.at_least, self.peer)
        return Wish(provider, machine, terms, self.project, self.repository, self.ref)


class AcceptanceView(BaseModel):
    """`verdict` is null until it is finished. `tests` counts what the suites reported, `measured` is what the node got
    of each promise.
    """

    id: str
    provider: str
    machine: str
    who: str
    why: str
    size: str
    image: str
    qos: str
    at_least: float
    peer: str
    tests_of: str = Field(description="repository@sha whose tests judged, too")
    notes: list[str]
    run: str
    environment: str
    asked_at: float
    finished_at: float | None
    verdict: Verdict | None
    reason: str
    tests: TestCountsView
    measured: list[MeasuredView]
    links: dict[str, str]

    @classmethod
    def of(cls, one: Acceptance) -> AcceptanceView:
        terms = one.terms
        return cls(
            id=one.id,
            provider=one.provider,
            machine=one.machine,
            who=one.who,
            why=one.why,
            size=terms.size,
            image=terms.image,
            qos=terms.profile,
            at_least=terms.at_least,
            peer=terms.peer,
            tests_of=terms.tests,
            notes=list(one.notes),
            run=one.run,
            environment=one.environment,
            asked_at=one.asked_at,
            finished_at=one.finished_at,
            verdict=one.verdict,
            reason=one.reason,
            tests=TestCountsView.model_validate(vars(one.tests)),
            measured=[MeasuredView.of(each) for each in one.measured],
            links={"self": f"/v1/acceptances/{one.id}", "run": f"/v1/runs/{one.run}"},
        )


def router(app: Application) -> APIRouter:
    routes = APIRouter(tags=["acceptances"])

    @routes.post(
        "/machines/{provider}/{name}/acceptances",
        status_code=202,
        summary="Try a machine out of service out; the result decides whether it goes into service",
    )
    def accept(provider: str, name: str, new: NewAcceptance, response: Response) -> AcceptanceView:
        asked = app.acceptances.ask(new.wish(provider, name), new.asking(UNSAID))
        if not new.dry_run:
            response.headers["location"] = f"/v1/acceptances/{asked.id}"
        return AcceptanceView.of(asked)

    @routes.get("/acceptances", summary="Acceptances, newest first")
    def acceptances(
        provider: str = "", machine: MachineFilter = "", limit: Limit = 50, offset: Offset = 0
    ) -> Page[AcceptanceView]:
        found = app.acceptances.newest(provider, machine, limit + 1, offset)
        return Page.of([AcceptanceView.of(one) for one in found], offset, limit)

    @routes.get("/acceptances/{id}", summary="One acceptance, finished or not")
    def acceptance(id: str) -> AcceptanceView:
        return AcceptanceView.of(app.books.acceptances.get(id).value)

    return routes
