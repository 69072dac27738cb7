"""Why a request found no place: every machine's first refusal, by zone, and what would have to change."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from pipeline.domain.placement.attempt import Attempt
from pipeline.domain.placement.filters import FILTERS, Filter, Need, Question
from pipeline.domain.placement.fleet import Fleet, Rows
from pipeline.domain.placement.model import Explanation, Group, Request, RoleRequest
from pipeline.domain.placement.units import demand
from pipeline.domain.resources import DIMENSIONS

#: The rule of a role that wants to be near a service.
NEAR = "near"
#: Lines of a summary; the groups themselves are all there.
MOST_LINES = 8


def explain(fleet: Fleet, request: Request, attempt: Attempt) -> Explanation:
    """The explanation of the attempt that came furthest, for the role at which it was stuck."""
    role = attempt.stuck or request.roles[0]
    groups = _groups(fleet, request, role, attempt)
    remedies = tuple(dict.fromkeys(group.remedy for group in _nearest_first(groups)))[:3]
    return Explanation(role.role, _summary(role, attempt, groups, remedies), tuple(groups), remedies)


def _groups(fleet: Fleet, request: Request, role: RoleRequest, attempt: Attempt) -> list[Group]:
    return [
        group
        for zone, piece in enumerate(fleet.slices)
        for group in _of_zone(fleet, request, role, attempt, zone, np.arange(piece.start, piece.stop))
    ]


def _of_zone(fleet: Fleet, request: Request, role: RoleRequest, attempt: Attempt, zone: int, rows: Rows) -> list[Group]:
    name, groups, left = fleet.zones[zone].name, [], rows
    if len(rows) and role.rules.near_service is not None:
        beside = fleet.zones_with(request.project, role.rules.near_service)
        if zone not in beside:
            return [_far(fleet, role, role.rules.near_service, name, rows, anywhere=bool(beside))]
    for one in FILTERS:
        if not len(left) or not one.applies(fleet, role):
            continue
        question = _question(fleet, request, role, attempt, left)
        allowed = one.allows(question)
        refused = left[~allowed]
        if len(refused):
            groups.append(_group(one, _question(fleet, request, role, attempt, refused), name, len(rows)))
        left = left[allowed]
    if len(left):
        groups.append(_by_zone_rule(fleet, role, attempt, zone, left, len(rows)))
    return groups


def _far(fleet: Fleet, role: RoleRequest, service: str, zone: str, rows: Rows, *, anywhere: bool) -> Group:
    """A zone without the service that the role wants to be near; `anywhere`: there are zones with it."""
    names = tuple(fleet.machines[row].name for row in rows)
    if anywhere:
        why = f"no node of service {service} stands here"
        remedy = f"free room where nodes of service {service} stand, or leave `near` out"
    else:
        why = f"no node of service {service} stands anywhere"
        remedy = f"start an environment of service {service} in the same project, or leave `near` out"
    return Group(zone, role.role, NEAR, names, len(rows), why, remedy)


def _question(fleet: Fleet, request: Request, role: RoleRequest, attempt: Attempt, rows: Rows) -> Question:
    nothing = np.zeros(len(DIMENSIONS))
    taken = np.array([attempt.taken.get(int(row), nothing) for row in rows]).reshape(len(rows), len(DIMENSIONS)).T
    nodes = np.array([attempt.nodes[int(row)] for row in rows], dtype=np.intp)
    return Question(fleet, role, request.service, Need(role), rows, taken, nodes)


def _group(one: Filter, question: Question, zone: str, of: int) -> Group:
    why, remedy = one.why(question)
    names = tuple(question.fleet.machines[row].name for row in question.rows)
    return Group(zone, question.role.role, one.name, names, of, why, remedy)


def _by_zone_rule(fleet: Fleet, role: RoleRequest, attempt: Attempt, zone: int, rows: Rows, of: int) -> Group:
    """The rule that spans machines and keeps a node from those that would take it."""
    names = tuple(fleet.machines[row].name for row in rows)
    rule, why, remedy = _zone_rule(fleet, role, attempt, zone)
    return Group(fleet.zones[zone].name, role.role, rule, names, of, why, remedy)


def _zone_rule(fleet: Fleet, role: RoleRequest, attempt: Attempt, zone: int) -> tuple[str, str, str]:
    name = fleet.zones[zone].name
    allowed = attempt.allowed_zones(role)
    if allowed is not None and zone not in allowed:
        return "together", "the environment's other nodes stand elsewhere, and it stays together", "let it spread"
    if zone in attempt.full_zones(role):
        return (
            "spread",
            f"it has its share of role {role.role} already",
            f"let more than that of {role.role} into a zone",
        )
    if zone in attempt.uplinked_out(role):
        return "uplink", "its uplink has promised all it can carry", f"free network rate in zone {name}"
    if zone in attempt.unspared(role):
        return (
            "spare",
            "one more here, and some zone could not fail any more",
            "add machines, or give environments back",
        )
    return (
        "search",
        "one node fits, but no way to place all of them was found",
        "ask for fewer nodes, or free more room",
    )


def _nearest_first(groups: Sequence[Group]) -> list[Group]:
    """Rules that pass by themselves before those that somebody must change."""
    order = {
        "builds": 0,
        "load": 1,
        "capacity": 2,
        "whole": 2,
        "spread": 3,
        "uplink": 3,
        "spare": 3,
        NEAR: 4,
        "apart": 4,
        "state": 5,
    }
    return sorted(groups, key=lambda group: order.get(group.rule, 6))


def _summary(role: RoleRequest, attempt: Attempt, groups: Sequence[Group], remedies: Sequence[str]) -> str:
    placed = len(attempt.chosen[role.role])
    lines = [f"role {role.role}: {placed} of {role.count} nodes find a machine; each takes {demand(role.demand)}"]
    lines += _zone_lines(groups)
    if remedies:
        lines.append("to place it: " + "; or ".join(remedies))
    return "\n".join(lines)


def _zone_lines(groups: Sequence[Group]) -> list[str]:
    """One line a zone; zones that say the same share one."""
    told: dict[str, list[str]] = defaultdict(list)
    zones: dict[str, list[Group]] = defaultdict(list)
    for group in groups:
        zones[group.zone].append(group)
    for zone, inside in zones.items():
        text = "; ".join(f"{len(group.machines)} of {group.of} machines: {group.why}" for group in inside)
        told[text].append(zone)
    lines = [_zones(names) + text for text, names in told.items()]
    more = [f"and {len(lines) - MOST_LINES} more zones or groups of them"] if len(lines) > MOST_LINES else []
    return lines[:MOST_LINES] + more


def _zones(names: Sequence[str]) -> str:
    if len(names) == 1:
        return f"zone {names[0]}: "
    return f"each of {len(names)} zones ({names[0]} … {names[-1]}): "
