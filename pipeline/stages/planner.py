"""From a stored trigger to a run: the blueprint is read at the commit, its filters decide, older runs give way."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace

from pipeline.domain import failsafe, runs
from pipeline.domain.blueprint import Blueprint, Priority, Triggers
from pipeline.domain.environments import planned_nodes
from pipeline.domain.errors import InfraError, NotFound, UserError
from pipeline.domain.failsafe import GiveUp, OpenBreaker, RetryAt, WaitForCapacity
from pipeline.domain.intake import TriggerRecord, TriggerState
from pipeline.domain.projects import local_path
from pipeline.domain.runs import Run, RunState, Stop, StopKind, Verdict
from pipeline.domain.triggers import Trigger, TriggerKind, is_sha, refusal
from pipeline.envs.books import Loaded, lane_index
from pipeline.envs.providers import Provider
from pipeline.envs.wishes import unmet
from pipeline.ports.blueprints import BlueprintReader
from pipeline.ports.common import Secret
from pipeline.ports.stores import Put
from pipeline.stages import pull_books
from pipeline.stages.context import FILE, Tools, project_token
from pipeline.stages.control import Puts, stopped_puts
from pipeline.stages.handover import unstaged
from pipeline.stages.runner import save_run
from pipeline.stages.schedule_files import ScheduleFiles

log = logging.getLogger(__name__)
FILE_LIMIT = 256 * 1024
PRIORITIES: Mapping[TriggerKind, Priority] = {
    TriggerKind.API: Priority.INTERACTIVE,
    TriggerKind.SCHEDULE: Priority.NIGHTLY,
}
#: A trigger that is being planned is left alone for so long: a slow repository must not occupy every worker.
PLANNING_S = 20.0
#: The document whose version orders the planning of one lane's triggers, and how long it is needed after the last one.
LANE = "lane"
LANE_TTL_S = 3600


def planning(record: TriggerRecord) -> str:
    """The token of whoever plans a trigger."""
    return f"{record.id}.plan.{record.tries}"


@dataclass(frozen=True)
class _Plan:
    """What a trigger comes to: a blueprint to run, a refusal by its filters, or a mistake in it."""

    trigger: Trigger
    blueprint: Blueprint | None = None
    ignored: str = ""
    mistake: str = ""


class Planner:
    """Plans triggers; any number of workers at once."""

    def __init__(self, tools: Tools, reader: BlueprintReader, default_provider: str) -> None:
        self._tools = tools
        self._books = tools.books
        self._reader = reader
        self._default_provider = default_provider
        self._schedule_files = ScheduleFiles(tools)

    def plan(self, trigger_id: str) -> None:
        """Make a trigger's run, or say why there is none; nothing when that was done already."""
        record = self._books.triggers.get(trigger_id).value
        if record.state is not TriggerState.RECEIVED:
            return
        self._books.store.beat(planning(record), PLANNING_S)
        if record.handed > failsafe.MAX_LOST:
            lost = _Plan(record.trigger, mistake=f"planning lost its worker {record.handed - 1} times; see its log")
            self._books.again(lambda: self._settle(trigger_id, lost, Verdict.ERROR))
            return
        if self._books.projects.find(record.project) is None:
            gone = _Plan(record.trigger, ignored=f"project {record.project} was removed")
            self._books.again(lambda: self._settle(trigger_id, gone))
            return
        try:
            plan = self._read(record)
        except InfraError as error:
            self._postpone(record, error)
        except Exception as error:  # whoever pushed waits for a verdict; the whole text goes to the log
            log.exception("trigger %s could not be planned", trigger_id)
            broken = _Plan(record.trigger, mistake=f"internal error: {error!r}; see the worker's log")
            self._books.again(lambda: self._settle(trigger_id, broken, Verdict.ERROR))
        else:
            self._books.again(lambda: self._settle(trigger_id, plan))

    def _read(self, record: TriggerRecord) -> _Plan:
        refused = self._local_refusal(record)
        if refused:
            return _Plan(record.trigger, mistake=refused)
        token = project_token(self._books, self._tools.secrets, record.project, record.trigger.repository)
        try:
            theirs = self._home_rules(record) if record.trigger.fork else None
            kept_out = refusal(record.trigger, theirs, ()) if theirs is not None else None
            if kept_out:  # nothing of a fork that is not let in is read
                return _Plan(record.trigger, ignored=kept_out)
            trigger = self._exact(record.trigger, token)
            blueprint = self._reader.read(FILE, self._content(record, trigger, token))
            self._schedule_files.take_over(record, trigger, blueprint.triggers.schedule, token)
            provider = self._tools.providers(self._provider_of(record.project, blueprint))
            rules = theirs or blueprint.triggers
            ignored = refusal(trigger, rules, self._changed(trigger, rules, token))
            lacking = "" if ignored else self._lacking(record.project, provider, trigger, blueprint)
            if lacking:
                return _Plan(trigger, mistake=lacking)
        except UserError as error:
            return _Plan(record.trigger, mistake=str(error))
        return _Plan(trigger, blueprint=blueprint, ignored=ignored or "")

    def _lacking(self, project: str, provider: Provider, trigger: Trigger, blueprint: Blueprint) -> str:
        """What the blueprint wants and cannot have here; empty when it can have everything."""
        return unmet(provider, planned_nodes(blueprint.environment)) or unstaged(
            self._books, project, trigger, blueprint
        )

    def _content(self, record: TriggerRecord, trigger: Trigger, token: Secret | None) -> bytes:
        """The text of its greenroom.yml; where the file is gone, so are the schedules in it."""
        try:
            return self._tools.repositories.read(
                trigger.repository, trigger.sha, FILE, limit_bytes=FILE_LIMIT, credential=token
            )
        except NotFound:
            self._schedule_files.take_over(record, trigger, (), token)
            raise

    def _local_refusal(self, record: TriggerRecord) -> str:
        """Why a delivery may not name a repository of this machine; empty when it may, or names another one."""
        named = (local_path(record.trigger.repository), local_path(record.trigger.home))
        allowed = self._books.projects.get(record.project).value.local_repositories
        path = next((one for one in named if one and one not in allowed), "")
        if not path or record.trigger.kind in PRIORITIES:
            return ""
        return (
            f"project {record.project} may not use {path} of this machine; "
            f"`greenroom hook install {path} --project {record.project}` lets it"
        )

    def _exact(self, trigger: Trigger, token: Secret | None) -> Trigger:
        """The trigger with a whole commit id; some forges send a shortened one."""
        if is_sha(trigger.sha):
            return trigger
        sha = self._tools.repositories.resolve(trigger.repository, trigger.sha, credential=token)
        return replace(trigger, sha=sha)

    def _home_rules(self, record: TriggerRecord) -> Triggers:
        """The `on:` of the branch that a fork's pull request wants to merge into; a fork lets nobody in by its own."""
        home = record.trigger.home or record.trigger.repository
        token = project_token(self._books, self._tools.secrets, record.project, home)
        repositories = self._tools.repositories
        try:
            sha = repositories.resolve(home, record.trigger.target, credential=token)
            content = repositories.read(home, sha, FILE, limit_bytes=FILE_LIMIT, credential=token)
            return self._reader.read(FILE, content).triggers
        except UserError:
            return Triggers(push=None)

    def _changed(self, trigger: Trigger, rules: Triggers, token: Secret | None) -> tuple[str, ...]:
        """Changed paths, asked for only where a filter wants them."""
        push, pull = rules.push, rules.pull_request
        by_path = (push is not None and (push.paths or push.paths_ignore)) or (pull is not None and pull.paths_ignore)
        if not by_path or trigger.kind not in {TriggerKind.PUSH, TriggerKind.PULL_REQUEST}:
            return ()
        return self._tools.repositories.changed_paths(trigger.repository, trigger.base, trigger.sha, credential=token)

    def _postpone(self, record: TriggerRecord, error: InfraError) -> None:
        """Try again later; a repository that stays out of reach becomes a run in error, so that nobody waits for it."""
        now = self._tools.clock.now()
        match failsafe.decide(error, record.tries + 1, now, self._tools.ids.dice()):
            case GiveUp(reason=mistake):
                plan = _Plan(record.trigger, mistake=mistake)
                self._books.again(lambda: self._settle(record.id, plan, Verdict.ERROR))
            case RetryAt(at=at, reason=why) | WaitForCapacity(at=at, reason=why) | OpenBreaker(at=at, reason=why):
                loaded = self._books.triggers.get(record.id)
                later = replace(loaded.value, tries=record.tries + 1, handed=0, due_at=at, reason=why)
                self._books.commit(self._books.triggers.kind.put(record.id, later, loaded.version))

    def _settle(self, trigger_id: str, plan: _Plan, verdict: Verdict = Verdict.FAILED) -> None:
        loaded = self._books.triggers.get(trigger_id)
        if loaded.value.state is not TriggerState.RECEIVED:
            return
        if not plan.ignored and pull_books.is_closed(self._books, loaded.value):
            plan = replace(plan, ignored="its pull request was closed")
        if plan.ignored:
            ignored = replace(loaded.value, state=TriggerState.IGNORED, reason=plan.ignored)
            self._books.commit(self._books.triggers.kind.put(trigger_id, ignored, loaded.version))
            return
        self._create(loaded, plan, verdict)

    def _create(self, loaded: Loaded[TriggerRecord], plan: _Plan, verdict: Verdict) -> None:
        """The run, its trigger's end and the end of older runs of the lane, in one write."""
        record, now = loaded.value, self._tools.clock.now()
        run = self._new_run(record, plan, now)
        turn, lane = self._turn(run), self._lane_of(run)
        newer = next((other.value for other in lane if other.value.trigger_id > record.id), None)
        if plan.mistake:
            run = runs.reject(run, verdict, plan.mistake, now)
        elif newer is not None:
            run = replace(_outrun(run, newer, now), superseded_by=newer.id)
        planned = replace(record, state=TriggerState.PLANNED, run_id=run.id)
        puts, told, work = self._superseding(run, [other for other in lane if other.value.trigger_id < record.id])
        put = self._books.triggers.kind.put(record.id, planned, loaded.version)
        own = pull_books.planned(self._tools, record, plan.trigger, plan.blueprint, plan.mistake)
        save_run(self._tools, None, run, (put, *turn, *puts, *own[0]), (*told, *own[1]), (*work, *own[2]))

    def _turn(self, run: Run) -> tuple[Put, ...]:
        """Two triggers of one lane must not be planned past each other: whoever plans one writes its lane."""
        if not run.trigger.lane:
            return ()
        name = lane_index(run.trigger.lane)
        there = self._books.store.get(LANE, name)
        return (Put(LANE, name, there.version if there is not None else 0, {"run": run.id}, ttl_s=LANE_TTL_S),)

    def _provider_of(self, project: str, blueprint: Blueprint | None) -> str:
        wanted = blueprint.environment.provider if blueprint is not None else None
        return wanted or self._books.projects.get(project).value.provider or self._default_provider

    def _new_run(self, record: TriggerRecord, plan: _Plan, now: float) -> Run:
        return Run(
            id=self._tools.ids.new("run"),
            project=record.project,
            trigger=plan.trigger,
            state=RunState.PENDING,
            created_at=now,
            blueprint=plan.blueprint,
            provider=self._provider_of(record.project, plan.blueprint),
            priority=record.priority or PRIORITIES.get(record.trigger.kind, Priority.PUSH),
            trigger_id=record.id,
        )

    def _lane_of(self, run: Run) -> list[Loaded[Run]]:
        """Unfinished runs of the same lane; a run that was begun again by hand is older than every trigger."""
        if not run.trigger.lane:
            return []
        lane = self._books.runs.in_index(lane_index(run.trigger.lane))
        return [loaded for loaded in lane if loaded.value.project == run.project]

    def _superseding(self, run: Run, older: list[Loaded[Run]]) -> Puts:
        wish = Stop(StopKind.SUPERSEDE, _by(run), run.created_at)
        return stopped_puts(self._tools, older, wish, run.id)


def _by(newer: Run) -> str:
    return f"superseded by {newer.id} ({newer.trigger.sha[:12]})"


def _outrun(run: Run, newer: Run, now: float) -> Run:
    """Its trigger is older than that of a run which was planned before it."""
    return runs.reject(run, Verdict.SUPERSEDED, _by(newer), now)
