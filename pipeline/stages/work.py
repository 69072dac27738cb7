"""The tasks that workers do, by name: ids in, one use case each. Any of them may be called twice."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from pipeline.domain.environments import Environment
from pipeline.domain.errors import InfraError, StaleAttempt, UserError
from pipeline.domain.runs import StageName
from pipeline.envs.books import Books
from pipeline.envs.care import Care
from pipeline.envs.cloud_acts import CloudActs
from pipeline.envs.cloud_setups import CloudSetups
from pipeline.envs.leftovers import Leftovers
from pipeline.envs.lifecycle import SETTLED, Lifecycle, judgeable
from pipeline.envs.measuring import Measuring
from pipeline.envs.pools import Pools
from pipeline.envs.qos_checks import QosChecks
from pipeline.envs.reaper import Reaper
from pipeline.envs.surveys import Surveys
from pipeline.envs.watch import Watch
from pipeline.stages.commands import Commands
from pipeline.stages.handouts import Handouts
from pipeline.stages.planner import Planner
from pipeline.stages.pulls import Pulls
from pipeline.stages.remarks import Remarks
from pipeline.stages.retention import Retention
from pipeline.stages.runner import Runner
from pipeline.stages.statuses import Statuses
from pipeline.stages.switching import Switching

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Work:
    """All tasks of a deployment; `JobRequest.task` is the name of one of its methods."""

    books: Books
    planner: Planner
    runner: Runner
    lifecycle: Lifecycle
    reaper: Reaper
    statuses: Statuses
    retention: Retention
    qos_checks: QosChecks
    measuring: Measuring
    surveys: Surveys
    leftovers: Leftovers
    commands: Commands
    cloud_acts: CloudActs
    cloud_setups: CloudSetups
    watch: Watch
    switching: Switching
    care: Care
    pools: Pools
    handouts: Handouts
    pulls: Pulls
    remarks: Remarks

    def plan_trigger(self, trigger_id: str) -> None:
        self.planner.plan(trigger_id)

    def run_stage(self, run_id: str, stage: str, number: str) -> None:
        try:
            self.runner.run_attempt(run_id, StageName(stage), int(number))
        except StaleAttempt as error:
            log.info("%s; nothing of it counts", error)

    def wake_run(self, run_id: str) -> None:
        try:
            self.runner.wake(run_id)
        except StaleAttempt as error:
            log.info("%s; nothing of it counts", error)

    def advance_environment(self, environment_id: str) -> None:
        self._wake_owner(self.books.again(lambda: self.lifecycle.advance(environment_id)))

    def poll_provider(self, provider: str) -> None:
        for environment in self.lifecycle.poll(provider):
            self._wake_owner(environment)

    def reap_provider(self, provider: str) -> None:
        self.reaper.reap(provider)

    def watch_provider(self, provider: str) -> None:
        """What cannot be looked at now is looked at later."""
        try:
            self.watch.look(provider)
        except InfraError as error:
            log.info("provider %s: its nodes are looked for later: %s", provider, error)

    def clean_machine(self, provider: str, machine: str) -> None:
        self.care.clean(provider, machine)

    def visit_machines(self, provider: str) -> None:
        """Who cannot be visited now is visited later."""
        try:
            self.care.visit(provider)
        except InfraError as error:
            log.warning("provider %s: its machines are visited later: %s", provider, error)

    def measure_provider(self, provider: str) -> None:
        self.measuring.measure(provider)

    def survey_provider(self, provider: str, how: str) -> None:
        """A failure stands in the survey, where whoever waits for it looks."""
        try:
            self.surveys.survey(provider, takes_over=how == "sync")
        except (InfraError, UserError) as error:
            log.warning("provider %s could not be surveyed: %s", provider, error)

    def seek_leftovers(self, provider: str) -> None:
        """A failure stands in the report, where whoever waits for it looks."""
        try:
            self.leftovers.look(provider)
        except (InfraError, UserError) as error:
            log.warning("provider %s: leftovers could not be looked for: %s", provider, error)

    def check_qos(self, check_id: str) -> None:
        self.qos_checks.carry_out(check_id)

    def act_on_cloud(self, act_id: str) -> None:
        self.cloud_acts.carry_out(act_id)

    def set_up_cloud(self, setup_id: str) -> None:
        self.cloud_setups.carry_out(setup_id)

    def run_command(self, command_id: str) -> None:
        self.commands.carry_out(command_id)

    def begin_deploy(self, staging: str, number: str) -> None:
        self.switching.begin_deploy(staging, int(number))

    def begin_pull(self, pull: str, number: str) -> None:
        self.pulls.begin(pull, int(number))

    def write_remark(self, pull: str) -> None:
        self.remarks.write(pull)

    def check_pool(self, pool: str) -> None:
        self.pools.check(pool)

    def finish_claim(self, environment_id: str) -> None:
        self.handouts.finish(environment_id)

    def forget_old(self) -> None:
        self.retention.forget_old()

    def report_status(self, run_id: str) -> None:
        self.statuses.report(run_id)

    def _wake_owner(self, environment: Environment) -> None:
        scaling = environment.scaling
        if scaling is not None and scaling.run and judgeable(environment, scaling.run):
            self.wake_run(scaling.run)
        elif environment.owner and environment.state in SETTLED:
            self.wake_run(environment.owner)
