"""What is written of pull requests: by whoever plans their triggers, hears of their end, or looks after them."""

from __future__ import annotations

from dataclasses import replace

from pipeline.domain import pulls
from pipeline.domain.blueprint import Blueprint
from pipeline.domain.intake import TriggerRecord
from pipeline.domain.pulls import Moment, Pull, Pushed, Shown
from pipeline.domain.triggers import Trigger, TriggerKind, pull_request_of
from pipeline.envs import jobs
from pipeline.envs.books import PULLS, Books, Loaded
from pipeline.ports.stores import Event, JobRequest, Put
from pipeline.stages.context import Tools

Puts = tuple[tuple[Put, ...], tuple[Event, ...], tuple[JobRequest, ...]]
NOTHING: Puts = ((), (), ())
#: The subject of what becomes of all pull requests: their documents go by themselves, and a subject of each would stay.
EVENTS = "pulls"
#: What comes so long after a pull request was closed, in seconds, is not known to be late any more.
CLOSED_TTL_S = 30 * 86_400


def planned(tools: Tools, record: TriggerRecord, trigger: Trigger, blueprint: Blueprint | None, mistake: str) -> Puts:
    """What belongs into the write that plans a trigger; nothing unless its pull request has an environment, or is to.

    A fork's has none, whatever it says.
    """
    if trigger.kind is not TriggerKind.PULL_REQUEST or trigger.fork or trigger.number is None:
        return NOTHING
    known, now = _find(tools.books, record.project, trigger.lane), tools.clock.now()
    rules = blueprint.triggers.pull_request if blueprint is not None else None
    moment = moment_of(record)
    if not mistake and rules is not None and rules.environment:
        pull = known.value if known is not None else _new(tools, record.project, trigger.lane, moment)
        return saved(known, pulls.pushed(pull, _pushed(trigger, moment, rules.ttl_s), now), now)
    if known is None or not known.value.open:
        return NOTHING
    if mistake:
        return saved(known, pulls.unread(known.value, moment, trigger.sha, mistake), now)
    return saved(known, pulls.unwanted(known.value, moment, now), now)


def is_closed(books: Books, record: TriggerRecord) -> bool:
    """Whether its pull request was closed after what it says happened."""
    if record.trigger.kind is not TriggerKind.PULL_REQUEST:
        return False
    known = _find(books, record.project, record.trigger.lane)
    return known is not None and not known.value.open and pulls.is_late(known.value, moment_of(record))


def closed(tools: Tools, project: str, lane: str, received_at: float, happened_at: float) -> Puts:
    """That a lane is gone; nothing unless it is a pull request's. One of which nobody heard yet is remembered."""
    if pull_request_of(lane) is None or tools.books.projects.find(project) is None:
        return NOTHING
    moment, now = Moment(happened_at, closing=True, received_at=received_at), tools.clock.now()
    known = _find(tools.books, project, lane)
    pull = known.value if known is not None else _new(tools, project, lane, moment)
    return saved(known, pulls.closed(pull, moment, now), now)


def moment_of(record: TriggerRecord) -> Moment:
    return Moment(record.trigger.happened_at or record.received_at, received_at=record.received_at)


def saved(known: Loaded[Pull] | None, new: Pull, now: float) -> Puts:
    """The write of a pull request, with its history and the jobs that it asks for; nothing when nothing changed."""
    old = known.value if known is not None else None
    return NOTHING if new == old else noted(known, _with_remark_due(old, new, now), now)


def noted(known: Loaded[Pull] | None, new: Pull, now: float) -> Puts:
    """The same, where it is known already whether its comment is to be written."""
    old = known.value if known is not None else None
    over = not (new.open or new.busy or new.remark.due_at is not None)
    put = PULLS.put(new.id, new, known.version if known is not None else 0, ttl_s=CLOSED_TTL_S if over else None)
    return (put,), _told(old, new, now), _jobs(old, new, now)


def _find(books: Books, project: str, lane: str) -> Loaded[Pull] | None:
    named = pull_request_of(lane)
    return books.pulls.find(pulls.id_of(project, _name(books, project, *named))) if named is not None else None


def _name(books: Books, project: str, repository: str, number: int) -> str:
    known = books.projects.find(project)
    return pulls.name_of(number, repository, known.value.repository if known is not None else "")


def _new(tools: Tools, project: str, lane: str, moment: Moment) -> Pull:
    named = pull_request_of(lane)
    assert named is not None  # noqa: S101  # whoever asks has looked
    repository, number = named
    return pulls.new(project, number, _name(tools.books, project, repository, number), moment, tools.ids.token())


def _pushed(trigger: Trigger, moment: Moment, ttl_s: float | None) -> Pushed:
    title = next(iter(trigger.message.splitlines()), "")
    return Pushed(moment, trigger.sha, trigger.forge, trigger.repository, trigger.slug, trigger.url, title, ttl_s)


def _with_remark_due(old: Pull | None, new: Pull, now: float) -> Pull:
    """Its comment is written anew when there is something else to say."""
    before = pulls.comment(old, Shown()) if old is not None else ""
    after = pulls.comment(new, Shown())
    if not after or after == before:
        return new
    return replace(new, remark=replace(new.remark, due_at=now, tries=0, fault=""))


def _told(old: Pull | None, new: Pull, now: float) -> tuple[Event, ...]:
    """One event for each thing that a person would want to know."""
    told = []
    if new.wanted is not None and (old is None or old.wanted != new.wanted):
        told.append(("wanted", new.wanted.sha))
    if new.serving is not None and (old is None or old.serving != new.serving):
        told.append(("serving", new.serving.environment))
    if new.fault and (old is None or old.fault != new.fault):
        told.append(("without", new.fault))
    if old is not None and old.open and not new.open:
        told.append(("closed", ""))
    return tuple(Event(EVENTS, f"pull.{what}", now, {"pull": new.id, "what": more}) for what, more in told)


def _jobs(old: Pull | None, new: Pull, now: float) -> tuple[JobRequest, ...]:
    wanted = []
    if new.wanted is not None and (old is None or old.wanted != new.wanted):
        wanted.append(jobs.begin_pull(new.id, new.wanted.number))
    due = new.remark.due_at
    if due is not None and due <= now and (old is None or old.remark != new.remark):
        wanted.append(jobs.remark(new))
    return tuple(wanted)
