"""Environments of pull requests: asked for, taken into service in place of an older one, and given back.

The tick looks after them in rounds, each step of which may be done twice. What a pull request is to have stands in the
books first; environments that no pull request knows of are found by what their contracts say.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

from pipeline.domain import pulls
from pipeline.domain.blueprint import Priority
from pipeline.domain.environments import LEAVING_STATES, Environment, EnvironmentState
from pipeline.domain.errors import GuardRefused, InfraError, InvalidTransition, NotFound, UserError, VersionConflict
from pipeline.domain.pulls import Leaving, Pull
from pipeline.envs import jobs
from pipeline.envs.books import Books, Loaded
from pipeline.envs.gate import Asking
from pipeline.ports.routers import Router
from pipeline.ports.stores import JobRequest, Put
from pipeline.stages import pull_books
from pipeline.stages.context import Tools
from pipeline.stages.outcomes import STANDING, outcome
from pipeline.stages.remarks import writing
from pipeline.stages.requests import NAMES, Request, Requests

log = logging.getLogger(__name__)
#: How long one that is ready may take to answer the router's health checks before it takes the name over, in seconds.
WELL_S = 15.0
#: What is open at an environment whose name was taken over ends after so many seconds at the latest.
DRAIN_S = 30.0
#: A router that was not told of the change by then has no room for it, or is gone.
TOLD_S = 120.0
#: Seconds between two looks at those that stand.
WATCH_S = 5.0
#: What becomes of a pull request now.
Change = Callable[[Pull, float], Pull]


@dataclass
class Pulls:
    """`round` is the leading tick's; the rest is anybody's. `router` is None where there is no base domain."""

    tools: Tools
    requests: Requests
    router: Router | None
    base_domain: str
    _watch_at: float = 0.0

    @property
    def books(self) -> Books:
        return self.tools.books

    def close(self, project: str, lane: str, received_at: str, happened_at: str = "") -> None:
        """A lane is gone; what its pull request has leaves. Times are epoch seconds: when it was told, and happened."""

        def once() -> None:
            told = float(received_at)
            self._commit(pull_books.closed(self.tools, project, lane, told, float(happened_at or told)))

        self.books.again(once)

    def begin(self, id: str, number: int) -> None:
        """Ask for the environment of a wish; nothing when there is a newer one."""
        known = self.books.pulls.find(id)
        if known is None or known.value.wanted is None or known.value.wanted.number != number:
            return
        try:
            made = self.requests.make(_request(known.value)).environment.id
        except UserError as error:
            why = str(error)
            self._change(id, lambda pull, _: pulls.refuse(pull, number, why))
            return
        self._change(id, lambda pull, now: pulls.begin(pull, number, made, now))

    def round(self) -> list[JobRequest]:
        """Do for every pull request what is to be done now; the jobs that are needed, and may be under way already."""
        if self._now() >= self._watch_at or self._watch_at > self._now() + WATCH_S:
            self._watch_at = self._now() + WATCH_S
            self._watch()
        busy = self.books.pulls.everything("pulls:busy")
        for loaded in busy:
            self._alone(loaded)
        wanted = [jobs.begin_pull(one.value.id, one.value.wanted.number) for one in busy if one.value.wanted]
        return [*wanted, *self._remarks()]

    def _remarks(self) -> list[JobRequest]:
        due = [one.value for one in self.books.pulls.due("pulls:remarks", self._now())]
        written = self.books.store.alive([writing(pull) for pull in due])
        return [jobs.remark(pull) for pull, works in zip(due, written, strict=True) if not works]

    def _alone(self, loaded: Loaded[Pull]) -> None:
        try:
            self._step(loaded)
        except (InfraError, UserError, VersionConflict, InvalidTransition) as error:
            log.warning("pull request %s is looked at again later: %s", loaded.value.id, error)

    def _step(self, loaded: Loaded[Pull]) -> None:
        pull, now = loaded.value, self._now()
        fault = outcome(self.books, pull.coming.environment) if pull.coming is not None else None
        if fault:
            self._save(loaded, pulls.failed(pull, fault, now))
        elif fault is not None and pull.coming is not None and self._answers(pull.coming.environment):
            self._save(loaded, pulls.take_over(pull, now), *self._renamed(pull))
        else:
            for one in pull.leaving:
                if self._left(pull, one):
                    pull = pulls.left(pull, one.environment)
            self._save(loaded, pull)

    def _answers(self, id: str) -> bool:
        """Whether requests may be sent there: it is well, or there is no use in waiting for that."""
        environment = self._environment(id)
        contract = environment.contract
        if self.router is None or environment.door is None or contract is None:
            return True
        long = self._now() >= contract.ready_at + WELL_S
        try:
            return self.router.reading(id).up > 0 or long
        except NotFound:
            return long

    def _renamed(self, pull: Pull) -> list[Put]:
        """The writes by which name and address go from what served to what is coming."""
        assert pull.coming is not None  # noqa: S101  # `_step` looked
        comes = self.books.environments.get(pull.coming.environment)
        host = pulls.host_of(pull, self.base_domain) if self.base_domain and comes.value.door is not None else ""
        note = self._note(pull)
        writes = [self._called(comes, pull.name if note else "", host)]
        leaves = self.books.environments.find(pull.serving.environment) if pull.serving is not None else None
        if leaves is not None:
            writes.append(self._called(leaves, "", ""))
        return [*writes, *note]

    def _called(self, loaded: Loaded[Environment], name: str, host: str) -> Put:
        contract = loaded.value.contract
        assert contract is not None  # noqa: S101  # it was asked for
        called = replace(loaded.value, contract=replace(contract, name=name, host=host))
        return self.books.environments.kind.put(called.id, called, loaded.version)

    def _note(self, pull: Pull) -> list[Put]:
        """The write that takes its name within the project; none while a stranger has it."""
        assert pull.coming is not None  # noqa: S101  # as above
        id = f"{pull.project}.{pull.name}"
        note = self.books.store.get(NAMES, id)
        holder = str(note.body["environment"]) if note is not None else ""
        other = self.books.environments.find(holder) if holder else None
        own = pull.serving is not None and pull.serving.environment == holder
        if other is not None and not own and not other.value.final and _names_itself(other.value, pull.name):
            log.warning("pull request %s: %s has the name %s already", pull.id, holder, pull.name)
            return []
        return [Put(NAMES, id, note.version if note is not None else 0, {"environment": pull.coming.environment})]

    def _left(self, pull: Pull, one: Leaving) -> bool:
        """Whether its end has begun, or is its own business; what a guard refuses is asked for again."""
        found = self.books.environments.find(one.environment)
        if found is None or found.value.state in LEAVING_STATES:
            return True
        if found.value.state is EnvironmentState.HELD:
            return not found.value.protected
        if one.drains and not self._is_drained(pull, one):
            return False
        try:
            self.requests.release(one.environment, Asking(f"pull request {pull.id}", one.why, again=True))
        except GuardRefused as refused:
            log.info("environment %s of pull request %s stays for now: %s", one.environment, pull.id, refused)
        return False

    def _is_drained(self, pull: Pull, one: Leaving) -> bool:
        """Whether its name leads elsewhere, and nothing is open there that may still end by itself."""
        if self.router is None or pull.serving is None or self._now() >= one.at + TOLD_S:
            return True
        serving = self.books.environments.find(pull.serving.environment)
        if serving is None or serving.value.contract is None or not serving.value.contract.host:
            return True
        told = self.router.known().get(pull.serving.environment)
        if told is None or told.host != serving.value.contract.host:
            return False
        try:
            return self._now() >= one.at + DRAIN_S or self.router.reading(one.environment).sessions == 0
        except NotFound:
            return True

    def _watch(self) -> None:
        """Those that ended by themselves, and those that nobody knows of: their askers died before they wrote it."""
        standing = {one.value.id: one.value for one in self.books.environments.everything("environments:pulls")}
        for loaded in self.books.pulls.everything("pulls:serving"):
            serving = loaded.value.serving
            if serving is not None and not self._stands(standing.get(serving.environment)):
                self._is_over(loaded.value.id, serving.environment)
        named = {id: _named(environment) for id, environment in standing.items()}
        known = {one.value.id: one.value for one in self.books.pulls.many(sorted({pull for pull, _ in named.values()}))}
        for id, (pull, number) in named.items():
            self._adopt(id, pull, number, known.get(pull))

    def _stands(self, environment: Environment | None) -> bool:
        return environment is not None and environment.state in STANDING

    def _is_over(self, id: str, environment: str) -> None:
        found = self.books.environments.find(environment)
        why = f"environment {environment} is gone" + (f": {found.value.reason}" if found and found.value.reason else "")

        def over(pull: Pull, _: float) -> Pull:
            served = pull.serving is not None and pull.serving.environment == environment
            return pulls.over(pull, why) if served else pull

        self._change(id, over)

    def _adopt(self, environment: str, id: str, number: int, pull: Pull | None) -> None:
        """One that its pull request does not know and does not wait for leaves."""
        if pull is None:
            why = f"its pull request {id} is known no more"
            self._release_alone(environment, Asking(f"pull request {id}", why, again=True))
        elif environment not in pull.environments and (pull.wanted is None or pull.wanted.number != number):
            self._change(id, lambda one, now: pulls.begin(one, number, environment, now))

    def _release_alone(self, id: str, asking: Asking) -> None:
        try:
            self.requests.release(id, asking)
        except (GuardRefused, VersionConflict, InvalidTransition) as error:
            log.info("environment %s stays for now: %s", id, error)

    def _change(self, id: str, change: Change) -> None:
        def once() -> None:
            loaded = self.books.pulls.find(id)
            if loaded is not None:
                self._save(loaded, change(loaded.value, self._now()))

        self.books.again(once)

    def _save(self, loaded: Loaded[Pull], new: Pull, *more: Put) -> None:
        puts, told, work = pull_books.saved(loaded, new, self._now())
        self._commit(((*puts, *more), told, work))

    def _commit(self, what: pull_books.Puts) -> None:
        puts, told, work = what
        if puts:
            self.books.commit(*puts, events=told, jobs=work)

    def _environment(self, id: str) -> Environment:
        return self.books.environments.get(id).value

    def _now(self) -> float:
        return self.tools.clock.now()


def _names_itself(environment: Environment, name: str) -> bool:
    return environment.contract is not None and environment.contract.name == name


def _named(environment: Environment) -> tuple[str, int]:
    """The pull request that it was made for, and the number of the wish."""
    id, _, number = (environment.contract.pull if environment.contract is not None else "").rpartition("#")
    return id, int(number)


def _request(pull: Pull) -> Request:
    wanted = pull.wanted
    assert wanted is not None  # noqa: S101  # `begin` looked
    return Request(
        project=pull.project,
        owner=pull.owner,
        why=f"{wanted.sha[: pulls.SHORT_SHA]}: {pull.title}",
        repository=pull.repository,
        ref=wanted.sha,
        ttl_s=pull.ttl_s,
        repeat=f"pull {pull.id} {pull.remark.mark} {wanted.number}",
        body=wanted.sha,
        priority=Priority.PUSH,
        pull=f"{pull.id}#{wanted.number}",
        url=pull.url,
    )
