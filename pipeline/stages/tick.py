"""The leading tick: hands jobs to the queue, admits, ends what is over, and finds what lost its worker."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from pipeline.domain import admission, runs
from pipeline.domain.durations import SKEW_S
from pipeline.domain.environments import Environment, EnvironmentState
from pipeline.domain.errors import Fenced, GuardRefused, PermanentError, TransientError, VersionConflict
from pipeline.domain.runs import Attempt, AttemptState, Run, StageName
from pipeline.envs import jobs, warnings
from pipeline.envs.books import Loaded
from pipeline.envs.cloud_acts import CloudActs
from pipeline.envs.doors import Doors
from pipeline.envs.gate import TICK, Asking
from pipeline.envs.inventories import Inventories
from pipeline.envs.lifecycle import judgeable
from pipeline.envs.pools import Pools
from pipeline.envs.reaper import Reaper
from pipeline.envs.relief import Relief
from pipeline.envs.scheduler import Scheduler
from pipeline.ports.queues import JobQueue
from pipeline.ports.stores import Fence, JobRequest, Outbox, Put
from pipeline.stages.acceptances import MOST_ACCEPTANCES, NO_PROJECT
from pipeline.stages.context import Tools
from pipeline.stages.control import Control
from pipeline.stages.deliver import GRACE_S
from pipeline.stages.handouts import Handouts
from pipeline.stages.planner import planning
from pipeline.stages.preempted import Preempted
from pipeline.stages.pulls import Pulls
from pipeline.stages.runner import save_run
from pipeline.stages.scaling import Scale
from pipeline.stages.schedules import Schedules
from pipeline.stages.statuses import reporting
from pipeline.stages.switching import Switching
from pipeline.stages.verdicts import Verdicts

log = logging.getLogger(__name__)
T = TypeVar("T")
#: Jobs handed over in one go.
BATCH = 200
#: Pending runs looked at in one go.
ROUND = 500
#: Seconds between two looks at everything that may have come to rest unnoticed.
CHORES_S = 1.0
#: Seconds for which a run waits for room before its forge is told.
WAITS_TOLD_S = 10.0
#: Seconds between two comparisons of the books with what the providers have.
REAP_S = 30.0
#: Seconds between two measurements of a provider's machines.
MEASURE_S = 5.0
#: Seconds between two looks whether nodes in use are still there.
WATCH_S = 5.0
#: Seconds between two rounds of forgetting what is old.
FORGET_S = 3600.0
#: A job that was handed over so long ago and does not wait any more was taken or lost.
HANDOVER_S = 2.0


@dataclass
class Tick:
    """One leader's work; `step` is called again and again while the office is held."""

    tools: Tools
    scheduler: Scheduler
    inventories: Inventories
    relief: Relief
    reaper: Reaper
    control: Control
    preempted: Preempted
    verdicts: Verdicts
    cloud_acts: CloudActs
    schedules: Schedules
    scale: Scale
    queue: JobQueue
    outbox: Outbox
    provider_names: Sequence[str]
    switching: Switching
    doors: Doors
    pools: Pools
    handouts: Handouts
    pulls: Pulls
    _chores_at: float = 0.0
    _reap_at: float = 0.0
    _forget_at: float = 0.0
    _seen_at: float = 0.0
    _measure_at: float = 0.0
    _watch_at: float = 0.0
    _troubles: dict[str, str] = field(default_factory=dict)
    _poll_at: dict[str, float] = field(default_factory=dict)
    _survey_at: dict[str, float] = field(default_factory=dict)
    _visit_at: dict[str, float] = field(default_factory=dict)

    def step(self, fence: Fence) -> None:
        """Wait for work for a moment at most, and do what is there. Fenced when the office was lost."""
        self.outbox.wait(self._patience())
        self._mind_the_clock(fence)
        self._hand_over(fence)
        if self.tools.clock.now() >= self._chores_at:
            self._chores_at = self.tools.clock.now() + CHORES_S
            self._chores(fence)
        self._survive("polls", self._poll)

    def _mind_the_clock(self, fence: Fence) -> None:
        """After a jump back nothing that is due "later" may wait for the old time to come again."""
        now, self._seen_at = self.tools.clock.now(), max(self._seen_at, self.tools.clock.now())
        if now >= self._seen_at - SKEW_S:
            return
        log.warning("the clock jumped back by %.0f s: everything is looked at anew", self._seen_at - now)
        self._seen_at = now
        self._chores_at = self._reap_at = self._forget_at = self._measure_at = self._watch_at = 0.0
        self._poll_at.clear()
        self._survey_at.clear()
        self._visit_at.clear()
        for schedule_id in self.schedules.ids_of_all():
            self._survive(schedule_id, self.schedules.put_forward, schedule_id, fence)
        for name in self.provider_names:
            moving = self.tools.books.environments.everything(f"environments:moving:{name}")
            self.queue.enqueue([jobs.advance(loaded.value, loaded.version) for loaded in moving])

    def _patience(self) -> float:
        now = self.tools.clock.now()
        nearest = min([self._chores_at, *self._poll_at.values()], default=now)
        return max(0.001, min(CHORES_S, nearest - now))

    def _hand_over(self, fence: Fence) -> None:
        """At least once: a job handed over twice finds its work done or taken."""
        requests = self.outbox.peek(BATCH)
        if not requests:
            return
        self._enqueue([request for request in requests if request.queue != jobs.TICK_QUEUE])
        for request in requests:
            if request.queue == jobs.TICK_QUEUE and request.task == jobs.END_LANE:
                self._survive(request.id, self.control.end_lane, *request.args)
                self._survive(f"pull request of {request.id}", self.pulls.close, *request.args)
        if jobs.ADMIT in requests:
            self._admit(fence)
        if any(request.task == jobs.END_LANE for request in requests):
            self._survive("pull requests", self._look_at_pulls)
        if jobs.STAGINGS in requests:
            self._survive("stagings", self._look_at_stagings)
        self.outbox.drop(len(requests), fence)

    def _enqueue(self, requests: Sequence[JobRequest]) -> None:
        """All in one go; one by one when the queue refuses, so that one job cannot hold up the others for ever."""
        try:
            self.queue.enqueue(requests)
        except PermanentError:
            for request in requests:
                self._survive(request.id, self.queue.enqueue, [request])

    def _survive(self, what: str, act: Callable[..., object], *args: object) -> None:
        """Do one thing of many: what is wrong with it is told once, and must not stop the tick."""
        try:
            act(*args)
        except (Fenced, TransientError):
            raise
        except Exception as error:  # whatever it is, all other runs and environments need this tick
            if self._troubles.get(what) != repr(error):
                log.exception("%s: left alone until the next round", what)
            self._troubles[what] = repr(error)
        else:
            self._troubles.pop(what, None)

    def _admit(self, fence: Fence) -> None:
        self._survive("admission of runs", self._admit_runs, fence)
        self._survive("reservation", self._reserve, fence)
        for environment_id in self.preempted.noticed():  # what is kept ready goes at once
            self._survive(environment_id, self.preempted.settle, environment_id)

    def _reserve(self, fence: Fence) -> None:
        for environment in self.scheduler.reserve(fence):
            self._wake_owner(environment)

    def _admit_runs(self, fence: Fence) -> None:
        """A crowd of one project that has all its runs must not hide those of the others."""
        offset = 0
        while pending := self.tools.books.runs.in_index("runs:pending", limit=ROUND, offset=offset):
            if self._admit_some(pending, fence):
                return
            offset += ROUND

    def _admit_some(self, pending: Sequence[Loaded[Run]], fence: Fence) -> int:
        books = self.tools.books
        names = sorted({loaded.value.project for loaded in pending})
        limits = {loaded.value.name: loaded.value.max_runs for loaded in books.projects.many(names)}
        limits[NO_PROJECT] = MOST_ACCEPTANCES
        running = {name: books.store.count(f"runs:active:{name}") for name in names}
        versions = {loaded.value.id: loaded for loaded in pending}
        chosen = admission.admissible((loaded.value for loaded in pending), running, limits)
        for run in chosen:
            self._survive(run.id, self._admit_one, versions[run.id], fence)
        return len(chosen)

    def _admit_one(self, loaded: Loaded[Run], fence: Fence) -> None:
        """The lease of nodes that it took over begins now, however long the run waited."""
        now, run = self.tools.clock.now(), loaded.value
        lease = self.tools.books.environments.find(run.environment_id) if run.environment_id else None
        writes: tuple[Put, ...] = ()
        own = lease is not None and lease.value.contract is None and lease.value.owner == run.id
        if lease is not None and own and lease.value.state is EnvironmentState.LEASED:
            renewed = replace(lease.value, ends_at=now + run.plan.timeout_s + GRACE_S)
            writes = (self.tools.books.environments.kind.put(renewed.id, renewed, lease.version),)
        self._save(loaded, runs.admit(run, now), fence, writes)

    def _save(self, loaded: Loaded[Run], run: Run, fence: Fence | None = None, writes: tuple[Put, ...] = ()) -> None:
        try:
            save_run(self.tools, loaded, run, writes, fence=fence)
        except VersionConflict:
            log.debug("run %s changed meanwhile; it is looked at again", run.id)

    def _wake_owner(self, environment: Environment) -> None:
        if environment.owner:
            owner = self.tools.books.runs.find(environment.owner)
            if owner is not None:
                self.queue.enqueue([jobs.wake(owner.value)])

    def _chores(self, fence: Fence) -> None:
        self._admit(fence)
        self._survive("warm pools", self._fill_pools, fence)
        self._survive("ends of leases", self._end_leases)
        self._survive("warnings of ends", warnings.warn, self.tools.books, self.tools.clock.now())
        self._survive("stagings", self._look_at_stagings)
        self._survive("pull requests", self._look_at_pulls)
        self._survive(
            "names of environments", self.doors.round
        )  # both before lost nodes: they are out of traffic first
        for losing in self.tools.books.environments.due("environments:lost", self.tools.clock.now()):
            self._survive(f"lost nodes of {losing.value.id}", self._replace_lost, losing.value.id)
        self._survive("quarantines", self.inventories.end_quarantines, Asking(TICK, "its quarantine is over"))
        for acceptance_id in self.verdicts.due():
            self._survive(acceptance_id, self.verdicts.conclude, acceptance_id)
        self._survive("acts on clouds", self._go_on_with_acts)
        for schedule_id in self.schedules.due():
            self._survive(schedule_id, self.schedules.start, schedule_id, fence)
        self._survive("due triggers", self._due_triggers)
        self._survive("due statuses", self._due_statuses)
        active = self.tools.books.runs.everything("runs:active")
        self._survive("what is waited for", self._note_waits, active)
        for loaded in active:
            self._survive(loaded.value.id, self._stop_overdue, loaded.value)
        self._survive("requeueing", self._requeue, active)
        self._survive("lost workers", self._lose_dead, active)
        self._now_and_then()

    def _go_on_with_acts(self) -> None:
        self.queue.enqueue([jobs.cloud_act(act.provider, act.id) for act in self.cloud_acts.due()])

    def _end_leases(self) -> None:
        self._take_back(self.reaper.overdue())

    def _take_back(self, over: Iterable[tuple[Loaded[Environment], str]]) -> None:
        for loaded, reason in over:
            self._survive(loaded.value.id, self._take_back_one, loaded, Asking(TICK, reason, again=True))

    def _take_back_one(self, loaded: Loaded[Environment], asking: Asking) -> None:
        """What a guard refuses is told in the audit stream, and asked for again at the next round."""
        try:
            self.reaper.end(loaded, asking)
        except (GuardRefused, VersionConflict) as error:
            log.debug("environment %s stays for now: %s", loaded.value.id, error)

    def _replace_lost(self, environment_id: str) -> None:
        """What a guard refuses is told in the audit stream, and asked for again at the next round."""
        try:
            self.scale.replace_lost(environment_id)
        except (GuardRefused, VersionConflict) as error:
            log.debug("environment %s: its lost nodes are replaced later: %s", environment_id, error)

    def _fill_pools(self, fence: Fence) -> None:
        self._take_back(self.pools.round(fence))
        self._enqueue_missing([*self.pools.checks(), *self.handouts.unconfirmed()])

    def _look_at_stagings(self) -> None:
        self._enqueue_missing(self.switching.round())

    def _look_at_pulls(self) -> None:
        self._enqueue_missing(self.pulls.round())

    def _due_triggers(self) -> None:
        due = self.tools.books.triggers.due("triggers:due", self.tools.clock.now())
        versions = {loaded.value.id: loaded.version for loaded in due}
        idle = self._idle([loaded.value for loaded in due], planning)
        missing = self._missing([jobs.plan(record.id, record.tries) for record in idle])
        handed = [record for record in idle if jobs.plan(record.id, record.tries) in missing]
        kind = self.tools.books.triggers.kind
        for record in handed:  # whoever kills its workers is not planned for ever
            counted = kind.put(record.id, replace(record, handed=record.handed + 1), versions[record.id])
            self._survive(record.id, self.tools.books.commit, counted)
        self.queue.enqueue(missing)

    def _due_statuses(self) -> None:
        due = self.tools.books.runs.due("runs:status", self.tools.clock.now())
        self._enqueue_missing([jobs.report(run) for run in self._idle([loaded.value for loaded in due], reporting)])

    def _idle(self, items: Sequence[T], token: Callable[[T], str]) -> list[T]:
        """Those that nobody works on."""
        busy = self.tools.books.store.alive([token(item) for item in items])
        return [item for item, works in zip(items, busy, strict=True) if not works]

    def _enqueue_missing(self, wanted: Sequence[JobRequest]) -> None:
        self.queue.enqueue(self._missing(wanted))

    def _missing(self, wanted: Sequence[JobRequest]) -> list[JobRequest]:
        """Those that do not wait in the queue."""
        waiting = self.queue.waiting(wanted) if wanted else []
        return [job for job, waits in zip(wanted, waiting, strict=True) if not waits]

    def _stop_overdue(self, run: Run) -> None:
        if runs.is_overdue(run, self.tools.clock.now()):
            self.control.time_out(run.id)

    def _note_waits(self, active: Sequence[Loaded[Run]]) -> None:
        """Which runs wait for room, and which do no more, once per kind of hindrance: each is a call of a forge."""
        waiting = [one for one in active if one.value.awaits_environment and one.value.trigger.slug]
        environments = self.scheduler.waiting() if waiting else {}
        for loaded in waiting:
            hindrance = self._hindrance(environments.get(loaded.value.environment_id))
            if hindrance != loaded.value.hindrance:
                self._survive(loaded.value.id, self._save, loaded, replace(loaded.value, hindrance=hindrance))

    def _hindrance(self, environment: Environment | None) -> str:
        """What an environment waits for; what has not waited for long is not worth a word."""
        if environment is None or environment.wait is None:
            return ""
        long = self.tools.clock.now() - environment.created_at >= WAITS_TOLD_S
        return environment.wait.hindrance.value if long else ""

    def _requeue(self, active: Sequence[Loaded[Run]]) -> None:
        """Attempts whose retry is due or whose job was lost, and waiting ones whose environment is settled."""
        now = self.tools.clock.now()
        wanted = [self._job_of(loaded.value, now) for loaded in active]
        self._enqueue_missing([job for job in wanted if job is not None])

    def _job_of(self, run: Run, now: float) -> JobRequest | None:
        if run.current is None:
            return None
        stage, attempt = run.current
        if attempt.state is AttemptState.QUEUED and now >= max(attempt.not_before, attempt.queued_at + HANDOVER_S):
            return jobs.stage(run, stage.name, attempt.number)
        if attempt.is_to_ask_again(now):
            return jobs.wake(run)
        if attempt.state is AttemptState.WAITING and self._is_settled(run, stage.name, now):
            return jobs.wake(run)
        return None

    def _is_settled(self, run: Run, name: StageName, now: float) -> bool:
        loaded = self.tools.books.environments.find(run.environment_id)
        if loaded is None:
            return True
        over = loaded.value.final if name is StageName.DESTROY else judgeable(loaded.value, run.id)
        return over and now >= loaded.value.state_since + HANDOVER_S

    def _lose_dead(self, active: Sequence[Loaded[Run]]) -> None:
        """Running attempts whose worker gave no sign of life for too long."""
        running = [(loaded, _running(loaded.value)) for loaded in active]
        watched = [(loaded, attempt) for loaded, attempt in running if attempt is not None]
        alive = self.tools.books.store.alive([attempt.token for _, attempt in watched])
        now = self.tools.clock.now()
        for (loaded, _), lives in zip(watched, alive, strict=True):
            if not lives:
                log.warning("run %s: the worker of its current stage was lost", loaded.value.id)
                lost = runs.lose_attempt(loaded.value, now, "its worker was lost")
                self._survive(loaded.value.id, self._save, loaded, lost)

    def _poll(self) -> None:
        now = self.tools.clock.now()
        for name in self.provider_names:
            if now < self._poll_at.get(name, 0.0):
                continue
            self._poll_at[name] = now + self.tools.providers(name).poll_s
            if self.tools.books.store.index_upto(f"environments:moving:{name}", now, limit=1):
                self.queue.enqueue([jobs.poll(name)])

    def _now_and_then(self) -> None:
        now = self.tools.clock.now()
        if now >= self._reap_at:
            self._reap_at = now + REAP_S
            self.queue.enqueue([jobs.reap(name) for name in self.provider_names])
            self._survive("abandoned leases", lambda: self._take_back(self.reaper.abandoned()))
        if now >= self._watch_at:
            self._watch_at = now + WATCH_S
            watched = [name for name in self.provider_names if self._watches(name)]
            self.queue.enqueue([jobs.watch(name) for name in watched])
        if now >= self._measure_at:
            self._measure_at = now + MEASURE_S
            self._survive("measurements", self._measure)
        self._survive("surveys", self._survey)
        self._survive("visits of machines", self._visit)
        if now >= self._forget_at:
            self._forget_at = now + FORGET_S
            self.queue.enqueue([jobs.FORGET])

    def _watches(self, provider: str) -> bool:
        return bool(self.tools.books.store.index(f"environments:watched:{provider}", limit=1))

    def _survey(self) -> None:
        """Of clouds alone: whatever else there is shows nothing but our nodes, which the reaper compares."""
        now = self.tools.clock.now()
        clouds = [name for name in self.provider_names if self.tools.providers(name).cloud is not None]
        due = [name for name in clouds if now >= self._survey_at.get(name, 0.0)]
        for name in due:
            self._survey_at[name] = now + self.tools.providers(name).sync_s
        self.queue.enqueue([jobs.survey(name, takes_over=True) for name in due])

    def _visit(self) -> None:
        """Whether registered machines answer, and whether one of them was forgotten while it was dirty."""
        now = self.tools.clock.now()
        for name in self.provider_names:
            every_s = self.tools.providers(name).visit_s
            if every_s is not None and now >= self._visit_at.get(name, 0.0):
                self._visit_at[name] = now + every_s
                self.queue.enqueue([jobs.visit(name)])

    def _measure(self) -> None:
        limited = [name for name in self.provider_names if self.inventories.limited(name)]
        self.queue.enqueue([jobs.measure(name) for name in limited])
        for name in limited:
            self._survive(f"load at {name}", self.relief.relieve, name)


def _running(run: Run) -> Attempt | None:
    if run.current is None or run.current[1].state is not AttemptState.RUNNING:
        return None
    return run.current[1]
