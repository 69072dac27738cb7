"""What the tick and the workers do for stagings: deploys, checks, switches, watches, drains, and takes back.

Every step may be done twice: the router is told what the books say, and the books are written afterwards.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from pipeline.domain import stagings
from pipeline.domain.environments import Environment, EnvironmentState
from pipeline.domain.errors import GuardRefused, InfraError, InvalidTransition, NotFound, UserError, VersionConflict
from pipeline.domain.guards import Act, Facts
from pipeline.domain.serving import absent, backend_of
from pipeline.domain.stagings import (
    OWNER,
    Activity,
    Promotion,
    Slot,
    SlotName,
    SlotState,
    Staging,
    answers_at,
    protection,
)
from pipeline.domain.traffic import Backend, Reading
from pipeline.envs import jobs
from pipeline.envs.books import STAGINGS, Loaded
from pipeline.envs.gate import Asking
from pipeline.envs.telling import tell
from pipeline.ports.routers import Router
from pipeline.ports.stores import Delete, JobRequest
from pipeline.stages.commands import Commands
from pipeline.stages.outcomes import STANDING, outcome
from pipeline.stages.requests import Request, Requests
from pipeline.stages.stagings import Stagings

log = logging.getLogger(__name__)
#: How long a slot that is to get the traffic may take to answer the router's health checks, in seconds.
WELL_S = 15.0


@dataclass(frozen=True)
class Switching:
    """The tick and any number of workers at once."""

    stagings: Stagings
    requests: Requests
    commands: Commands

    def begin_deploy(self, name: str, number: int) -> None:
        """Ask for the environment of a wanted deploy; nothing when a newer one is wanted, or the slot is in use."""
        staging = self.stagings.get(name)
        if staging.wanted is None or staging.wanted.number != number or not stagings.may_begin(staging):
            return
        try:
            environment = self.requests.make(_request(staging)).environment
        except UserError as error:
            self._refuse(name, number, str(error))
            return
        self.stagings.books.again(lambda: self._begin(name, number, environment.id))

    def _begin(self, name: str, number: int, environment: str) -> None:
        """A newer deploy that came meanwhile has the slot; what was asked for then leaves."""
        loaded = self.stagings.books.stagings.get(name)
        staging = loaded.value
        if staging.wanted is not None and staging.wanted.number == number and stagings.may_begin(staging):
            self.stagings.save(loaded, stagings.begin(staging, environment))
        elif environment not in {staging.blue.environment, staging.green.environment, *staging.leaving}:
            self.stagings.save(loaded, replace(staging, leaving=(*staging.leaving, environment)))

    def _refuse(self, name: str, number: int, why: str) -> None:
        def once() -> None:
            loaded = self.stagings.books.stagings.get(name)
            self.stagings.save(loaded, stagings.refuse(loaded.value, number, why, self._now()))

        self.stagings.books.again(once)

    def round(self) -> list[JobRequest]:
        """Do for every staging what is to be done now; the jobs that it needs. A router that does not answer is asked
        in the next round.
        """
        router = self.stagings.router
        if router is None:
            return []
        found = self.stagings.all()
        self._repair_all(router, found)  # first: what follows counts on routes that lead where the books say
        for loaded in self.stagings.books.stagings.due("stagings:due", self._now()):
            try:
                self._step(router, loaded)
            except (InfraError, UserError, VersionConflict, InvalidTransition) as error:
                log.warning("staging %s is looked at again later: %s", loaded.value.name, error)
        wanted = [one for one in found if one.wanted is not None and stagings.may_begin(one)]
        return [jobs.begin_deploy(one.name, one.wanted.number) for one in wanted if one.wanted is not None]

    def _repair_all(self, router: Router, found: Sequence[Staging]) -> None:
        """Compare what the router has with the books, and tell it what differs."""
        try:
            routes, known = router.routes(), router.known()
        except InfraError as error:
            log.warning("where the router sends traffic could not be compared with the books: %s", error)
            return
        for staging in found:
            try:
                self._repair(router, staging, routes, known)
            except (InfraError, UserError) as error:
                log.warning("router %s serves staging %s not as it should: %s", router.name, staging.name, error)

    def _repair(
        self, router: Router, staging: Staging, routes: Mapping[str, str], known: Mapping[str, Backend]
    ) -> None:
        """Nodes came, died or go; a route is not what the books say, as after a tick that came late."""
        live = staging.slot(staging.live).environment if staging.live is not None else ""
        if live and staging.activity is not Activity.SWITCHING and routes.get(staging.spec.domain) != live:
            log.warning("router %s does not send %s to %s; told anew", router.name, staging.spec.domain, live)
            self._register(router, staging, SlotName(str(staging.live)), known)
            router.switch(staging.spec.domain, live)
        for name in SlotName:
            slot = staging.slot(name)
            if slot.environment in known or slot.state is SlotState.PASSED:
                self._register(router, staging, name, known)

    def _step(self, router: Router, loaded: Loaded[Staging]) -> None:
        staging = loaded.value
        if staging.activity is Activity.DEPLOYING:
            staging = self._deploying(router, staging)
        elif staging.activity is Activity.CHECKING:
            staging = self._checking(router, staging)
        elif staging.activity is Activity.SWITCHING:
            staging = self._switching(router, staging)
        elif staging.activity is Activity.WATCHING:
            staging = self._watching(router, staging)
        staging = self._rest(router, staging)
        if staging.removing and not staging.leaving:
            gone = Delete(STAGINGS.name, staging.name, loaded.version)
            self.stagings.books.commit(gone)
        elif staging != loaded.value:
            self.stagings.save(loaded, staging)

    def _deploying(self, router: Router, staging: Staging) -> Staging:
        slot = staging.slot(staging.idle)
        fault = outcome(self.stagings.books, slot.environment)
        if fault is None:
            return staging
        environment = self._environment(slot.environment)
        if not fault:
            self._register(router, staging, staging.idle, router.known())
        elif environment.protected:  # its hold, if it has one, ends by itself
            loaded = self.stagings.books.environments.get(environment.id)
            open_ = replace(loaded.value, protected="")
            self.stagings.books.commit(self.stagings.books.environments.kind.put(open_.id, open_, loaded.version))
        return stagings.deployed(staging, slot.number, fault, self._now())

    def _checking(self, router: Router, staging: Staging) -> Staging:
        promotion = _promotion(staging)
        environment = self._environment(staging.slot(promotion.slot).environment)
        if environment.state not in STANDING:
            why = f"environment {environment.id} is {environment.state}: {environment.reason}"
            return stagings.give_up(staging, promotion.number, why, self._now())
        self._register(router, staging, promotion.slot, router.known())
        if staging.spec.checks and not promotion.checks:
            asked = [self.commands.ask(environment.id, one.role, one.run, one.timeout_s) for one in staging.spec.checks]
            return stagings.checking(staging, promotion.number, tuple(one.id for one in asked))
        done = [self.commands.get(id) for id in promotion.checks]
        bad = next((one for one in done if one.fault or one.exit_status), None)
        if bad is not None:
            why = f"its check {bad.text!r} {bad.fault or f'ended with status {bad.exit_status}'} ({bad.id})"
            return stagings.give_up(staging, promotion.number, why, self._now())
        reading = router.reading(environment.id)
        unwell = _unwell(reading, absent(environment, answers_at(staging, promotion.slot)[0].role))
        well = not unwell or self._now() >= promotion.asked_at + WELL_S
        if not well or any(one.finished_at is None for one in done):
            return staging
        refused = self._refused(staging, promotion, unwell)
        if refused:
            return stagings.give_up(staging, promotion.number, refused, self._now())
        return stagings.checked(staging, promotion.number, reading)

    def _refused(self, staging: Staging, promotion: Promotion, unwell: str) -> str:
        """Why the gate refuses a switch, if it does."""
        asking = Asking(promotion.who, promotion.why, promotion.overrides)
        target = f"staging {staging.name} to slot {promotion.slot}"
        try:
            self.stagings.gate.pass_(Act.SWITCH, target, Facts(promotion.who, unwell=unwell), asking)
        except GuardRefused as refused:
            return str(refused)
        return ""

    def _switching(self, router: Router, staging: Staging) -> Staging:
        promotion = _promotion(staging)
        environment = self._environment(staging.slot(promotion.slot).environment)
        if promotion.back:  # a promotion passed the gate with its checks
            refused = self._refused_back(router, staging, promotion, environment)
            if refused:
                return stagings.give_up(staging, promotion.number, refused, self._now())
        began = self._now()
        router.switch(staging.spec.domain, environment.id)
        return stagings.switched(staging, promotion.number, self._now(), self._now() - began)

    def _refused_back(self, router: Router, staging: Staging, promotion: Promotion, environment: Environment) -> str:
        """Going back to a slot of which anything answers is better than staying; to one that is gone is not.

        Whoever overrides may go back to one of which nothing answers, never to one that is gone.
        """
        if environment.state not in STANDING:
            return f"environment {environment.id} is {environment.state}: {environment.reason}"
        self._register(router, staging, promotion.slot, router.known())
        reading = router.reading(environment.id)
        return self._refused(staging, promotion, "" if reading.up else _unwell(reading, ()))

    def _watching(self, router: Router, staging: Staging) -> Staging:
        promotion = _promotion(staging)
        reading = router.reading(staging.slot(promotion.slot).environment)
        bad = stagings.judge(promotion, staging.spec, reading, self._now())
        return staging if bad is None else stagings.watched(staging, promotion.number, bad, self._now())

    def _rest(self, router: Router, staging: Staging) -> Staging:
        """What may go on at any time: the old slot drains, its keep time ends, environments leave."""
        for name in SlotName:
            slot = staging.slot(name)
            if slot.drains_until and self._is_drained(router, slot):
                staging = stagings.drained(staging, name)
        if stagings.to_take_back(staging, self._now()):
            staging = stagings.empty(staging, staging.idle)
        if staging.removing:
            router.unroute(staging.spec.domain)
        left = tuple(id for id in staging.leaving if not self._gone(router, staging, id))
        return replace(staging, leaving=left)

    def _is_drained(self, router: Router, slot: Slot) -> bool:
        """Whether nothing is open there; at the bound of the drain what is open ends."""
        try:
            if router.reading(slot.environment).sessions == 0:
                return True
        except NotFound:
            return True
        if self._now() < slot.drains_until:
            return False
        router.cut(slot.environment)
        return True

    def _gone(self, router: Router, staging: Staging, id: str) -> bool:
        """Whether its end has begun; what a guard refuses is asked for again."""
        router.forget(id)
        environment = self._environment(id)
        if environment.final or environment.state is EnvironmentState.DESTROYING:
            return True
        mine = {"protected": f"staging {staging.name} gives it back"}
        if environment.state is EnvironmentState.HELD:
            return not environment.protected
        try:
            self.requests.release(id, Asking(f"staging {staging.name}", "no slot has it any more", mine, again=True))
        except GuardRefused as refused:
            log.info("environment %s of staging %s stays for now: %s", id, staging.name, refused)
            return False
        return True

    def _register(self, router: Router, staging: Staging, name: SlotName, known: Mapping[str, Backend]) -> None:
        """Tell the router which nodes of a slot answer now, where it has others; none of one that is gone."""
        found = self.stagings.books.environments.find(staging.slot(name).environment)
        if found is not None and (found.value.id in known or found.value.state in STANDING):
            door, sticky = answers_at(staging, name)
            tell(router, known, backend_of(found.value, door, self.stagings.base_domain, sticky=sticky))

    def _environment(self, id: str) -> Environment:
        return self.stagings.books.environments.get(id).value

    def _now(self) -> float:
        return self.stagings.tools.clock.now()


def _request(staging: Staging) -> Request:
    wanted, spec = staging.wanted, staging.spec
    assert wanted is not None  # noqa: S101  # `begin_deploy` looked
    return Request(
        project=spec.project,
        owner=f"{OWNER}{staging.name}",
        why=f"deploy {wanted.number} of {wanted.ref}: {wanted.why}",
        template=spec.blueprint,
        repository=spec.repository,
        ref=wanted.sha,
        repeat=f"staging {staging.name} {staging.created_at} {wanted.number}",
        body=wanted.sha,
        tested=True,
        protected=protection(staging.name),
    )


def _promotion(staging: Staging) -> Promotion:
    assert staging.promotion is not None  # noqa: S101  # whoever asks has one
    return staging.promotion


def _unwell(reading: Reading, lost: Collection[str]) -> str:
    """Why a slot is not well: nodes that do not answer, or that are not there."""
    nodes = reading.targets + len(lost)
    down = nodes - reading.up
    if not nodes:
        return "it has no node that could answer requests"
    return f"{down} of its {nodes} nodes do not answer the router's health checks" if down else ""
