"""Routes of what projects get of a cloud for themselves; the secret of a credential is told once."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel, Field

from pipeline.api.views import Reasoned
from pipeline.bootstrap import Application
from pipeline.domain.cloud_setups import CloudSetup, Part
from pipeline.envs.cloud_setups import SetupWish


class NewCloudSetup(Reasoned):
    """`network`: that of the provider's settings, where it is empty. `renew`: a credential although there is one."""

    project: str
    network: str = Field(default="", max_length=255)
    cidr: str = Field(default=SetupWish.cidr, max_length=50)
    external_network: str = Field(default="", max_length=255)
    access_rules: bool = False
    renew: bool = False


class StepView(BaseModel):
    part: Part
    name: str
    there: bool = Field(description="it was there already: nothing of it had to be made")
    text: str


class CloudSetupView(BaseModel):
    """A setup, finished or not; kept for a day."""

    id: str
    provider: str
    project: str
    name: str
    who: str
    why: str
    dry_run: bool
    asked_at: float
    finished_at: float | None
    steps: list[StepView]
    refused: str = Field(description="the guard that refused it; empty: none did")
    fault: str = Field(description="why nothing, or not all of it, was made")
    has_secret: bool = Field(description="whether its credential's secret can still be asked for")

    @classmethod
    def of(cls, setup: CloudSetup) -> CloudSetupView:
        own = cls.model_fields.keys() - {"steps", "has_secret"}
        shown = {name: getattr(setup, name) for name in own}
        steps = [StepView.model_validate(vars(step)) for step in setup.steps]
        return cls(**shown, steps=steps, has_secret=setup.finished_at is not None and bool(setup.sealed_secret))


class CredentialView(BaseModel):
    """An entry of a clouds.yaml."""

    name: str
    entry: dict[str, object]


def router(app: Application) -> APIRouter:
    routes = APIRouter(tags=["servers"])

    @routes.post("/providers/{name}/setups", status_code=202, summary="Let a worker set a project up in a cloud")
    def ask(name: str, wish: NewCloudSetup) -> CloudSetupView:
        wanted = SetupWish(wish.cidr, wish.network, wish.external_network, wish.access_rules, wish.renew)
        return CloudSetupView.of(app.cloud_setups.ask(app.provider(name).name, wish.project, wanted, wish.asking()))

    @routes.get("/setups/{id}", summary="A setup of a project in a cloud, finished or not")
    def setup(id: str) -> CloudSetupView:
        return CloudSetupView.of(app.books.cloud_setups.get(id).value)

    @routes.post("/setups/{id}/credential", summary="The credential that a setup made, with its secret: once")
    def credential(id: str) -> CredentialView:
        told, secret = app.cloud_setups.tell(id)
        rest = dict(told.entry)
        auth = {name: rest.pop(name) for name in ("auth_url", "application_credential_id")}
        auth["application_credential_secret"] = secret.reveal()
        return CredentialView(name=told.name, entry={"auth_type": "v3applicationcredential", "auth": auth, **rest})

    return routes
