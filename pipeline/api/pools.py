"""Routes of warm pools."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, Field

from pipeline.api.requests import duration
from pipeline.api.views import Wish
from pipeline.bootstrap import Application
from pipeline.domain.pools import MAX_AGE_S, MOST
from pipeline.envs.gate import Asking
from pipeline.envs.pools import State
from pipeline.stages.control import BY_HAND


class NewPool(Wish):
    """`template` is the one of the pool's own name where none is given."""

    project: str = Field(max_length=100)
    template: str = Field(default="", max_length=100)
    ready: int = Field(ge=0, le=MOST, description="so many are kept ready")
    max: int | None = Field(
        default=None, ge=1, le=MOST, description="so many stand, handed out ones included; 2 x ready"
    )
    max_age: Annotated[str, Field(min_length=2, max_length=40, description="such as 30m or 8h")] | None = None


class PoolView(BaseModel):
    """Moments are seconds since the epoch; durations are in seconds."""

    name: str
    project: str
    template: str
    wanted: int = Field(description="so many are to be ready")
    max: int
    max_age_s: float
    created_at: float
    changed_at: float
    ready: int = Field(description="may be handed out now")
    preparing: int = Field(description="are asked for or built")
    handed_out: int = Field(description="were of this pool, and stand")
    hits: int = Field(description="requests that got a ready one, of those that are kept in the books")
    misses: int = Field(description="requests for which one had to be built")
    hit_wait_s: float | None = Field(description="from the request to ready, median of the last hits")
    miss_wait_s: float | None = Field(description="the same of the last misses")
    short: tuple[str, ...] = Field(description="why fewer are ready than should be")

    @classmethod
    def of(cls, state: State) -> PoolView:
        pool = state.pool
        own = {name: getattr(pool, name) for name in ("name", "project", "template", "created_at", "changed_at")}
        fares = {name: getattr(state, name) for name in vars(state) if name != "pool"}
        return cls.model_validate({**own, **fares, "wanted": pool.ready, "max": pool.most, "max_age_s": pool.max_age_s})


def router(app: Application) -> APIRouter:
    routes = APIRouter(tags=["warm pools"])

    @routes.get("/pools", summary="All warm pools")
    def pools() -> list[PoolView]:
        return [PoolView.of(app.pools.state(one.name)) for one in app.pools.all()]

    @routes.get("/pools/{name}", summary="One warm pool: what is ready, and why it is short")
    def pool(name: str) -> PoolView:
        return PoolView.of(app.pools.state(name))

    @routes.put("/pools/{name}", summary="Keep environments of a template ready, or change how many")
    def keep(name: str, new: NewPool) -> PoolView:
        age_s = MAX_AGE_S if new.max_age is None else duration("max_age", new.max_age)
        most = max(1, 2 * new.ready) if new.max is None else new.max
        app.pools.set(name, new.project, new.template or name, new.ready, most, age_s)
        return PoolView.of(app.pools.state(name))

    @routes.delete("/pools/{name}", summary="Remove a warm pool; what it handed out stays")
    def remove(name: str, dry_run: bool = False) -> PoolView:
        state = app.pools.state(name)
        app.pools.forget(name, Asking(BY_HAND, "removed by hand", dry_run=dry_run))
        return PoolView.of(state)

    return routes
