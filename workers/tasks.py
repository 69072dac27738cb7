"""What RQ calls: ids in, one use case each. Any of them may be called twice."""

from __future__ import annotations

import logging
from functools import cache

from pipeline.bootstrap import Application, build
from pipeline.domain.environments import Environment
from pipeline.domain.errors import StaleAttempt
from pipeline.domain.runs import StageName
from pipeline.envs.lifecycle import SETTLED
from pipeline.stages.runner import Runner
from workers.pulse import AttemptRevoked, keep_alive

log = logging.getLogger(__name__)


@cache
def application() -> Application:
    """One application for the life of a worker."""
    return build()


@cache
def _runner() -> Runner:
    return application().runner(keep_alive(application().books))


def plan_trigger(trigger_id: str) -> None:
    application().planner.plan(trigger_id)


def end_lane(project: str, lane: str) -> None:
    application().planner.end_lane(project, lane)


def run_stage(run_id: str, stage: str, number: str) -> None:
    try:
        _runner().run_attempt(run_id, StageName(stage), int(number))
    except (StaleAttempt, AttemptRevoked):
        log.info("run %s: attempt %s of %s was given to another worker; nothing of it counts", run_id, number, stage)


def wake_run(run_id: str) -> None:
    _runner().wake(run_id)


def advance_environment(environment_id: str) -> None:
    books, lifecycle = application().books, application().lifecycle
    _wake_owner(books.again(lambda: lifecycle.advance(environment_id)))


def poll_provider(provider: str) -> None:
    books, lifecycle = application().books, application().lifecycle
    for environment in books.again(lambda: lifecycle.poll(provider)):
        _wake_owner(environment)


def reap_provider(provider: str) -> None:
    application().reaper.reap(provider)


def report_status(run_id: str) -> None:
    application().statuses.report(run_id)


def _wake_owner(environment: Environment) -> None:
    if environment.owner and environment.state in SETTLED:
        _runner().wake(environment.owner)
