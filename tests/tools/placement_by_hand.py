"""Inventories, requests and nodes of placement that a test writes by hand, with the usual sizes."""

from __future__ import annotations

from dataclasses import replace

from pipeline.domain.inventory import Inventory, Machine, Zone
from pipeline.domain.placement.model import Request, RoleRequest, Standing
from pipeline.domain.rules import PlacementRules, Strategy, Within
from tests.tools.placement_instances import demand

NOW = 1000.0


def small(count: int = 4, zones: int = 2, **changes: object) -> Inventory:
    """Machines of 4 vCPU and 4 GiB in turn in zones."""
    capacity = {"vcpu": 4.0, "memory_mib": 4096.0, "disk_gib": 100.0}
    machines = tuple(Machine(f"m{at}", f"z{at % zones}", capacity) for at in range(count))
    fresh = Inventory(machines, tuple(Zone(f"z{at}") for at in range(zones)))
    return replace(fresh, **changes)  # type: ignore[arg-type]  # fields are given by name


def asking(*roles: RoleRequest, within: Within = Within.ANYWHERE, strategy: Strategy = Strategy.PACK) -> Request:
    return Request("env-1", "shop", "shop", roles, within, strategy)


def web(count: int, rules: PlacementRules | None = None, vcpu: float = 1.0) -> RoleRequest:
    return RoleRequest("web", count, demand(vcpu, 1024.0), rules=rules or PlacementRules())


def on(machine: str, vcpu: float, memory: float = 1024.0, **changes: object) -> Standing:
    node = Standing("other", "shop", "web", machine, demand(vcpu, memory), since=NOW - 100)
    return node._replace(**changes)  # type: ignore[arg-type]  # fields are given by name
