"""What an operator does to a provider's cloud itself: its flavors, images, networks, machines, and what was left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from pipeline.domain.errors import UserError
from pipeline.domain.moving_off import AT_ONCE, Move, Policy


class ObjectKind(StrEnum):
    """What may be acted on."""

    FLAVOR = "flavor"
    IMAGE = "image"
    NETWORK = "network"
    MACHINE = "machine"
    ENVIRONMENT = "environment"


class Verb(StrEnum):
    """What may be done. `restart-agent` changes nothing: it asks whether a machine's agent may be restarted now.

    `take-back` removes what an environment left that is in no book, or over.
    """

    DELETE = "delete"
    TAKE_BACK = "take-back"
    TAKE_OUT = "take-out"
    PUT_BACK = "put-back"
    RESTART_AGENT = "restart-agent"


#: What each may be done to; all others to machines alone.
FITTING: Mapping[Verb, Sequence[ObjectKind]] = {
    Verb.DELETE: (ObjectKind.FLAVOR, ObjectKind.IMAGE, ObjectKind.NETWORK),
    Verb.TAKE_BACK: (ObjectKind.ENVIRONMENT,),
}


@dataclass(frozen=True)
class CloudObject:
    """One object of a cloud; `id` is the cloud's."""

    kind: ObjectKind
    id: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


@dataclass(frozen=True)
class CloudAct:
    """One act that was asked for. Times are seconds since the epoch; `finished_at` None: it is not done yet.

    `outcome` is what came of it. `refused` is the guard that refused it, and `fault` why nothing, or not all, was done.
    `left` are users that a machine still has. `meant` is the object that is deleted, which stands here before it goes.

    `policy`, `at_once` and `moves`: what becomes of the servers on a machine that goes out. `due_at` is when it is to
    be looked at again while it is not done.
    """

    id: str
    provider: str
    verb: Verb
    kind: ObjectKind
    name: str
    who: str
    why: str
    asked_at: float
    overrides: Mapping[str, str] = field(default_factory=dict)
    dry_run: bool = False
    finished_at: float | None = None
    outcome: str = ""
    refused: str = ""
    fault: str = ""
    left: tuple[str, ...] = ()
    policy: Policy = Policy.DISABLE
    at_once: int = AT_ONCE
    moves: tuple[Move, ...] = ()
    due_at: float = 0.0
    meant: CloudObject | None = None


def check_fits(verb: Verb, kind: ObjectKind, policy: Policy = Policy.DISABLE) -> None:
    """UserError when such a thing cannot be done to such an object."""
    if policy is not Policy.DISABLE and verb is not Verb.TAKE_OUT:
        raise UserError(f"policy {policy} is for {Verb.TAKE_OUT} alone, not for {verb}")
    fitting = FITTING.get(verb, (ObjectKind.MACHINE,))
    if kind not in fitting:
        raise UserError(f"{verb} of a {kind}: expected a {' or '.join(fitting)}")


def the_one(kind: ObjectKind, name: str, found: Sequence[CloudObject]) -> CloudObject:
    """The only object that was found by a name; UserError when there is none, or several."""
    if not found:
        raise UserError(f"there is no {kind} {name[:80]!r} in the cloud")
    if len(found) > 1:
        ids = ", ".join(one.id for one in found)
        raise UserError(f"{len(found)} {kind}s have the name {name[:80]!r}; name one by its id: {ids}")
    return found[0]
