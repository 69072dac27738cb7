"""What hangs about in a cloud: objects of ours whose environment is no more, and others' that nothing uses.

Greenroom says of each what is safe to do next, and removes nothing that does not bear its mark.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from pipeline.domain.environments import FINAL_STATES, EnvironmentState


class ThingKind(StrEnum):
    """Kinds of objects that are looked for."""

    SERVER = "server"
    PORT = "port"
    ADDRESS = "floating-address"
    SECURITY_GROUP = "security-group"
    NETWORK = "network"
    SERVER_GROUP = "server-group"
    KEYPAIR = "keypair"
    VOLUME = "volume"
    IMAGE = "image"


#: By these the reaper finds the rest of an environment; what has none of them left, it does not see.
REAPED = frozenset({ThingKind.SERVER, ThingKind.SECURITY_GROUP})
#: What may be there on purpose although nothing uses it; it is told only when it bears our mark.
MEANT = frozenset({ThingKind.SERVER, ThingKind.NETWORK})
#: The words with which OpenStack's own command line shows an object.
SHOWS: Mapping[ThingKind, str] = {
    ThingKind.PORT: "port",
    ThingKind.ADDRESS: "floating ip",
    ThingKind.SECURITY_GROUP: "security group",
    ThingKind.SERVER_GROUP: "server group",
    ThingKind.KEYPAIR: "keypair",
    ThingKind.VOLUME: "volume",
    ThingKind.IMAGE: "image",
}
#: Two sightings at least so far apart are two, in seconds; what is being made may be seen once without its use.
SECOND_SIGHTING_S = 10.0


class Finding(StrEnum):
    """Why a thing is a leftover."""

    UNKNOWN = "unknown"
    OVER = "over"
    UNUSED = "unused"


@dataclass(frozen=True)
class Thing:
    """One object. `project` is the cloud's; `deployment` and `environment_id` are its mark; `used`: by something.

    `host`: a router has it for that name, and it does not go with the environment.
    """

    kind: ThingKind
    id: str
    name: str
    project: str = ""
    deployment: str = ""
    environment_id: str = ""
    used: bool = False
    host: str = ""


@dataclass(frozen=True)
class Leftover:
    """A thing that hangs about, in words, and the command that is safe to give; empty: there is nothing to do for us.

    `since` is when it was first seen so, in epoch seconds.
    """

    thing: Thing
    finding: Finding
    text: str
    action: str = ""
    since: float = 0.0


@dataclass(frozen=True)
class Known:
    """What is known beside the things: `states` of the environments that the books have, among those that things name.

    They are read after the look: an environment is in the books before anything of it is made.
    """

    deployment: str
    provider: str
    states: Mapping[str, EnvironmentState]


def leftovers(things: Iterable[Thing], known: Known) -> Iterator[Leftover]:
    """Ours without an environment first, then what nothing uses."""
    there = list(things)
    ours = [one for one in there if one.deployment == known.deployment]
    reaped = {one.environment_id for one in ours if one.kind in REAPED}
    for one in ours:
        state = known.states.get(one.environment_id)
        over = state is None or state in FINAL_STATES
        if one.host and over and not one.used:
            yield _routed(one)
        elif over and not one.host:
            yield _ours(one, state, known, seen_by_reaper=one.environment_id in reaped)
    for one in there:
        if one.deployment != known.deployment and not one.used and one.kind not in MEANT:
            yield _unused(one)


def _ours(thing: Thing, state: EnvironmentState | None, known: Known, *, seen_by_reaper: bool) -> Leftover:
    finding = Finding.UNKNOWN if state is None else Finding.OVER
    why = "in no book" if state is None else f"and its environment is {state}"
    if seen_by_reaper:
        text = f"bears our mark, {why}: the reaper adopts it until its lease ends, or takes it back by itself"
        return Leftover(thing, finding, text, "greenroom audit")
    text = f"bears our mark, {why}; no server and no security group of it is left, so the reaper does not see it"
    return Leftover(thing, finding, text, take_back(thing.environment_id, known.provider))


def _routed(thing: Thing) -> Leftover:
    text = (
        f"the router has it for {thing.host}, which leads to no environment that stands: a staging that is promoted "
        "again takes it, and DNS may name it; where neither is so, it may go"
    )
    return Leftover(thing, Finding.UNUSED, text, f"openstack floating ip delete {shlex.quote(thing.id)}")


def take_back(environment_id: str, provider: str) -> str:
    """The command that takes back what an environment left."""
    return f'greenroom cloud take-back {environment_id} --provider {provider} --reason "a leftover"'


def _unused(thing: Thing) -> Leftover:
    if thing.deployment:
        text = f"nothing uses it; it is of deployment {thing.deployment}, which takes care of what is its own"
        return Leftover(thing, Finding.UNUSED, text)
    text = "nothing uses it now, and it is not ours: Greenroom never touches it; ask whose it is before it goes"
    return Leftover(thing, Finding.UNUSED, text, f"openstack {SHOWS[thing.kind]} show {shlex.quote(thing.id)}")


def since(found: Iterable[Leftover], before: Iterable[Leftover], now: float) -> tuple[Leftover, ...]:
    """The same with when each was first seen so."""
    known = {_key(one): one.since for one in before}
    return tuple(replace(one, since=known.get(_key(one), now)) for one in found)


def _key(one: Leftover) -> tuple[str, str, str]:
    return one.finding, one.thing.kind, one.thing.id


def sightings(found: Iterable[Leftover], environment_id: str, deployment: str, at: float) -> int:
    """How often anything of ours was seen that an environment left: never, once, or at least twice."""
    firsts = [one.since for one in left_by(found, environment_id, deployment)]
    if not firsts:
        return 0
    return 2 if at - min(firsts) >= SECOND_SIGHTING_S else 1


def left_by(found: Iterable[Leftover], environment_id: str, deployment: str) -> list[Leftover]:
    """What of ours an environment left; what a router has for a host does not go with it."""
    whose = (deployment, environment_id)
    return [one for one in found if not one.thing.host and (one.thing.deployment, one.thing.environment_id) == whose]
