"""Stagings: two slots of which one is live, as data and pure transitions.

Deployments and promotions are numbered. What is told of one that is not the current one any more changes nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from pipeline.domain.errors import InvalidTransition
from pipeline.domain.moments import to_the_second
from pipeline.domain.traffic import Door, Reading

#: Entries of a staging's own history; the event stream has all of them.
REMEMBERED = 100


#: Of a contract whose environment is a slot.
OWNER = "staging "


def protection(name: str) -> str:
    """Why nothing but its staging takes a slot back."""
    return f"a slot of staging {name}"


class SlotName(StrEnum):
    BLUE = "blue"
    GREEN = "green"

    @property
    def other(self) -> SlotName:
        return SlotName.GREEN if self is SlotName.BLUE else SlotName.BLUE


class SlotState(StrEnum):
    """`passed`: it may be promoted. `failed`: its stages did, or it was promoted and went bad."""

    EMPTY = "empty"
    DEPLOYING = "deploying"
    PASSED = "passed"
    FAILED = "failed"


class Activity(StrEnum):
    """`checking`: the checks before a promotion run. `switching`: the router is being told. `watching`: the promoted
    slot has the traffic, and its errors and health are looked at.
    """

    IDLE = "idle"
    DEPLOYING = "deploying"
    CHECKING = "checking"
    SWITCHING = "switching"
    WATCHING = "watching"


P = Activity
TRANSITIONS: Mapping[Activity, frozenset[Activity]] = {
    P.IDLE: frozenset({P.DEPLOYING, P.CHECKING, P.SWITCHING}),
    P.DEPLOYING: frozenset({P.DEPLOYING, P.IDLE}),
    P.CHECKING: frozenset({P.SWITCHING, P.IDLE}),
    P.SWITCHING: frozenset({P.WATCHING, P.IDLE}),
    P.WATCHING: frozenset({P.SWITCHING, P.IDLE}),
}


@dataclass(frozen=True)
class Check:
    """A command that exits with 0 on every node of `role` before a promotion."""

    run: str
    role: str
    timeout_s: float = 60.0


@dataclass(frozen=True)
class StagingSpec:
    """What somebody wants of a staging. `role` answers requests at `port`; times are seconds.

    `blueprint` is the name of a template, empty: the greenroom.yml of each ref. After a promotion it is watched for
    `watch_s`; it goes back when more than `max_errors` (a share) of at least `least_answers` answers are errors, or
    nothing is up. What is open in the old slot ends at `drain_s`. The old slot is kept for `keep_s`, or with
    `keep_warm` until the next deploy. `approval`: somebody must approve a slot before it is promoted.
    """

    project: str
    domain: str
    role: str
    port: int
    blueprint: str = ""
    repository: str = ""
    health: str = "/"
    sticky: bool = False
    checks: tuple[Check, ...] = ()
    watch_s: float = 60.0
    max_errors: float = 0.05
    least_answers: int = 20
    drain_s: float = 30.0
    keep_s: float = 3600.0
    keep_warm: bool = False
    approval: bool = False


@dataclass(frozen=True)
class Slot:
    """`number` is the deployment that it holds. `drains_until`: it lost the traffic, and what is open there ends then
    at the latest; 0: nothing is. `kept_until`: it is taken back then; 0: it is not. `door` is where it answered, and
    `sticky` how, when it was promoted last: what is wanted of the staging since then holds from its next promotion.
    """

    state: SlotState = SlotState.EMPTY
    environment: str = ""
    number: int = 0
    ref: str = ""
    sha: str = ""
    fault: str = ""
    passed_at: float = 0.0
    approved_by: str = ""
    drains_until: float = 0.0
    kept_until: float = 0.0
    door: Door | None = None
    sticky: bool = False


@dataclass(frozen=True)
class Wanted:
    """A deploy that somebody asked for and that has not begun. `as_of` is when its ref was current."""

    number: int
    ref: str
    sha: str
    who: str
    why: str
    as_of: float


@dataclass(frozen=True)
class Promotion:
    """A change of the live slot to `slot`. `back`: it is a rollback, which is neither checked nor watched.

    `checks` are ids of commands; `answers` and `errors` what the router had counted of the slot before it got the
    traffic. `switched_at` is when the router was told, in `switch_s` seconds; `bad` why it goes back.
    """

    number: int
    slot: SlotName
    who: str
    why: str
    asked_at: float
    back: bool = False
    overrides: Mapping[str, str] = field(default_factory=dict)
    checks: tuple[str, ...] = ()
    answers: int = 0
    errors: int = 0
    switched_at: float = 0.0
    switch_s: float = 0.0
    bad: str = ""


@dataclass(frozen=True)
class Entry:
    """One line of the history: `what` became of deployment or promotion `number`."""

    at: float
    what: str
    number: int
    slot: SlotName
    ref: str
    sha: str
    who: str
    why: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Lock:
    """Nobody deploys, promotes or removes while it holds; a rollback is always possible."""

    who: str
    reason: str
    at: float


@dataclass(frozen=True)
class Staging:
    """Times are seconds since the epoch. `leaving` are environments that no slot has any more."""

    name: str
    spec: StagingSpec
    created_at: float
    blue: Slot = field(default_factory=Slot)
    green: Slot = field(default_factory=Slot)
    live: SlotName | None = None
    activity: Activity = Activity.IDLE
    last_number: int = 0
    last_as_of: float = 0.0
    deploying: Wanted | None = None
    wanted: Wanted | None = None
    promotion: Promotion | None = None
    lock: Lock | None = None
    leaving: tuple[str, ...] = ()
    removing: bool = False
    history: tuple[Entry, ...] = ()

    def slot(self, name: SlotName) -> Slot:
        return self.blue if name is SlotName.BLUE else self.green

    @property
    def idle(self) -> SlotName:
        """The slot that deploys go to."""
        return self.live.other if self.live is not None else SlotName.BLUE

    def with_slot(self, name: SlotName, slot: Slot) -> Staging:
        return replace(self, blue=slot) if name is SlotName.BLUE else replace(self, green=slot)

    def to(self, activity: Activity) -> Staging:
        """InvalidTransition where that is not possible now."""
        if activity not in TRANSITIONS[self.activity]:
            raise InvalidTransition(f"staging {self.name} is {self.activity} and cannot become {activity}")
        return replace(self, activity=activity)

    def told(
        self, now: float, what: str, number: int, name: SlotName, who: str, why: str, seconds: float = 0
    ) -> Staging:
        slot = self.slot(name)
        entry = Entry(now, what, number, name, slot.ref, slot.sha, who, why, seconds)
        return replace(self, history=(*self.history, entry)[-REMEMBERED:])


def misfit(source: str, roles: Collection[str], spec: StagingSpec) -> str:
    """Why a blueprint with these roles cannot be deployed to a staging; empty when it can."""
    missing = next((role for role in (spec.role, *(check.role for check in spec.checks)) if role not in roles), None)
    if missing is None:
        return ""
    return f"{source} has no role {missing!r}, which the staging names; it has {', '.join(sorted(roles))}"


def check_unlocked(staging: Staging, what: str) -> None:
    """InvalidTransition says who locked it and why."""
    if staging.removing:
        raise InvalidTransition(f"staging {staging.name} is being removed; make another one to {what}")
    if staging.lock is not None:
        raise InvalidTransition(
            f"staging {staging.name} is locked by {staging.lock.who} since {to_the_second(staging.lock.at)}: "
            f"{staging.lock.reason}; `greenroom staging unlock {staging.name}` before you {what}"
        )


def want(staging: Staging, ref: str, sha: str, who: str, why: str, as_of: float) -> Staging:
    """Ask for a deploy: the newest wins, and one whose ref is older than an accepted one is refused."""
    check_unlocked(staging, "deploy")
    if as_of < staging.last_as_of:
        raise InvalidTransition(
            f"staging {staging.name} has accepted a deploy of {to_the_second(staging.last_as_of)}, and this one is of "
            f"{to_the_second(as_of)}: the newer one stays; deploy without `as_of` where the older one is wanted"
        )
    number = staging.last_number + 1
    return replace(staging, wanted=Wanted(number, ref, sha, who, why, as_of), last_number=number, last_as_of=as_of)


def may_begin(staging: Staging) -> bool:
    """Whether the wanted deploy can begin: nothing but an older deploy is under way, and the idle slot is drained."""
    free = staging.activity in {Activity.IDLE, Activity.DEPLOYING}
    return staging.wanted is not None and free and not staging.slot(staging.idle).drains_until and not staging.removing


def begin(staging: Staging, environment: str) -> Staging:
    """The wanted deploy goes to the idle slot, in place of whatever was there."""
    wanted = staging.wanted
    if wanted is None or not may_begin(staging):
        raise InvalidTransition(f"staging {staging.name} has no deploy to begin")
    emptied = empty(staging, staging.idle)
    slot = Slot(SlotState.DEPLOYING, environment, wanted.number, wanted.ref, wanted.sha)
    return replace(emptied.to(Activity.DEPLOYING), wanted=None, deploying=wanted).with_slot(staging.idle, slot)


def refuse(staging: Staging, number: int, why: str, now: float) -> Staging:
    """The wanted deploy cannot begin, ever; nothing when a newer one is wanted."""
    if staging.wanted is None or staging.wanted.number != number:
        return staging
    told = staging.told(now, "refused", number, staging.idle, staging.wanted.who, why)
    return replace(told, wanted=None)


def deployed(staging: Staging, number: int, fault: str, now: float) -> Staging:
    """Deployment `number` ended, well without a fault. Nothing when another one has the slot."""
    name, slot = staging.idle, staging.slot(staging.idle)
    if staging.activity is not Activity.DEPLOYING or slot.number != number or staging.deploying is None:
        return staging
    who, why = staging.deploying.who, fault or staging.deploying.why
    state = SlotState.FAILED if fault else SlotState.PASSED
    ended = replace(slot, state=state, fault=fault, passed_at=0.0 if fault else now)
    done = replace(staging.to(Activity.IDLE), deploying=None).with_slot(name, ended)
    return done.told(now, "failed" if fault else "deployed", number, name, who, why)


def answers_at(staging: Staging, name: SlotName) -> tuple[Door, bool]:
    """Where a slot answers requests, and whether visitors stay with a node: as when it was promoted last."""
    slot, spec = staging.slot(name), staging.spec
    promotion = staging.promotion
    anew = staging.activity is Activity.CHECKING and promotion is not None and promotion.slot is name
    if slot.door is not None and not anew:
        return slot.door, slot.sticky
    return Door(spec.role, spec.port, spec.health), spec.sticky


def approve(staging: Staging, who: str, why: str, now: float) -> Staging:
    """Somebody looked at the idle slot and lets it be promoted."""
    check_unlocked(staging, "approve")
    name, slot = staging.idle, _promotable(staging)
    return staging.with_slot(name, replace(slot, approved_by=who)).told(now, "approved", slot.number, name, who, why)


def promote(staging: Staging, who: str, why: str, now: float, overrides: Mapping[str, str] | None = None) -> Staging:
    """Ask for the idle slot to become live; its checks come first."""
    check_unlocked(staging, "promote")
    slot = _promotable(staging)
    if staging.spec.approval and not slot.approved_by:
        raise InvalidTransition(
            f"slot {staging.idle} of staging {staging.name} ({slot.ref}) was approved by nobody; "
            f"`greenroom staging approve {staging.name}` first"
        )
    number = staging.last_number + 1
    asked = Promotion(number, staging.idle, who, why, now, overrides=overrides or {})
    return replace(staging.to(Activity.CHECKING), promotion=asked, last_number=number)


def rollback(staging: Staging, who: str, why: str, now: float, overrides: Mapping[str, str] | None = None) -> Staging:
    """Ask for the slot that was live before to be live again; also while a promotion is watched."""
    if staging.live is None:
        raise InvalidTransition(f"staging {staging.name} has no live slot: nothing was promoted yet")
    name, slot = staging.idle, staging.slot(staging.idle)
    if slot.state is not SlotState.PASSED or not slot.kept_until:
        raise InvalidTransition(
            f"staging {staging.name} keeps no earlier slot: slot {name} is {_what(slot)}; its keep time is over, or "
            "something else was deployed there. Deploy the earlier ref again, and promote it"
        )
    number = staging.last_number + 1
    asked = Promotion(number, name, who, why, now, back=True, overrides=overrides or {})
    return replace(staging.to(Activity.SWITCHING), promotion=asked, last_number=number)


def _promotable(staging: Staging) -> Slot:
    name, slot = staging.idle, staging.slot(staging.idle)
    if staging.activity is not Activity.IDLE or staging.wanted is not None:
        what = "about to deploy" if staging.activity is Activity.IDLE else staging.activity
        raise InvalidTransition(f"staging {staging.name} is {what}; wait until that is over, then ask again")
    if slot.state is not SlotState.PASSED:
        raise InvalidTransition(
            f"slot {name} of staging {staging.name} is {_what(slot)}: only one whose stages passed is promoted; "
            f"`greenroom staging deploy {staging.name} REF` first"
        )
    return slot


def _what(slot: Slot) -> str:
    ref = f" ({slot.ref})" if slot.ref else ""
    return f"{slot.state}{ref}: {slot.fault}" if slot.fault else f"{slot.state}{ref}"


def checking(staging: Staging, number: int, checks: tuple[str, ...]) -> Staging:
    """The checks before promotion `number` were asked for."""
    if staging.promotion is None or staging.promotion.number != number or staging.activity is not Activity.CHECKING:
        return staging
    return replace(staging, promotion=replace(staging.promotion, checks=checks))


def checked(staging: Staging, number: int, reading: Reading) -> Staging:
    """All checks went well: the router is to be told, and `reading` is what it counted until now."""
    if staging.promotion is None or staging.promotion.number != number or staging.activity is not Activity.CHECKING:
        return staging
    counted = replace(staging.promotion, answers=reading.answers, errors=reading.errors)
    name = staging.promotion.slot
    door, sticky = answers_at(staging, name)
    served = staging.with_slot(name, replace(staging.slot(name), door=door, sticky=sticky))
    return replace(served.to(Activity.SWITCHING), promotion=counted)


def give_up(staging: Staging, number: int, why: str, now: float) -> Staging:
    """The live slot stays as it is."""
    promotion = staging.promotion
    if promotion is None or promotion.number != number or staging.activity is Activity.WATCHING:
        return staging
    told = staging.told(now, "not switched", number, promotion.slot, promotion.who, why)
    return replace(told.to(Activity.IDLE), promotion=None)


def switched(staging: Staging, number: int, now: float, seconds: float) -> Staging:
    """The router sends everything to the promoted slot now; the other one drains."""
    promotion = staging.promotion
    if promotion is None or promotion.number != number or staging.activity is not Activity.SWITCHING:
        return staging
    old, new = promotion.slot.other, promotion.slot
    had = staging.live is not None
    staging = replace(staging, live=new).with_slot(new, replace(staging.slot(new), drains_until=0.0, kept_until=0.0))
    if had:
        left, keep = staging.slot(old), now + staging.spec.keep_s
        staging = staging.with_slot(old, replace(left, drains_until=now + staging.spec.drain_s, kept_until=keep))
    if not promotion.back:
        staging = staging.told(now, "promoted", number, new, promotion.who, promotion.why, seconds)
        done = replace(promotion, switched_at=now, switch_s=seconds)
        return replace(staging.to(Activity.WATCHING), promotion=done)
    if promotion.bad:
        failed = replace(staging.slot(old), state=SlotState.FAILED, fault=promotion.bad)
        staging = staging.with_slot(old, failed)
    what = "went back" if promotion.bad else "rolled back"
    told = staging.told(now, what, number, new, promotion.who, promotion.bad or promotion.why, seconds)
    return replace(told.to(Activity.IDLE), promotion=None)


def judge(promotion: Promotion, spec: StagingSpec, reading: Reading, now: float) -> str | None:
    """Why a watched promotion is bad; empty when its window ended well, None while it goes on."""
    answers, errors = reading.answers - promotion.answers, reading.errors - promotion.errors
    over = now >= promotion.switched_at + spec.watch_s
    if reading.up == 0:
        return f"none of its {reading.targets} nodes is up"
    enough = answers >= spec.least_answers or (over and answers > 0)
    if enough and errors / answers > spec.max_errors:
        return f"{errors} of {answers} answers were errors, more than {spec.max_errors:.1%}"
    return "" if over else None


def watched(staging: Staging, number: int, bad: str, now: float) -> Staging:
    """The window is over: it stays, or goes back by itself where there is something to go back to."""
    promotion = staging.promotion
    if promotion is None or promotion.number != number or staging.activity is not Activity.WATCHING:
        return staging
    seconds = now - promotion.switched_at
    what, why = ("bad", bad) if bad else ("stays", promotion.why)
    staging = staging.told(now, what, number, promotion.slot, promotion.who, why, seconds)
    slot = staging.slot(promotion.slot.other)
    if not bad or slot.state is not SlotState.PASSED:
        return replace(staging.to(Activity.IDLE), promotion=None)
    return_ = Promotion(number, promotion.slot.other, promotion.who, "its promotion went bad", now, back=True, bad=bad)
    return replace(staging.to(Activity.SWITCHING), promotion=return_)


def drained(staging: Staging, name: SlotName) -> Staging:
    """Nothing is open in the old slot any more."""
    return staging.with_slot(name, replace(staging.slot(name), drains_until=0.0))


def to_take_back(staging: Staging, now: float) -> bool:
    """Whether the keep time of the idle slot is over."""
    slot = staging.slot(staging.idle)
    kept = staging.spec.keep_warm and slot.state is SlotState.PASSED
    over = 0 < slot.kept_until <= now and not kept
    return staging.activity is Activity.IDLE and not slot.drains_until and over


def empty(staging: Staging, name: SlotName) -> Staging:
    """The slot has nothing any more; what it had leaves."""
    slot = staging.slot(name)
    left = (slot.environment,) if slot.environment else ()
    return replace(staging, leaving=(*staging.leaving, *left)).with_slot(name, Slot())


def remove(staging: Staging) -> Staging:
    """Nothing is live any more; both slots leave, and then the staging is no more."""
    emptied = empty(empty(staging, SlotName.BLUE), SlotName.GREEN)
    return replace(
        emptied,
        activity=Activity.IDLE,
        live=None,
        wanted=None,
        deploying=None,
        promotion=None,
        lock=None,
        removing=True,
    )


def due_at(staging: Staging) -> float | None:
    """When the tick has to look at it; 0: always; None: when somebody asks something of it."""
    slot = staging.slot(staging.idle)
    busy = staging.activity is not Activity.IDLE or staging.wanted or staging.leaving or staging.removing
    if busy or slot.drains_until:
        return 0.0
    return slot.kept_until if slot.kept_until and not staging.spec.keep_warm else None
