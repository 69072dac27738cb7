"""What people ask of runs: start, cancel, run again, give back."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from pipeline.domain import runs
from pipeline.domain.environments import EnvironmentState, take_over
from pipeline.domain.errors import InvalidTransition, UserError
from pipeline.domain.intake import TriggerRecord, TriggerState
from pipeline.domain.runs import STAGES, Run, StageName, StageState, Stop, StopKind
from pipeline.domain.triggers import Trigger, TriggerKind
from pipeline.envs import events, jobs
from pipeline.envs.access import access_of
from pipeline.envs.books import Loaded, lane_index
from pipeline.envs.gate import Asking
from pipeline.envs.reaper import Reaper
from pipeline.ports.stores import Event, JobRequest, Put
from pipeline.ports.transports import EnvironmentAccess
from pipeline.stages.context import Tools
from pipeline.stages.deliver import GRACE_S
from pipeline.stages.runner import next_jobs, save_run
from pipeline.stages.statuses import with_status_due

Puts = tuple[tuple[Put, ...], tuple[Event, ...], tuple[JobRequest, ...]]
#: Who asks over the API.
BY_HAND = "operator"
CANCELLED = "cancelled by hand"
#: Why runs and triggers of a lane that is gone end.
GONE = "its branch or pull request is gone"


class Control:
    """Writes what is wanted; the tick and the workers carry it out."""

    def __init__(self, tools: Tools, reaper: Reaper) -> None:
        self._tools = tools
        self._books = tools.books
        self._reaper = reaper

    def submit(self, project: str, repository: str, sha: str, ref: str, actor: str) -> TriggerRecord:
        """Store a trigger by hand; it is planned as any other."""
        self._books.projects.get(project)
        now = self._tools.clock.now()
        trigger = Trigger(
            TriggerKind.API, forge="plain", repository=repository, sha=sha, branch=ref, actor=actor, message="by hand"
        )
        record = TriggerRecord(
            self._tools.ids.new("trg"), project, trigger, delivery_id="", received_at=now, due_at=now
        )
        put = self._books.triggers.kind.put(record.id, record, 0)
        self._books.commit(put, jobs=[jobs.plan(record.id, 0)])
        return record

    def cancel(self, run_id: str, asking: Asking | None = None) -> Run:
        """End a run by way of its destroy stage; a run that ends already is left alone.

        GuardRefused says what keeps its nodes from being taken back; what is overridden now is so in that stage, too.
        """
        asked = asking or Asking(BY_HAND, CANCELLED)
        return self._books.again(lambda: self._cancel(run_id, asked))

    def _cancel(self, run_id: str, asking: Asking) -> Run:
        loaded, now = self._books.runs.get(run_id), self._tools.clock.now()
        stopped = runs.stop(loaded.value, Stop(StopKind.CANCEL, asking.why, now, asking.overrides))
        if stopped is loaded.value:
            return stopped
        passed = self._judge_end(loaded.value, asking)
        if asking.dry_run:
            self._books.commit(events=passed)
            return loaded.value
        save_run(self._tools, loaded, stopped, told=passed)
        return stopped

    def _judge_end(self, run: Run, asking: Asking) -> tuple[Event, ...]:
        """What the gate says to taking a run's nodes back, as its destroy stage will ask it to."""
        environment = self._books.environments.find(run.environment_id) if run.environment_id else None
        return () if environment is None or run.nodes else self._tools.removals.begin(environment.value, asking).events

    def time_out(self, run_id: str) -> Run:
        """End a run if it takes too long; its destroy stage passes the gate on its own."""
        return self._books.again(lambda: self._time_out(run_id))

    def _time_out(self, run_id: str) -> Run:
        """Whoever asks may have seen it long ago: it may have begun again since."""
        loaded, now = self._books.runs.get(run_id), self._tools.clock.now()
        run = loaded.value
        if not runs.is_overdue(run, now):
            return run
        reason = f"the run took longer than its timeout of {run.plan.timeout_s:.0f} s"
        stopped = runs.stop(run, Stop(StopKind.TIMEOUT, reason, now))
        save_run(self._tools, loaded, stopped)
        return stopped

    def end_lane(self, project: str, lane: str, at: str, happened_at: str = "") -> None:
        """End the runs of a lane that is gone: its branch was deleted, its pull request closed.

        `at`: epoch seconds of the delivery that said so; triggers that came before it and wait start no run any more.
        `happened_at`: when it happened at the forge; what happened there afterwards goes on, though it came before.
        """
        self._books.again(lambda: self._end_lane(project, lane, float(at), float(happened_at or at)))

    def _end_lane(self, project: str, lane: str, at: float, happened_at: float) -> None:
        runs_ = [one for one in self._books.runs.in_index(lane_index(lane)) if one.value.project == project]
        older = [one for one in runs_ if one.value.trigger.happened_at <= happened_at]
        wish = Stop(StopKind.SUPERSEDE, GONE, self._tools.clock.now())
        puts, told, work = stopped_puts(self._tools, older, wish, "")
        ignored = self._ignored_triggers(project, lane, at, happened_at)
        if puts or ignored:
            self._books.commit(*puts, *ignored, events=told, jobs=work)

    def _ignored_triggers(self, project: str, lane: str, before: float, happened_at: float) -> list[Put]:
        kind = self._books.triggers.kind
        return [
            kind.put(record.id, replace(record, state=TriggerState.IGNORED, reason=GONE), loaded.version)
            for loaded in self._books.triggers.everything("triggers:due")
            for record in (loaded.value,)
            if record.project == project
            and record.trigger.lane == lane
            and record.received_at <= before
            and record.trigger.happened_at <= happened_at
        ]

    def rerun(self, run_id: str, first: StageName | None) -> Run:
        """A new run of the same commit, whole, or from a stage on the nodes that are held for it."""
        return self._books.again(lambda: self._rerun(run_id, first))

    def _rerun(self, run_id: str, first: StageName | None) -> Run:
        old, now = self._books.runs.get(run_id).value, self._tools.clock.now()
        self._check_own(old)
        self._books.projects.get(old.project)
        self._tools.providers(old.provider)
        new_id = self._tools.ids.new("run")
        if first is None or first is StageName.DELIVER:
            run = runs.rerun(old, new_id, now, StageName.DELIVER, "")
            save_run(self._tools, None, run)
            return run
        return self._rerun_from(old, new_id, first, now)

    def _check_own(self, old: Run) -> None:
        if old.blueprint is not None and any(role.rules.admitted for role in old.blueprint.environment.roles):
            raise InvalidTransition(f"run {old.id} is the acceptance of a machine; ask for another acceptance")
        asked = self._books.environments.find(old.environment_id) if old.environment_id else None
        if asked is not None and asked.value.contract is not None:
            raise InvalidTransition(f"run {old.id} prepared an environment on request; ask for a new environment")

    def _rerun_from(self, old: Run, new_id: str, first: StageName, now: float) -> Run:
        if first is StageName.DESTROY:
            raise UserError("a run cannot begin with destroy; `greenroom release` gives held nodes back")
        run = runs.rerun(old, new_id, now, first, old.environment_id)
        if not old.environment_id:
            raise InvalidTransition(f"run {old.id} holds no nodes; run it again from deliver")
        loaded = self._books.environments.get(old.environment_id)
        if loaded.value.state is not EnvironmentState.HELD:
            raise InvalidTransition(
                f"the nodes of {old.id} are not held any more ({loaded.value.state}); run it again from deliver"
            )
        taken = take_over(loaded.value, run.id, now + run.plan.timeout_s + GRACE_S, now)
        put = self._books.environments.kind.put(taken.id, taken, loaded.version)
        save_run(self._tools, None, run, (put,), tuple(events.of_environment(loaded.value, taken, now)))
        return run

    def give_access(self, run_id: str) -> EnvironmentAccess:
        """The way to a run's nodes, with their key; that it was given away is told in the run's history."""
        run = self._books.runs.get(run_id).value
        if not run.environment_id:
            raise InvalidTransition(f"run {run_id} has no environment")
        access = access_of(self._books.environments.get(run.environment_id).value, self._tools.secrets)
        told = Event(run_id, "access.given", self._tools.clock.now(), {"environment": access.environment_id})
        self._books.commit(events=[told])
        return access

    def release(self, run_id: str, asking: Asking | None = None) -> Run:
        """Give back the nodes that are held for a run; GuardRefused says what is in the way."""
        run = self._books.runs.get(run_id).value
        if not run.environment_id:
            raise InvalidTransition(f"run {run_id} has no environment to give back")
        environment = self._books.environments.get(run.environment_id).value
        going = environment.final or environment.state is EnvironmentState.DESTROYING
        if environment.state is not EnvironmentState.HELD and not going:
            what = f"environment {environment.id} is {environment.state}, not held"
            raise InvalidTransition(f"{what}; cancel run {environment.owner} to end it")
        asked = asking or Asking(BY_HAND, f"given back by hand after {run_id}")
        self._reaper.take_back(run.environment_id, asked, given_back=True)
        return run


def failed_stage(run: Run) -> StageName:
    """The stage that decided a run's verdict, for `rerun --from failed`."""
    for name in STAGES[:-1]:
        if run.stage(name).state in {StageState.FAILED, StageState.ERROR}:
            return name
    raise InvalidTransition(f"no stage of run {run.id} failed; name the stage to begin with")


def stopped_puts(tools: Tools, older: Iterable[Loaded[Run]], wish: Stop, by: str) -> Puts:
    """The writes, events and jobs that end runs because of another one."""
    puts: list[Put] = []
    told: list[Event] = []
    work: list[JobRequest] = []
    for loaded in older:
        stopped = runs.stop(loaded.value, wish)
        if stopped is loaded.value:
            continue
        final = with_status_due(loaded.value, replace(stopped, superseded_by=by), wish.at)
        puts.append(tools.books.runs.kind.put(final.id, final, loaded.version))
        told += events.of_run(loaded.value, final, wish.at)
        work += next_jobs(loaded.value, final, wish.at)
    return tuple(puts), tuple(told), tuple(work)
