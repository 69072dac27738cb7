"""What has to be told to the cloud so that the hosts of one environment lead to it: pure, from what is seen.

A port has one floating address at most (Neutron), so every host needs a node of its own. Hosts that were switched go
first; the environment's own host has an address that leads nowhere where no node is left for it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from pipeline.adapters.routers.floating_ip.neutron import Held
from pipeline.clients.openstack import HostMark
from pipeline.domain.errors import PermanentError
from pipeline.domain.traffic import Backend


@dataclass(frozen=True)
class Step:
    """One call. `held` None: make an address; `mark` None: it serves nobody any more; else it leads to `inside`."""

    held: Held | None
    mark: HostMark | None = None
    inside: str = ""


def assigned(
    marks: Sequence[HostMark], places: Sequence[str], well: Collection[str], now: Mapping[HostMark, str]
) -> Mapping[HostMark, str]:
    """Which place each host has, the first ones first: one that is well; there the one it has; there one that no other
    has; then the first. Empty: there is none left.
    """
    found: dict[HostMark, str] = {}
    for mark in marks:
        others = {place for other, place in now.items() if other != mark}
        free = [place for place in dict.fromkeys(places) if place not in found.values()]
        found[mark] = min(free, key=lambda one: (one not in well, one != now.get(mark), one in others), default="")
    return found


def steps(
    backend: Backend,
    held: Sequence[Held],
    well: Collection[str],
    wanted: Sequence[HostMark],
    reserved: Mapping[str, str],
) -> Iterator[Step]:
    """In the order in which they have to be done. `wanted` are the marks of its hosts, the first ones first; `reserved`
    are addresses by the hosts that they are kept for. PermanentError when a reserved address cannot be had.
    """
    environment = backend.environment
    for one in held:
        if one.mark is not None and one.mark.own and one.mark.environment == environment and one.mark not in wanted:
            yield Step(one)
    there = {mark: _of(mark, held, reserved.get(mark.host, "")) for mark in wanted}
    chosen = {one.id for one in there.values() if one is not None}
    for one in held:
        if one.id not in chosen and any(_same_host(one.mark, mark) for mark in wanted):
            yield Step(one)
    now = {mark: one.inside for mark, one in there.items() if one is not None}
    to = assigned(wanted, [target.address for target in backend.targets], well, now)
    in_the_way = [mark for mark, place in now.items() if place and place != to[mark] and place in to.values()]
    for mark in in_the_way:
        yield Step(there[mark], mark)
    for mark in wanted:
        has = there[mark]
        stands = has is not None and (has.mark, has.inside) == (mark, to[mark])
        if not stands and not (mark in in_the_way and not to[mark]):
            yield Step(has, mark, to[mark])


def _of(mark: HostMark, held: Sequence[Held], reserved: str) -> Held | None:
    """The address that a host has, or the one that is kept for it; None: one has to be made."""
    if not reserved:
        mine = [one for one in held if _same_host(one.mark, mark)]
        return min(mine, key=lambda one: not one.inside, default=None)  # of several, one that leads somewhere
    kept = next((one for one in held if one.address == reserved), None)
    where = f"floating address {reserved}, which the settings keep for {mark.host},"
    if kept is None:
        raise PermanentError(
            f"{where} is not in the project of the cloud: make it there, or take it out of the settings"
        )
    if kept.mark is None and kept.inside:
        raise PermanentError(f"{where} leads to {kept.inside} by somebody else's will: take it off there first")
    if kept.mark is not None and kept.mark.host != mark.host:
        raise PermanentError(f"{where} serves {kept.mark.host}: name another one in the settings")
    return kept


def _same_host(one: HostMark | None, other: HostMark) -> bool:
    return one is not None and (one.host, one.own) == (other.host, other.own)
