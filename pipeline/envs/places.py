"""Places that were reserved, looked at once more before something is built on them."""

from __future__ import annotations

from pipeline.domain.environments import Environment
from pipeline.domain.placement.fleet import Fleet
from pipeline.domain.placement.keeping import lost_place
from pipeline.domain.placement.requests import standing_of
from pipeline.envs.books import Books
from pipeline.envs.inventories import known_of


def lost(books: Books, environment: Environment) -> str:
    """Why an environment cannot be built where it was placed; empty when it can.

    Nothing is looked up while the inventory is as placement saw it: every change of a machine counts its version up.
    """
    provider = environment.provider
    loaded = books.inventories.find(provider)
    if loaded is None or loaded.version == environment.placed_under:
        return ""
    inventory = known_of(loaded, books.machines.everything(f"machines:{provider}"))
    standing = books.environments.everything(f"environments:standing:{provider}")
    fleet = Fleet(inventory, (node for one in standing for node in standing_of(one.value)))
    project = books.projects.find(environment.project)
    return lost_place(fleet, environment, () if project is None else project.value.rules)
