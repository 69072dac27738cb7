"""The failsafe gate: rules that every destructive act must pass, as a table.

A guard looks at facts that the gate collected, and refuses with why and with what would have to change.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum


class Act(StrEnum):
    """What may be dangerous."""

    DESTROY = "destroy"
    REBUILD = "rebuild"
    SCALE_IN = "scale-in"
    SWITCH = "switch"
    PREEMPT = "preempt"
    REAP = "reap"
    DELETE_OBJECT = "delete-object"
    TAKE_OUT = "take-out"
    RESTART_AGENT = "restart-agent"
    SET_UP = "set-up"
    MOVE = "move"
    EVACUATE = "evacuate"


@dataclass(frozen=True)
class Facts:
    """What is known of a target. `who` asks: a person, a run or the tick; `owner` is whose the target is.

    `sightings` counts how often a thing that is in no book was seen. `in_traffic` is the router that sends traffic to
    it. `last_of` is the role of which it is the last healthy node. `used_by` is what else uses it. `budget` is how many
    such acts `provider` allows in an interval, of which `spent` are; None: it is not counted. `unwell` says which
    of its nodes do not answer a router. `agent_up`: the cloud counts a machine's agent as alive.
    """

    who: str
    owner: str = ""
    provider: str = ""
    marked: bool = True
    known: bool = True
    sightings: int = 0
    in_traffic: str = ""
    last_of: str = ""
    protected: str = ""
    held_until: float = 0.0
    given_back: bool = False
    used_by: Sequence[str] = ()
    spent: int = 0
    budget: int | None = None
    in_service: bool = False
    unwell: str = ""
    agent_up: bool = False
    now: float = 0.0


Check = Callable[[Facts], str]


@dataclass(frozen=True)
class Guard:
    """One rule: the acts it holds for, the check (why it refuses, or nothing), and what would have to change.

    `firm`: no operator may override it. `passing`: what it refuses may be allowed later although nobody asks anything
    else of Greenroom, so whoever was refused may ask again.
    """

    name: str
    acts: frozenset[Act]
    refuses_when: str
    check: Check
    remedy: str
    firm: bool = False
    passing: bool = False


def _unmarked(facts: Facts) -> str:
    return "" if facts.marked else "it does not carry our ownership mark"


def _unknown(facts: Facts) -> str:
    if facts.known or facts.sightings >= 2:
        return ""
    return f"it stands in no book, and was seen {facts.sightings} times"


def _in_traffic(facts: Facts) -> str:
    return f"{facts.in_traffic} sends traffic to it" if facts.in_traffic else ""


def _last(facts: Facts) -> str:
    return f"it is the last healthy node of role {facts.last_of}" if facts.last_of else ""


def _protected(facts: Facts) -> str:
    return f"it is protected: {facts.protected}" if facts.protected and facts.who != facts.owner else ""


def _held(facts: Facts) -> str:
    if facts.held_until <= facts.now or facts.given_back:
        return ""
    return f"it is held for debugging for another {facts.held_until - facts.now:.0f} s"


def _over_budget(facts: Facts) -> str:
    if facts.budget is None or facts.spent < facts.budget:
        return ""
    return f"{facts.spent} of {facts.budget} such acts of this interval are done"


def _in_use(facts: Facts) -> str:
    return f"it is in use by {', '.join(facts.used_by[:5])}" if facts.used_by else ""


def _serving(facts: Facts) -> str:
    return "the machine is in service" if facts.in_service else ""


def _unwell(facts: Facts) -> str:
    return facts.unwell


def _agent_up(facts: Facts) -> str:
    return "its agent is alive, so its servers may be running" if facts.agent_up else ""


_TAKES_NODES = frozenset({Act.DESTROY, Act.REBUILD, Act.SCALE_IN, Act.PREEMPT, Act.REAP})
#: These count against the budget of the provider whoever asks, a destroy when nobody asked for it.
COUNTED = frozenset({Act.REAP, Act.PREEMPT, Act.REBUILD, Act.DELETE_OBJECT})
#: In the order in which they are asked; the first that refuses is told.
GUARDS: tuple[Guard, ...] = (
    Guard(
        "ownership",
        _TAKES_NODES | {Act.DELETE_OBJECT, Act.SET_UP},
        "it does not carry our ownership mark",
        _unmarked,
        "whoever made it must remove it",
        firm=True,
    ),
    Guard(
        "known",
        frozenset({Act.REAP, Act.DELETE_OBJECT}),
        "it stands in no book and was not seen twice",
        _unknown,
        "wait for the next reaping",
        firm=True,
        passing=True,
    ),
    Guard(
        "traffic",
        _TAKES_NODES | {Act.MOVE},
        "a router sends traffic to it",
        _in_traffic,
        "drain it first",
        passing=True,
    ),
    Guard(
        "last-node",
        frozenset({Act.SCALE_IN, Act.REBUILD, Act.MOVE}),
        "it is the last healthy node of its role",
        _last,
        "add a node of the role first, or destroy the whole environment",
    ),
    Guard(
        "protected",
        _TAKES_NODES,
        "it is protected, and not its owner asks",
        _protected,
        "end its protection",
    ),
    Guard(
        "held",
        _TAKES_NODES,
        "it is held for debugging",
        _held,
        "`greenroom release` its run, or wait until the hold ends",
        passing=True,
    ),
    Guard(
        "budget",
        COUNTED | {Act.DESTROY},
        "Greenroom asks of its own accord, and the provider's budget of this interval is spent",
        _over_budget,
        "wait for the next interval, or find out why so much goes",
        passing=True,
    ),
    Guard(
        "in-use",
        frozenset({Act.DELETE_OBJECT, Act.TAKE_OUT, Act.RESTART_AGENT}),
        "something else uses it: servers a flavor or an image, ports a network, nodes or servers a machine",
        _in_use,
        "remove or move what uses it; of a machine, `greenroom machine drain` lets it take no more nodes",
        passing=True,
    ),
    Guard(
        "out-of-service",
        frozenset({Act.RESTART_AGENT}),
        "its machine is in service",
        _serving,
        "put the machine into maintenance first",
    ),
    Guard(
        "healthy",
        frozenset({Act.SWITCH}),
        "nodes of it do not answer the router's health checks",
        _unwell,
        "wait until its nodes are well, or deploy again",
        passing=True,
    ),
    Guard(
        "dead",
        frozenset({Act.EVACUATE}),
        "the cloud counts the machine's agent as alive: its servers may run, and would run twice",
        _agent_up,
        "move its servers with policy migrate, or end the machine (power it off) and override: it is forced down then",
        passing=True,
    ),
)


@dataclass(frozen=True)
class Allowed:
    """Nothing refuses; `overridden` are the guards that would have, with the operator's reasons."""

    overridden: Mapping[str, str]


@dataclass(frozen=True)
class Refused:
    """The first guard that refuses."""

    guard: str
    why: str
    remedy: str
    passing: bool = False


def judge(act: Act, facts: Facts, overrides: Mapping[str, str] | None = None) -> Allowed | Refused:
    """Ask every guard of an act; an override needs the guard's name and a reason, and counts for that guard alone."""
    given, used = overrides or {}, {}
    for guard in GUARDS:
        why = guard.check(facts) if act in guard.acts else ""
        if not why:
            continue
        if guard.firm or not given.get(guard.name, "").strip():
            return Refused(guard.name, why, guard.remedy, guard.passing)
        used[guard.name] = given[guard.name]
    return Allowed(used)


def table() -> str:
    """The guards as a page of the documents."""
    rows = [
        f"| {guard.name} | {', '.join(sorted(guard.acts))} | {guard.refuses_when} | {guard.remedy} | "
        f"{'no' if guard.firm else 'yes'} |"
        for guard in GUARDS
    ]
    head = ["| guard | asked before | refuses when | what would have to change | may be overridden |"]
    return "\n".join([*head, "|---|---|---|---|---|", *rows]) + "\n"
