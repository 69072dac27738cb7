"""Why a request found no place: every machine's first refusal, by zone, and what would have to change."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np

from pipeline.domain.placement.attempt import Attempt
from pipeline.domain.placement.changes import Remedy
from pipeline.domain.placement.filters import FILTERS, Filter, Need, Question
from pipeline.domain.placement.fleet import Fleet, Rows
from pipeline.domain.placement.model import Explanation, Group, Request, RoleRequest
from pipeline.domain.placement.remedies import remedies
from pipeline.domain.placement.units import demand
from pipeline.domain.resources import DIMENSIONS

#: The rule of a role that wants to be near a service.
NEAR = "near"
#: Lines of a summary; the groups themselves are all there.
MOST_LINES = 8
#: What single rules would need, where nothing was found that is enough.
MOST_HINTS = 4
#: The reason of every explanation of a request that waits.
RULE = "no-room"


def explain(fleet: Fleet, request: Request, attempt: Attempt) -> Explanation:
    """The explanation of the attempt that came furthest, for the role at which it was stuck."""
    role = attempt.stuck or request.roles[0]
    groups = _groups(fleet, request, role, attempt)
    found = remedies(fleet, request, attempt)
    return Explanation(role.role, _summary(role, attempt, groups, found), tuple(groups), found, RULE)


def _groups(fleet: Fleet, request: Request, role: RoleRequest, attempt: Attempt) -> list[Group]:
    refused = _refused(fleet, request, role, attempt)
    groups = []
    for zone, piece in enumerate(fleet.slices):
        rows, of = np.arange(piece.start, piece.stop), piece.stop - piece.start
        if len(rows) and (far := _far(fleet, request, role, zone, rows)) is not None:
            groups.append(far)
            continue
        for at, one in enumerate(FILTERS):
            if len(by := rows[refused[rows] == at]):
                groups.append(_group(one, _question(fleet, request, role, attempt, by), fleet.zones[zone].name, of))
        if len(left := rows[refused[rows] == len(FILTERS)]):
            groups.append(_by_zone_rule(fleet, role, attempt, zone, left, of))
    return groups


def _far(fleet: Fleet, request: Request, role: RoleRequest, zone: int, rows: Rows) -> Group | None:
    """A zone without the service that the role wants to be near, if there is such a wish and this is such a zone."""
    service = role.rules.near_service
    beside = fleet.zones_with(request.project, service) if service is not None else frozenset({zone})
    if zone in beside:
        return None
    if beside:
        why = f"no node of service {service} stands here"
        remedy = f"free room where nodes of service {service} stand, or leave `near` out"
    else:
        why = f"no node of service {service} stands anywhere"
        remedy = f"start an environment of service {service} in the same project, or leave `near` out"
    names = tuple(fleet.machines[row].name for row in rows)
    return Group(fleet.zones[zone].name, role.role, NEAR, names, len(rows), why, remedy)


def _refused(fleet: Fleet, request: Request, role: RoleRequest, attempt: Attempt) -> Rows:
    """For each row the place of the first filter that refuses it; behind the last one where none does."""
    refused = np.full(len(fleet.machines), len(FILTERS), dtype=np.intp)
    left = np.arange(len(fleet.machines))
    for at, one in enumerate(FILTERS):
        if len(left) and one.applies(fleet, role):
            allowed = one.allows(_question(fleet, request, role, attempt, left))
            refused[left[~allowed]] = at
            left = left[allowed]
    return refused


def _question(fleet: Fleet, request: Request, role: RoleRequest, attempt: Attempt, rows: Rows) -> Question:
    taken, nodes = np.zeros((len(DIMENSIONS), len(rows))), np.zeros(len(rows), dtype=np.intp)
    for at in np.flatnonzero(np.isin(rows, list(attempt.taken))):
        row = int(rows[at])
        taken[:, at], nodes[at] = attempt.taken[row], attempt.nodes[row]
    return Question(fleet, role, request.service, Need(role), rows, taken, nodes)


def _group(one: Filter, question: Question, zone: str, of: int) -> Group:
    why, remedy = one.why(question)
    names = tuple(question.fleet.machines[row].name for row in question.rows)
    change = remedy if isinstance(remedy, Remedy) else None
    return Group(zone, question.role.role, one.name, names, of, why, str(remedy), change)


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
            f"let more nodes of role {role.role} into a zone",
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


def _summary(role: RoleRequest, attempt: Attempt, groups: Sequence[Group], found: Sequence[Remedy]) -> str:
    placed = len(attempt.chosen[role.role])
    lines = [f"role {role.role}: {placed} of {role.count} nodes find a machine; each takes {demand(role.demand)}"]
    lines += _zone_lines(groups)
    if not found:
        each = "; ".join(list(dict.fromkeys(group.remedy for group in groups))[:MOST_HINTS])
        lines.append(f"no change was found that is enough by itself; what each of these would need: {each}")
    return "\n".join(lines)


def _zone_lines(groups: Sequence[Group]) -> list[str]:
    """One line a zone; zones that say the same share one. Where these are too many, one line a rule."""
    told: dict[str, list[str]] = defaultdict(list)
    zones: dict[str, list[Group]] = defaultdict(list)
    for group in groups:
        zones[group.zone].append(group)
    for zone, inside in zones.items():
        told[_of_a_zone(inside)].append(zone)
    lines = [_zones(names) + text for text, names in told.items()]
    return lines if len(lines) <= MOST_LINES else _by_rule(groups, len(zones))


def _by_rule(groups: Sequence[Group], zones: int) -> list[str]:
    """What each rule refused in all zones, with what most machines say of it."""
    of = sum({group.zone: group.of for group in groups}.values())
    whys: dict[str, Counter[str]] = defaultdict(Counter)
    for group in groups:
        whys[group.rule][group.why] += len(group.machines)
    lines = [f"of {of} machines in {zones} zones"]
    for said in whys.values():
        most = "" if len(said) == 1 else "most of them: "
        lines.append(f"  {said.total()}: {most}{said.most_common(1)[0][0]}")
    return lines


def _of_a_zone(groups: Sequence[Group]) -> str:
    """`14 of 16 machines: at least 12 GiB memory short; 2: quarantined since ...`."""
    first, *others = groups
    texts = [f"{len(first.machines)} of {first.of} {'machine' if first.of == 1 else 'machines'}: {first.why}"]
    texts += [f"{len(group.machines)}: {group.why}" for group in others]
    return "; ".join(texts)


def _zones(names: Sequence[str]) -> str:
    if len(names) == 1:
        return f"zone {names[0]}: "
    return f"each of {len(names)} zones ({names[0]} … {names[-1]}): "
