"""Schedules: asked for, shown, removed, run now; the tick starts those that are due."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from pipeline.domain import schedules
from pipeline.domain.blueprint import Overlap, ScheduleSpec
from pipeline.domain.errors import AlreadyExists, InvalidTransition, NotFound, UserError
from pipeline.domain.guards import Act, Facts
from pipeline.domain.intake import TriggerRecord, TriggerState
from pipeline.domain.runs import RunState
from pipeline.domain.schedules import Due, Schedule, Source
from pipeline.domain.triggers import Trigger, TriggerKind, ref_refusal, repository_refusal
from pipeline.envs import jobs
from pipeline.envs.books import SCHEDULES, TRIGGERS, Books, Loaded
from pipeline.envs.gate import Asking, Gate
from pipeline.ports.common import Clock, Ids
from pipeline.ports.stores import Delete, Fence

#: Who asks for a run that was due.
ACTOR = "schedule"


@dataclass(frozen=True)
class Schedules:
    """Any number of processes at once; `start` and `put_forward` are the leading tick's."""

    books: Books
    gate: Gate
    clock: Clock
    ids: Ids

    def add(self, project: str, repository: str, spec: ScheduleSpec) -> Schedule:
        """A new schedule of a project's repository, its own one where none is named.

        AlreadyExists, NotFound, UserError.
        """
        own = repository or self.books.projects.get(project).value.repository
        if not own:
            raise UserError(f"project {project} has no repository of its own; name one")
        refused = repository_refusal(own) or ref_refusal(spec.branch)
        if refused:
            raise UserError(refused)
        made = schedules.new(project, own, schedules.checked(spec), Source.API, self.clock.now())
        return self.books.again(lambda: self._add(made))

    def _add(self, made: Schedule) -> Schedule:
        """The write counts on the project as it was seen, so that none is added to one that is being removed."""
        project = self.books.projects.get(made.project)
        if self.books.schedules.find(made.id) is not None:
            raise AlreadyExists(
                f"schedule {made.id} of project {made.project} asks for the same times of {made.spec.branch}; "
                f"`greenroom schedule rm {made.id}` removes it"
            )
        same = self.books.projects.kind.put(project.value.name, project.value, project.version)
        self.books.commit(SCHEDULES.put(made.id, made, 0), same)
        return made

    def get(self, id: str) -> Schedule:
        """NotFound says where to look."""
        return self._loaded(id).value

    def _loaded(self, id: str) -> Loaded[Schedule]:
        found = self.books.schedules.find(id)
        if found is None:
            raise NotFound(f"there is no schedule {id[:80]!r}; `greenroom schedule ls` lists them")
        return found

    def all(self, project: str = "") -> list[Schedule]:
        """All, or those of a project, oldest first."""
        index = f"schedules:project:{project}" if project else "schedules"
        return [loaded.value for loaded in self.books.schedules.everything(index)]

    def remove(self, id: str, asking: Asking) -> Schedule:
        """Forget a schedule; its runs stay. InvalidTransition for one that a file asks for."""
        return self.books.again(lambda: self._remove(id, asking))

    def _remove(self, id: str, asking: Asking) -> Schedule:
        loaded = self._loaded(id)
        if loaded.value.source is Source.FILE:
            raise InvalidTransition(
                f"schedule {id} stands in the greenroom.yml of {loaded.value.repository}; take it out there, and push"
            )
        passed = self.gate.judge(Act.DELETE_OBJECT, f"schedule {id}", Facts(who=asking.who), asking)
        gone = () if asking.dry_run else (Delete(SCHEDULES.name, id, loaded.version),)
        self.books.commit(*gone, *passed.writes, events=passed.events)
        return loaded.value

    def run_now(self, id: str, who: str) -> TriggerRecord:
        """Submit a run at once; its due times stay. InvalidTransition while the last one is not finished."""
        return self.books.again(lambda: self._run_now(id, who))

    def _run_now(self, id: str, who: str) -> TriggerRecord:
        loaded = self._loaded(id)
        busy = self.busy(loaded.value)
        if busy and loaded.value.spec.overlap is Overlap.SKIP:
            raise InvalidTransition(f"{busy} of schedule {id} is not finished; wait for it, or cancel it")
        record = self._record(loaded.value, self.ids.new("trg"), who)
        later = replace(loaded.value, last_trigger=record.id)
        self.books.commit(
            TRIGGERS.put(record.id, record, 0), SCHEDULES.put(id, later, loaded.version), jobs=[jobs.plan(record.id, 0)]
        )
        return record

    def due(self) -> Sequence[str]:
        """The ids of those that are due."""
        return self.books.store.index_upto("schedules:due", self.clock.now())

    def start(self, id: str, fence: Fence) -> None:
        """Decide a due time and submit its run, in one write: neither is done without the other, or twice."""
        self.books.again(lambda: self._start(id, fence))

    def _start(self, id: str, fence: Fence) -> None:
        loaded, now = self.books.schedules.find(id), self.clock.now()
        if loaded is None or not schedules.is_due(loaded.value, now):
            return
        decided = schedules.decide(loaded.value, now, self.busy(loaded.value))
        put = SCHEDULES.put(id, decided, loaded.version)
        if decided.last is not Due.STARTED or self.books.triggers.find(decided.last_trigger) is not None:
            self.books.commit(put, fence=fence)
            return
        record = self._record(loaded.value, decided.last_trigger, ACTOR)
        submitted = TRIGGERS.put(record.id, record, 0)
        self.books.commit(put, submitted, jobs=[jobs.plan(record.id, 0)], fence=fence)

    def _record(self, schedule: Schedule, id: str, who: str) -> TriggerRecord:
        now, spec = self.clock.now(), schedule.spec
        why = f"schedule {schedule.id}: {spec.cron} {spec.timezone}"
        trigger = Trigger(
            TriggerKind.SCHEDULE, "plain", schedule.repository, spec.branch, branch=spec.branch, actor=who, message=why
        )
        return TriggerRecord(id, schedule.project, trigger, "", now, due_at=now, priority=spec.priority)

    def busy(self, schedule: Schedule) -> str:
        """The last trigger or run of a schedule while it is not finished; empty otherwise."""
        record = self.books.triggers.find(schedule.last_trigger) if schedule.last_trigger else None
        if record is None:
            return ""
        if record.value.state is TriggerState.RECEIVED:
            return f"trigger {record.value.id}"
        run = self.books.runs.find(record.value.run_id) if record.value.run_id else None
        return "" if run is None or run.value.state is RunState.FINISHED else f"run {run.value.id}"

    def ids_of_all(self) -> Iterator[str]:
        return self.books.schedules.ids("schedules")

    def put_forward(self, id: str, fence: Fence) -> None:
        """After a jump back of the clock: what the wrong time put off is due when the right one says."""
        self.books.again(lambda: self._put_forward(id, fence))

    def _put_forward(self, id: str, fence: Fence) -> None:
        loaded = self.books.schedules.find(id)
        if loaded is None:
            return
        earlier = schedules.put_forward(loaded.value, self.clock.now())
        if earlier is not loaded.value:
            self.books.commit(SCHEDULES.put(id, earlier, loaded.version), fence=fence)
