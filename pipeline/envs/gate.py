"""The gate: collects the facts, asks the guards, and tells the audit stream who did what and why."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from pipeline.domain import guards
from pipeline.domain.environments import Environment, EnvironmentState, NodeState
from pipeline.domain.errors import GuardRefused, InfraError, NotFound, UserError
from pipeline.domain.guards import COUNTED, Act, Facts, Refused
from pipeline.domain.resizing import HEALTHY
from pipeline.domain.stagings import OWNER, protection
from pipeline.envs.books import Books
from pipeline.ports.common import Clock
from pipeline.ports.routers import Router
from pipeline.ports.stores import Event, Put

#: The subject of everything that passed or was refused.
AUDIT = "audit"
#: Who asks when nobody does.
TICK = "tick"


@dataclass(frozen=True)
class Budget:
    """How many acts of Greenroom's own accord one provider allows in any `interval_s` seconds."""

    acts: int = 60
    interval_s: float = 60.0


@dataclass(frozen=True)
class Asking:
    """Who wants an act, and why; `overrides` maps guards to an operator's reasons. A dry run changes nothing.

    `again`: who asks goes on asking until it is allowed, so a refusal is told once an interval.
    """

    who: str
    why: str
    overrides: Mapping[str, str] = field(default_factory=dict)
    dry_run: bool = False
    again: bool = False


@dataclass(frozen=True)
class Passed:
    """No guard refuses; `writes` and `events` belong into the commit of the act."""

    act: Act
    target: str
    asking: Asking
    events: tuple[Event, ...]
    writes: tuple[Put, ...] = ()


class Gate:
    """Any number of processes at once. `routers` are all that may send traffic to environments."""

    def __init__(
        self,
        books: Books,
        clock: Clock,
        budgets: Mapping[str, Budget] | None = None,
        routers: Sequence[Router] = (),
    ) -> None:
        self._books = books
        self._clock = clock
        self._budgets = budgets or {}
        self._routers = routers

    def facts_of(self, environment: Environment, asking: Asking, *, given_back: bool = False) -> Facts:
        """What the books and the routers know of an environment."""
        held = environment.state is EnvironmentState.HELD
        return Facts(
            who=asking.who,
            owner=environment.owner,
            provider=environment.provider,
            in_traffic=self._traffic(environment.id),
            protected=environment.protected,
            held_until=environment.ends_at if held else 0.0,
            given_back=given_back,
            now=self._clock.now(),
        )

    def facts_of_node(self, environment: Environment, node: str, asking: Asking) -> Facts:
        """The same of one node of it, for acts on single nodes.

        The protection of a slot is against its end, and no node of it is its end: it keeps a healthy one of each role.
        """
        facts, traffic = self.facts_of(environment, asking), self.traffic_of_node(environment, node)
        if environment.named({node})[0].state is NodeState.LOST:  # nothing of it is in use, protected or held
            return Facts(asking.who, owner=facts.owner, provider=facts.provider, now=facts.now, in_traffic=traffic)
        protected = "" if is_protected_as_slot(environment) else facts.protected
        return replace(facts, last_of=last_healthy(environment, node), in_traffic=traffic, protected=protected)

    def traffic_of_node(self, environment: Environment, node: str) -> str:
        """Who sends traffic to a node, by its own name as well; as with whole environments."""
        address = environment.named({node})[0].address
        said = (_said_of_node(router, environment.id, address) for router in self._routers)
        return next(filter(None, said), "")

    def may_leave_none_well(self, environment: Environment, names: Collection[str]) -> bool:
        """Whether no more nodes answer a router's health checks than are to go of those that it sends requests to.

        Where none answers there is nothing to lose.
        """
        addresses = {node.address for node in environment.named(names)}
        return any(_may_leave_none_well(router, environment.id, addresses) for router in self._routers)

    def _traffic(self, environment_id: str) -> str:
        """Who sends traffic there; a router that cannot be asked counts as one that does."""
        return next((said for router in self._routers if (said := _said(router, environment_id))), "")

    def judge(self, act: Act, target: str, facts: Facts, asking: Asking) -> Passed:
        """What is to be written with an act that is allowed; GuardRefused, told as well, else.

        An act that counts against a budget is counted by that write: VersionConflict when another one was first.
        """
        check_names(asking)
        counted = bool(facts.provider) and (act in COUNTED or (act is Act.DESTROY and asking.who == TICK))
        times, version = self._times(facts.provider) if counted else ([], 0)
        if counted:
            facts = replace(facts, spent=len(times), budget=self.budget(facts.provider).acts)
        answer = guards.judge(act, facts, asking.overrides)
        if isinstance(answer, Refused):
            self._tell_refusal(act, target, facts, asking, answer)
            raise GuardRefused(answer.guard, f"{act} of {target}: {answer.why}", answer.remedy, passing=answer.passing)
        told = self.event(act, target, asking, {"overridden": dict(answer.overridden)})
        count = counted and not asking.dry_run
        return Passed(act, target, asking, (told,), (self._spend(facts, times, version),) if count else ())

    def event(self, act: Act, target: str, asking: Asking, more: Mapping[str, object]) -> Event:
        """One line of the audit stream."""
        data = {"target": target, "who": asking.who, "why": asking.why, "dry_run": asking.dry_run, **more}
        return Event(AUDIT, f"audit.{act}", self._clock.now(), data)

    def pass_(self, act: Act, target: str, facts: Facts, asking: Asking) -> Passed:
        """Judge, count and tell at once: for acts that write nothing themselves."""
        return self._books.again(lambda: self._pass(act, target, facts, asking))

    def _pass(self, act: Act, target: str, facts: Facts, asking: Asking) -> Passed:
        passed = self.judge(act, target, facts, asking)
        self._books.commit(*passed.writes, events=passed.events)
        return passed

    def _tell_refusal(self, act: Act, target: str, facts: Facts, asking: Asking, refused: Refused) -> None:
        event = self.event(act, target, asking, {"refused": refused.guard, "because": refused.why})
        if not asking.again:
            self._books.commit(events=[event])
            return
        what = facts.provider if refused.guard == "budget" else target
        key, now = f"{act}.{refused.guard}.{what}", self._clock.now()
        interval_s = math.ceil(self.budget(facts.provider).interval_s)
        if self._books.store.get("refusal", key) is None:
            self._books.commit(Put("refusal", key, 0, {"at": now}, ttl_s=interval_s), events=[event])

    def budget(self, provider: str) -> Budget:
        return self._budgets.get(provider, Budget())

    def spent(self, provider: str) -> int:
        """Acts that count against a provider's budget now."""
        return len(self._times(provider)[0])

    def left(self, provider: str) -> int:
        """How many such acts it still allows now."""
        return max(0, self.budget(provider).acts - self.spent(provider))

    def _times(self, provider: str) -> tuple[list[float], int]:
        """When those acts were done, and the version of the document that says so."""
        document, now = self._books.store.get("budget", provider), self._clock.now()
        if document is None:
            return [], 0
        interval_s = self.budget(provider).interval_s
        return [at for at in document.body["times"] if abs(now - at) < interval_s], document.version

    def _spend(self, facts: Facts, times: list[float], version: int) -> Put:
        kept = {"times": [*times, self._clock.now()]}
        ttl_s = math.ceil(2 * self.budget(facts.provider).interval_s)
        return Put("budget", facts.provider, version, kept, ttl_s=ttl_s)


def last_healthy(environment: Environment, name: str) -> str:
    """The role of which a node is the last healthy one; nothing when others are left, or when it is not healthy.

    One that drains counts until its own end is judged: it could go back into service.
    """
    able = HEALTHY | {NodeState.DRAINING}
    role = next((node.role for node in environment.nodes if node.name == name and node.state in able), "")
    others = [node for node in environment.of_role(role) if node.state in HEALTHY and node.name != name]
    return "" if others else role


def _said(router: Router, environment_id: str) -> str:
    try:
        return f"router {router.name}" if environment_id in router.serving() else ""
    except InfraError as error:
        return _not_asked(router, error)


def _said_of_node(router: Router, environment_id: str, address: str | None) -> str:
    try:
        backend = router.known().get(environment_id)
        if backend is None:
            return _said(router, environment_id)  # who does not say to which nodes may mean any
    except InfraError as error:
        return _not_asked(router, error)
    return f"router {router.name}" if address in {target.address for target in backend.targets} else ""


def _may_leave_none_well(router: Router, environment_id: str, addresses: Collection[str | None]) -> bool:
    try:
        backend = router.known().get(environment_id)
        going = [target for target in backend.targets if target.address in addresses] if backend is not None else []
        return bool(going) and 0 < router.reading(environment_id).up <= len(going)
    except (InfraError, NotFound):
        return False  # whoever cannot be asked is waited for before anything goes


def _not_asked(router: Router, error: InfraError) -> str:
    return f"perhaps router {router.name}, which cannot be asked ({error}),"


def is_protected_as_slot(environment: Environment) -> bool:
    """Whether a staging protects it, and no person does beside."""
    owner = environment.contract.owner if environment.contract is not None else ""
    return owner.startswith(OWNER) and environment.protected == protection(owner.removeprefix(OWNER))


def check_names(asking: Asking) -> None:
    """UserError when an override names no guard."""
    known = [guard.name for guard in guards.GUARDS]
    unknown = sorted(set(asking.overrides) - set(known))
    if unknown:
        raise UserError(f"there is no guard {', '.join(unknown)}; there are: {', '.join(known)}")
