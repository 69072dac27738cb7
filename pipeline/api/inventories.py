"""Routes of inventories: what a file would change."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel, Field

from pipeline.bootstrap import Application
from pipeline.domain.changes import differences
from pipeline.envs.previews import Preview

#: Characters of an inventory.
LIMIT = 4 * 1024 * 1024


class NewInventory(BaseModel):
    """A whole inventory.yml; `source` names the file in messages."""

    inventory: str = Field(max_length=LIMIT)
    source: str = Field(default="inventory.yml", max_length=1000)


class ChangedView(BaseModel):
    """`short`: what the machine would lack of what was promised to the nodes on it."""

    machine: str
    differences: list[str]
    short: list[str]
    nodes: list[str]


class GoneView(BaseModel):
    """A machine without nodes is forgotten, one with some goes down."""

    machine: str
    nodes: list[str]


class DiffView(BaseModel):
    """`others`: what else would change, in words."""

    provider: str
    added: list[str]
    changed: list[ChangedView]
    gone: list[GoneView]
    others: list[str]
    unchanged: int

    @classmethod
    def of(cls, provider: str, preview: Preview, machines: int) -> DiffView:
        found = preview.changes
        changed = [
            ChangedView(
                machine=before.name,
                differences=list(differences(before, after)),
                short=list(preview.short[before.name]),
                nodes=list(preview.standing.get(before.name, ())),
            )
            for before, after in found.changed
        ]
        gone = [
            GoneView(machine=one.name, nodes=list(preview.standing.get(one.name, ())))
            for one in (*found.forgotten, *found.downed)
        ]
        return cls(
            provider=provider,
            added=[machine.name for machine in found.added],
            changed=changed,
            gone=gone,
            others=list(found.others),
            unchanged=machines - len(found.added) - len(changed),
        )


def router(app: Application) -> APIRouter:
    routes = APIRouter(tags=["placement"])

    @routes.post("/inventories/{provider}/diff", summary="What an inventory.yml would change; writes nothing")
    def diff(provider: str, new: NewInventory) -> DiffView:
        declared = app.parse_inventory(new.source, new.inventory.encode())
        return DiffView.of(provider, app.preview_inventory(provider, declared), len(declared.machines))

    return routes
