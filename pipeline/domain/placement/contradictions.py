"""Rules of one request that contradict each other, whatever stands on the machines: the fewest that do, all named.

Rules are compared by the machines, or the zones, that each of them leaves.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from pipeline.domain.placement.changes import (
    DropRule,
    FallBack,
    Gather,
    LeaveNear,
    LetSpread,
    LowerCount,
    RaiseZoneShare,
    Remedy,
    RequestChange,
)
from pipeline.domain.placement.filters import hard, keeps
from pipeline.domain.placement.fleet import Flags, Fleet
from pipeline.domain.placement.model import Explanation, Request, RoleRequest
from pipeline.domain.placement.shapes import shape_of, zone_share
from pipeline.domain.rules import BareMetal, Spread, Within

RULE = "contradiction"
#: Rules that are looked at together; more than that contradict each other only all together.
TOGETHER = 3


@dataclass(frozen=True)
class _Part:
    """One rule: how a person knows it, what gives it up, and what it leaves (of machines, or of zones)."""

    words: str
    gives_up: RequestChange
    leaves: frozenset[int]

    def __str__(self) -> str:
        return self.words


def contradiction(fleet: Fleet, request: Request) -> Explanation | None:
    """The first contradiction that there is; `fleet` may be in any state."""
    for role in request.roles:
        found = _of_machines(fleet, role) or _of_zones(fleet, request, role) or _near(fleet, request, role)
        if found is not None:
            return found
    return _within(fleet, request)


def _told(role: str, why: str, *ways: Sequence[RequestChange]) -> Explanation:
    remedies = tuple(Remedy(tuple(way)) for way in ways)
    return Explanation(role, f"role {role} can never be placed: {why}", remedies=remedies, rule=RULE)


# -- the rules of one role about machines


def _parts(fleet: Fleet, role: RoleRequest) -> list[_Part]:
    parts = [_Part(str(rule), DropRule(role.role, rule), _rows(keeps(fleet, rule))) for rule in hard(role)]
    if role.rules.bare_metal is BareMetal.REQUIRED:
        parts.append(_Part("bare_metal: required (greenroom.yml)", FallBack(role.role), _rows(fleet.bare)))
    return parts


def _rows(flags: Flags) -> frozenset[int]:
    return frozenset(np.flatnonzero(flags).tolist())


def _of_machines(fleet: Fleet, role: RoleRequest) -> Explanation | None:
    parts, every = _parts(fleet, role), frozenset(range(len(fleet.machines)))
    if not every or _common(parts, every):
        return None
    fewest = _fewest(parts, every)
    ways = [[part.gives_up for part in left_out] for left_out in _enough(fewest, parts, every)]
    return _told(role.role, _contradict(fewest, "machine"), *ways)


def _common(parts: Sequence[_Part], every: frozenset[int]) -> frozenset[int]:
    return every.intersection(*(part.leaves for part in parts))


def _fewest(parts: Sequence[_Part], every: frozenset[int]) -> Sequence[_Part]:
    """The fewest of the parts that leave nothing together, all of them if these are many."""
    for size in range(1, min(TOGETHER, len(parts)) + 1):
        for some in combinations(parts, size):
            if not _common(some, every):
                return some
    return parts


def _enough(fewest: Sequence[_Part], parts: Sequence[_Part], every: frozenset[int]) -> Iterator[Sequence[_Part]]:
    """The least that is to be given up so that the others leave something: one of the fewest, else more."""
    for size in range(1, len(parts) + 1):
        found = [
            some
            for some in combinations(fewest if size == 1 else parts, size)
            if _common([part for part in parts if part not in some], every)
        ]
        if found:
            yield from found
            return


def _contradict(parts: Sequence[_Part], what: str) -> str:
    if len(parts) == 1:
        return f"{parts[0].words} leaves no {what}"
    first, second, *others = parts
    if not others:
        return f"{first.words} contradicts {second.words}: no {what} keeps both"
    return f"{'; '.join(part.words for part in parts)} contradict each other: no {what} keeps them all"


# -- the zones that roles may share


def _apart(fleet: Fleet, request: Request, roles: Sequence[RoleRequest]) -> tuple[str, list[RequestChange]] | None:
    """The rules that leave the roles no zone in common (no region, where the environment may use a whole one), and
    those of them of which one may be given up; None when there is a common one.
    """
    own = {role.role: _parts(fleet, role) for role in roles}
    parts = [_of_role(fleet, request, role, part) for role, some in own.items() for part in some]
    every = frozenset(range(len(fleet.zones)))
    if not _common(parts, every):
        fewest = _fewest(parts, every)
        single = [some[0].gives_up for some in _enough(fewest, parts, every) if len(some) == 1]
        return " and ".join(part.words for part in fewest), single
    if any(_shared(fleet, request, own, zone) for zone in every):
        return None
    return " and ".join(f"{'; '.join(map(str, some))} of role {role}" for role, some in own.items() if some), []


def _of_role(fleet: Fleet, request: Request, role: str, part: _Part) -> _Part:
    zones = frozenset(zone for row in part.leaves for zone in _reach(fleet, request, int(fleet.zone[row])))
    return _Part(f"{part.words} of role {role}", part.gives_up, zones)


def _reach(fleet: Fleet, request: Request, zone: int) -> frozenset[int]:
    """The zones that one environment may use together with this one."""
    if request.within is not Within.REGION:
        return frozenset({zone})
    return frozenset(at for at, one in enumerate(fleet.zones) if one.region == fleet.zones[zone].region)


def _shared(fleet: Fleet, request: Request, own: Mapping[str, Sequence[_Part]], zone: int) -> bool:
    """Whether each role may use some machine in reach of a zone, by all of its own rules."""
    rows = frozenset(np.flatnonzero(np.isin(fleet.zone, list(_reach(fleet, request, zone)))).tolist())
    return all(_common(parts, rows) for parts in own.values())


def _near(fleet: Fleet, request: Request, role: RoleRequest) -> Explanation | None:
    target = next((other for other in request.roles if other.role == role.rules.near), None)
    if target is None:
        return None
    near, leave = f"`near: {target.role}` (greenroom.yml)", [LeaveNear(role.role, target.role)]
    apart = _apart(fleet, replace(request, within=Within.ZONE), [role, target])
    if apart is not None:
        why = f"{near} contradicts {apart[0]}: no zone has machines for both roles"
        return _told(role.role, why, leave, *([one] for one in apart[1]))
    share = zone_share(shape_of(fleet, request, role), role)
    if share is None or role.count <= share * target.count:
        return None
    nodes = "node stands in one zone" if target.count == 1 else f"nodes stand in at most {target.count} zones"
    why = f"{_bound(role, share)} contradicts {near}, whose {nodes}, for a count of {role.count}"
    return _told(role.role, why, leave, *_looser(role, target.count))


def _bound(role: RoleRequest, share: int) -> str:
    """The rule that lets no more than its share of a role into one zone."""
    if role.rules.max_per_zone == share:
        return f"`max_per_zone: {share}` ({role.rules.bound_by})"
    return f"`spread: {role.rules.spread}` (greenroom.yml)"


def _looser(role: RoleRequest, zones: int) -> Iterator[Sequence[RequestChange]]:
    """What a role whose nodes must stand in so few zones may give up: the rules that keep them apart, or nodes."""
    share = -(-role.count // zones)
    loose: list[RequestChange] = []
    if role.rules.max_per_zone is not None and role.rules.max_per_zone < share:
        loose.append(RaiseZoneShare(role.role, share))
    if role.rules.spread is Spread.ZONE:
        loose.append(Gather(role.role, role.rules.spread))
    yield loose
    yield [LowerCount(role.role, zones if role.rules.spread is Spread.ZONE else zones * (role.rules.max_per_zone or 1))]


# -- how many may stand in a zone, and how many zones there are


def _of_zones(fleet: Fleet, request: Request, role: RoleRequest) -> Explanation | None:
    """As many nodes as there are, at most so many in a zone, and too few zones that its other rules leave."""
    most = role.rules.max_per_zone
    zones = shape_of(fleet, request, role).permitted_zones
    if most is None or role.count <= most * zones:
        return None
    rules = [str(rule) for rule in hard(role)]
    few = "1 zone" if zones == 1 else f"{zones} zones"
    left = (
        f"its other rules leave {few} ({'; '.join(rules)})" if rules else f"there {'is' if zones == 1 else 'are'} {few}"
    )
    why = f"`max_per_zone: {most}` ({role.rules.bound_by}) contradicts its count of {role.count}: {left}"
    ways: list[Sequence[RequestChange]] = [
        [RaiseZoneShare(role.role, -(-role.count // zones))],
        [LowerCount(role.role, most * zones)],
    ]
    return _told(role.role, why, *ways)


# -- all roles within one zone or region


def _within(fleet: Fleet, request: Request) -> Explanation | None:
    if request.within is Within.ANYWHERE:
        return None
    apart = _apart(fleet, request, request.roles)
    if apart is None:
        return _crowded(fleet, request)
    why = f"`within: {request.within}` (greenroom.yml) contradicts {apart[0]}"
    told = f"it can never be placed: {why}: no {request.within} has machines for all roles"
    ways = tuple(Remedy((way,)) for way in (LetSpread(request.within), *apart[1]))
    return Explanation(request.roles[0].role, told, remedies=ways, rule=RULE)


def _crowded(fleet: Fleet, request: Request) -> Explanation | None:
    """A role that may not stand in one zone, in an environment that must."""
    if request.within is not Within.ZONE:
        return None
    for role in request.roles:
        share = zone_share(shape_of(fleet, request, role), role)
        if share is not None and share < role.count:
            why = f"{_bound(role, share)} contradicts `within: zone` (greenroom.yml), for a count of {role.count}"
            return _told(role.role, why, [LetSpread(request.within)], *_looser(role, 1))
    return None
