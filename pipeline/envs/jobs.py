"""The names of queues and jobs."""

from __future__ import annotations

from pipeline.domain.environments import Environment, EnvironmentState
from pipeline.domain.pulls import Pull
from pipeline.domain.runs import Run, StageName
from pipeline.ports.stores import JobRequest

#: Served by forking workers: what may take long or hang.
WORK_QUEUE = "work"
#: Served by a worker of its own, so that a forge which hangs keeps no run waiting.
STATUS_QUEUE = "statuses"
#: Read by the leading tick itself.
TICK_QUEUE = "tick"
#: Asks the tick to look for runs that may begin and environments that may get room.
ADMIT = JobRequest("admit", TICK_QUEUE, "admit")
#: Asks the tick to end the runs of a lane, and the environment of its pull request: it hands over at least once, so
#: that no worker's death can lose it.
END_LANE = "end_lane"
#: Asks the tick to look at the stagings that have something to do.
STAGINGS = JobRequest("stagings", TICK_QUEUE, "stagings")
#: Forgets what is older than it is kept.
FORGET = JobRequest("forget_old", WORK_QUEUE, "forget_old")


def provider_queue(provider: str) -> str:
    """Served by non-forking workers, which keep their authenticated connection."""
    return f"provider-{provider}"


def ending_queue(provider: str) -> str:
    """Served by the same workers in turn with the other: what goes does not wait behind a crowd that comes."""
    return f"ends-{provider}"


def advance(environment: Environment, version: int) -> JobRequest:
    """The driver has something to do for an environment."""
    id = f"{environment.id}_advance_{version}"
    ends = environment.state is EnvironmentState.DESTROYING
    queue = ending_queue(environment.provider) if ends else provider_queue(environment.provider)
    return JobRequest(id, queue, "advance_environment", (environment.id,))


def poll(provider: str) -> JobRequest:
    return JobRequest(f"{provider}_poll", provider_queue(provider), "poll_provider", (provider,))


def reap(provider: str) -> JobRequest:
    return JobRequest(f"{provider}_reap", provider_queue(provider), "reap_provider", (provider,))


def watch(provider: str) -> JobRequest:
    """A look whether nodes that are in use are still there."""
    return JobRequest(f"{provider}_watch", provider_queue(provider), "watch_provider", (provider,))


def check_pool(pool: str) -> JobRequest:
    """A look whether the nodes of a warm pool's environments answer."""
    return JobRequest(f"pool_{pool}_check", WORK_QUEUE, "check_pool", (pool,))


def finish_claim(environment_id: str) -> JobRequest:
    """A claim of which nobody says what became is finished, or taken back."""
    return JobRequest(f"{environment_id}_claim", WORK_QUEUE, "finish_claim", (environment_id,))


def measure(provider: str) -> JobRequest:
    return JobRequest(f"{provider}_measure", provider_queue(provider), "measure_provider", (provider,))


def survey(provider: str, *, takes_over: bool) -> JobRequest:
    """A look at all of a provider's servers and machines; `takes_over`: the machines are put in force at once."""
    id = f"{provider}_{'sync' if takes_over else 'survey'}"
    return JobRequest(id, provider_queue(provider), "survey_provider", (provider, "sync" if takes_over else ""))


def clean(provider: str, machine: str, turn: int) -> JobRequest:
    """A registered machine is dirty; its reset may take long."""
    return JobRequest(f"{provider}_{machine}_clean_{turn}", WORK_QUEUE, "clean_machine", (provider, machine))


def visit(provider: str) -> JobRequest:
    """A look whether the registered machines of a provider answer."""
    return JobRequest(f"{provider}_visit", WORK_QUEUE, "visit_machines", (provider,))


def leftovers(provider: str) -> JobRequest:
    """A look at what hangs about at a provider."""
    return JobRequest(f"{provider}_leftovers", provider_queue(provider), "seek_leftovers", (provider,))


def plan(trigger_id: str, tries: int) -> JobRequest:
    return JobRequest(f"{trigger_id}_plan_{tries}", WORK_QUEUE, "plan_trigger", (trigger_id,))


def report(run: Run) -> JobRequest:
    return JobRequest(f"{run.id}_status_{run.status.tries}", STATUS_QUEUE, "report_status", (run.id,))


def qos_check(check_id: str) -> JobRequest:
    return JobRequest(check_id, WORK_QUEUE, "check_qos", (check_id,))


def cloud_act(provider: str, act_id: str) -> JobRequest:
    return JobRequest(act_id, provider_queue(provider), "act_on_cloud", (act_id,))


def cloud_setup(provider: str, setup_id: str) -> JobRequest:
    return JobRequest(setup_id, provider_queue(provider), "set_up_cloud", (setup_id,))


def command(command_id: str) -> JobRequest:
    return JobRequest(command_id, WORK_QUEUE, "run_command", (command_id,))


def begin_deploy(staging: str, number: int) -> JobRequest:
    """A deploy of a staging may begin; a worker reads the repository for it."""
    return JobRequest(f"staging_{staging}_{number}", WORK_QUEUE, "begin_deploy", (staging, str(number)))


def begin_pull(pull: str, number: int) -> JobRequest:
    """An environment of a pull request may be asked for; a worker reads the repository for it."""
    return JobRequest(f"pull_{pull}_{number}", WORK_QUEUE, "begin_pull", (pull, str(number)))


def remark(pull: Pull) -> JobRequest:
    """The comment at a pull request is to say something else."""
    return JobRequest(f"pull_{pull.id}_remark_{pull.remark.tries}", STATUS_QUEUE, "write_remark", (pull.id,))


def wake(run: Run) -> JobRequest:
    """A waiting attempt may go on."""
    return JobRequest(f"{run.id}_wake", provider_queue(run.provider), "wake_run", (run.id,))


def stage(run: Run, name: StageName, number: int) -> JobRequest:
    """One attempt of one stage; what can neither take long nor hang needs no fork, and goes to the provider's queue."""
    queue = WORK_QUEUE if reaches_nodes(run, name) else provider_queue(run.provider)
    return JobRequest(f"{run.id}_{name}_{number}", queue, "run_stage", (run.id, name.value, str(number)))


def reaches_nodes(run: Run, name: StageName) -> bool:
    """Whether a stage has something to do on nodes; the others only write in the books."""
    plan = run.plan
    needs = {
        StageName.DELIVER: False,
        StageName.CONFIGURE: any(role.run_list or role.script for role in plan.environment.roles),
        StageName.DEPLOY: bool(plan.deploy),
        StageName.TEST: bool(plan.test),
        StageName.DESTROY: bool(plan.artifacts),
    }
    return needs[name]
