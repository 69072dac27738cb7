"""A pushed commit goes on to the staging that its greenroom.yml names, once its run passed.

It is asked for in the write that ends the run: no commit is lost between the two, and none is asked for twice.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from pipeline.domain import stagings
from pipeline.domain.blueprint import Blueprint
from pipeline.domain.errors import InvalidTransition
from pipeline.domain.runs import Run, RunState, Verdict
from pipeline.domain.stagings import Staging
from pipeline.domain.triggers import Trigger, staging_of
from pipeline.envs import jobs
from pipeline.envs.books import STAGINGS, Books, Loaded
from pipeline.ports.stores import Event, JobRequest, Put
from pipeline.stages.context import FILE

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Handover:
    """What the end of a run writes for a staging: its document, or an event that says why it gets nothing."""

    writes: tuple[Put, ...] = ()
    events: tuple[Event, ...] = ()
    jobs: tuple[JobRequest, ...] = ()


NOTHING = Handover()


def unstaged(books: Books, project: str, trigger: Trigger, blueprint: Blueprint) -> str:
    """Why a commit cannot go to the staging that its blueprint names; empty when it can, or goes to none."""
    name = staging_of(trigger, blueprint.triggers)
    return _misfit(books.stagings.find(name), name, project, blueprint) if name else ""


def _misfit(known: Loaded[Staging] | None, name: str, project: str, blueprint: Blueprint) -> str:
    if known is None:
        return (
            f"`on.push.staging` names {name}, and there is no such staging: "
            f"`greenroom staging set {name} --project {project}` makes it"
        )
    if known.value.spec.project != project:
        return f"`on.push.staging` names {name}, which belongs to another project than {project}: name another staging"
    roles = [role.name for role in blueprint.environment.roles]
    return "" if known.value.spec.blueprint else stagings.misfit(FILE, roles, known.value.spec)


def of(books: Books, old: Run | None, run: Run, now: float) -> Handover:
    """What is to be written beside a run that ends now; nothing unless it passed for a push that goes to a staging.

    A run that was begun again by hand has no trigger of its own, and goes nowhere.
    """
    ended = run.state is RunState.FINISHED and (old is None or old.state is not RunState.FINISHED)
    if not (ended and run.verdict is Verdict.PASSED and run.trigger_id and run.blueprint is not None):
        return NOTHING
    name = staging_of(run.trigger, run.blueprint.triggers)
    return _wanted(books, run, run.blueprint, name, now) if name else NOTHING


def _wanted(books: Books, run: Run, blueprint: Blueprint, name: str, now: float) -> Handover:
    loaded = books.stagings.find(name)
    why = _misfit(loaded, name, run.project, blueprint)
    if loaded is None or why:
        return _refused(run, name, why, now)
    record = books.triggers.find(run.trigger_id)
    as_of = record.value.received_at if record is not None else run.created_at
    actor, trigger = run.trigger.actor or f"run {run.id}", run.trigger
    try:
        new = stagings.want(loaded.value, trigger.branch, trigger.sha, actor, f"run {run.id} passed", as_of)
    except InvalidTransition as refused:
        return _refused(run, name, str(refused), now)
    work = [jobs.STAGINGS]
    if new.wanted is not None and stagings.may_begin(new):
        work.append(jobs.begin_deploy(name, new.wanted.number))
    return Handover((STAGINGS.put(name, new, loaded.version),), jobs=tuple(work))


def _refused(run: Run, name: str, why: str, now: float) -> Handover:
    log.warning("run %s: staging %s does not get %s: %s", run.id, name, run.trigger.sha[:12], why)
    told = Event(f"staging.{name}", "staging.not-deployed", now, {"run": run.id, "sha": run.trigger.sha, "why": why})
    return Handover(events=(told,))
