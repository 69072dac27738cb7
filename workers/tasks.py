"""What RQ calls; each hands its ids to the use case of the same name."""

from __future__ import annotations

import logging
from functools import cache

from pipeline.bootstrap import Application, build
from pipeline.stages.work import Work
from workers.pulse import AttemptRevoked, keep_alive

log = logging.getLogger(__name__)


@cache
def application() -> Application:
    """One application for the life of a worker."""
    return build()


@cache
def work() -> Work:
    return application().work(keep_alive(application().books))


def plan_trigger(trigger_id: str) -> None:
    work().plan_trigger(trigger_id)


def run_stage(run_id: str, stage: str, number: str) -> None:
    try:
        work().run_stage(run_id, stage, number)
    except AttemptRevoked:
        log.info("run %s: attempt %s of %s was given to another worker; nothing of it counts", run_id, number, stage)


def wake_run(run_id: str) -> None:
    work().wake_run(run_id)


def advance_environment(environment_id: str) -> None:
    work().advance_environment(environment_id)


def poll_provider(provider: str) -> None:
    work().poll_provider(provider)


def reap_provider(provider: str) -> None:
    work().reap_provider(provider)


def watch_provider(provider: str) -> None:
    work().watch_provider(provider)


def clean_machine(provider: str, machine: str) -> None:
    work().clean_machine(provider, machine)


def visit_machines(provider: str) -> None:
    work().visit_machines(provider)


def measure_provider(provider: str) -> None:
    work().measure_provider(provider)


def survey_provider(provider: str, how: str) -> None:
    work().survey_provider(provider, how)


def seek_leftovers(provider: str) -> None:
    work().seek_leftovers(provider)


def act_on_cloud(act_id: str) -> None:
    work().act_on_cloud(act_id)


def set_up_cloud(setup_id: str) -> None:
    work().set_up_cloud(setup_id)


def check_pool(pool: str) -> None:
    work().check_pool(pool)


def finish_claim(environment_id: str) -> None:
    work().finish_claim(environment_id)


def forget_old() -> None:
    work().forget_old()


def report_status(run_id: str) -> None:
    work().report_status(run_id)


def check_qos(check_id: str) -> None:
    work().check_qos(check_id)


def begin_deploy(staging: str, number: str) -> None:
    work().begin_deploy(staging, number)


def begin_pull(pull: str, number: str) -> None:
    work().begin_pull(pull, number)


def write_remark(pull: str) -> None:
    work().write_remark(pull)


def run_command(command_id: str) -> None:
    work().run_command(command_id)
