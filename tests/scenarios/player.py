"""Plays a scenario file in a `World`: knobs first, then steps, then what is expected.

A file has these keys:
  about       one sentence
  world       `max_nodes`
  projects    name to `max_runs` (default: one project `shop`)
  greenroom   the blueprint: text, nothing, or a mapping whose keys replace those of `USUAL`;
              `blueprints` has more of them by name
  commands    what nodes answer, the first match answers: `match`, then `exit`, `say`,
              `overrun`, `flood`, `files`, `kill`, `do` (a step), `times`
  suites      testinfra suites: path to `passed` or the summary of a failure
  steps       one-key mappings, see `Player`
  expect      see `tests.scenarios.expectations`
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from pipeline.adapters.drivers.memory import MemoryDriver
from pipeline.adapters.transports.memory import Call
from pipeline.domain import errors, resizing
from pipeline.domain.errors import InfraError
from pipeline.domain.inventory import Inventory, Load, LoadLimits, Machine, Zone
from pipeline.domain.qos import QosProfile
from pipeline.domain.resources import SIZES
from pipeline.domain.runs import Run, StageName
from pipeline.domain.triggers import Trigger, TriggerKind
from pipeline.envs import jobs
from pipeline.envs.moving_off import ANEW
from pipeline.ports.common import LimitExceeded, Secret
from pipeline.ports.drivers import EnvironmentRequest, NodeRequest
from pipeline.ports.stores import JobRequest
from pipeline.ports.verifiers import VerifyResult
from pipeline.stages.control import failed_stage
from tests.scenarios.expectations import check
from tests.scenarios.world import ERRORS, WorkerKilled, World, repository_of

Case = Mapping[str, Any]
USUAL: Case = {
    "version": 1,
    "service": "shop",
    "environment": {"image": "debian-12", "roles": {"web": {"script": "setup.sh"}}},
    "deploy": [{"role": "web", "to": "/srv/shop", "run": ["./migrate"]}],
    "test": [{"run": "./check"}],
}
#: What nodes answer unless the scenario says otherwise.
USUAL_COMMANDS = ({"match": r"\./migrate"}, {"match": r"\./check"})


def usual_world(scratch: Path, status: int = 0, **options: Any) -> World:
    """A world with the project `shop`, in which the commands of `USUAL` end with `status`."""
    world = World(str(scratch), **options)
    world.project("shop")
    for command in USUAL_COMMANDS:
        world.program(command["match"], lambda _: status)
    return world


class Player:
    """One scenario in one world."""

    def __init__(self, case: Case, scratch: str) -> None:
        self.case = case
        self.world = World(scratch, **case.get("world", {}))
        for name, limit in case.get("projects", {"shop": 20}).items():
            self.world.project(name, max_runs=limit)
        for command in (*case.get("commands", ()), *USUAL_COMMANDS):
            self.world.program(command["match"], self._answer(command))
        for path, answer in case.get("suites", {}).items():
            self.world.suites.answers[path] = VerifyResult(answer == "passed", str(answer))
        self._steps: Mapping[str, Callable[[Any], None]] = {
            "push": self._push,
            "delete_branch": self._delete_branch,
            "advance": self.world.advance,
            "settle": lambda _: self.world.settle(),
            "cancel": lambda number: self._control(number, "cancel"),
            "release": lambda number: self._control(number, "release"),
            "rerun": self._rerun,
            "refuse": self._refuse,
            "cloud": self._cloud,
            "inventory": self._inventory,
            "measure": self._measure,
            "configurator": self._configurator,
            "forge": lambda words: self.world.forge.refusals.extend(map(_infra, words)),
            "repository": self._repository,
            "unreachable": self._unreachable,
            "vanish": self._vanish,
            "build_anew": self._build_anew,
            "kill": lambda step: self.world.grave.dig(step["at"], step.get("time", 1)),
            "beats_lapse": lambda _: self.world.let_beats_lapse(),
            "lose_job": self._lose_job,
            "orphan": self._orphan,
            "leak": self._leak,
            "expect": lambda expected: check(self.world, expected),
        }

    def play(self) -> None:
        for step in self.case["steps"]:
            self._do(step)
        check(self.world, self.case["expect"])

    def rehearse(self) -> None:
        """Do all steps, whatever comes of them."""
        for step in self.case["steps"]:
            if "expect" not in step:
                self._do(step)

    def _do(self, step: Mapping[str, Any] | str) -> None:
        if isinstance(step, str):
            self._steps[step](None)
            return
        ((name, value),) = step.items()
        self._steps[name](value)

    def _run(self, number: int) -> Run:
        return self.world.all_runs()[number - 1]

    def _push(self, step: Mapping[str, Any] | None) -> None:
        step = dict(step or {})
        name = step.pop("greenroom", None)
        blueprint = self.case["blueprints"][name] if name else self.case.get("greenroom", {})
        if isinstance(blueprint, Mapping):
            blueprint = {**USUAL, **blueprint}
        at_once = step.pop("settle", True)
        self.world.push(step.pop("project", "shop"), blueprint, **step)
        if at_once:
            self.world.settle()

    def _delete_branch(self, branch: str) -> None:
        lane = Trigger(TriggerKind.PUSH, "github", repository_of("shop"), "0" * 40, branch=branch).lane
        words = ("shop", lane, str(self.world.clock.now()))
        self.world.books.commit(jobs=[JobRequest("gone_end", jobs.TICK_QUEUE, jobs.END_LANE, words)])
        self.world.settle()

    def _control(self, number: int, act: str) -> None:
        if act == "cancel":
            self.world.control.cancel(self._run(number).id)
        else:
            self.world.control.release(self._run(number).id)
        self.world.settle()

    def _rerun(self, step: Mapping[str, Any]) -> None:
        run = self._run(step["run"])
        wanted = step.get("from")
        first = failed_stage(run) if wanted == "failed" else StageName(wanted) if wanted else None
        self.world.control.rerun(run.id, first)
        if step.get("settle", True):
            self.world.settle()

    def _refuse(self, step: Mapping[str, Any]) -> None:
        with pytest.raises(getattr(errors, step["with"]), match=step["saying"]):
            self._do(step["step"])

    def _cloud(self, knobs: Mapping[str, Any]) -> None:
        cloud = self.world.cloud
        for name, value in knobs.items():
            if name == "finish":
                cloud.finish()
            elif name.startswith("fail_"):
                getattr(cloud, name).extend(map(_infra, value))
            else:
                setattr(cloud, name, value)
        self.world.settle()

    def _inventory(self, step: Mapping[str, Any]) -> None:
        """Declare machines for one small node each; above `drain` of their vCPUs they give best-effort nodes back."""
        machines = tuple(Machine(name, "rack", {"vcpu": 1.0}) for name in step["machines"])
        limits = LoadLimits(drain={"vcpu": step["drain"]}, stale_s=1e6, ramp_s=0.0) if "drain" in step else None
        self.world.inventories.sync("cloud", Inventory(machines, (Zone("rack"),), limits=limits))
        self.world.settle()

    def _measure(self, vcpu: Mapping[str, float]) -> None:
        now = self.world.clock.now()
        self.world.inventories.report_loads("cloud", {name: Load(now, {"vcpu": used}) for name, used in vcpu.items()})

    def _configurator(self, knobs: Mapping[str, Any]) -> None:
        which = self.world.chef if knobs["name"] == "chef" else self.world.script
        which.unavailable = knobs.get("unavailable", which.unavailable)
        which.restless = knobs.get("restless", which.restless)
        which.once += [_error(word) for word in knobs.get("once", ())]

    def _repository(self, words: Sequence[str]) -> None:
        for word in words:
            self.world.repositories.fail_next(_infra(word))

    def _unreachable(self, nodes: Mapping[str, str]) -> None:
        self.world.transport.unreachable = dict(nodes)

    def _vanish(self, node: str) -> None:
        """Somebody else destroys the nodes of this name."""
        self.world.cloud.nodes = {key: view for key, view in self.world.cloud.nodes.items() if view.name != node}
        self._unreachable({node: "no route"})

    def _build_anew(self, node: str) -> None:
        """Nodes of this name are elsewhere now, without what was on their disks."""
        for one in self.world.books.environments.everything("environments"):
            if one.value.named({node}):
                lost = resizing.lose(one.value, {node: ANEW})
                self.world.books.commit(self.world.books.environments.kind.put(lost.id, lost, one.version))

    def _lose_job(self, pattern: str) -> None:
        """Let the queue forget every job that waits and matches."""
        queue = self.world.queue
        kept = queue.jobs
        for _ in range(3):  # a job that admission asks for comes one step later
            self.world.tick.step(self.world.fence)
            kept = [job for job in queue.jobs if not re.search(pattern, job.id)]
            if len(kept) < len(queue.jobs):
                break
        assert len(kept) < len(queue.jobs), f"no job like {pattern} waits: {queue.jobs}"
        queue.jobs[:] = kept

    def _orphan(self, step: Mapping[str, Any]) -> None:
        """An environment in the cloud that no book knows."""
        driver = MemoryDriver(self.world.cloud, step.get("deployment", "world"))
        ends_at = self.world.clock.now() + step["ends_in"]
        node = NodeRequest("web-0", "web", "debian-12", SIZES["small"], QosProfile(), Secret(""), "")
        deployment = step.get("deployment", "world")
        driver.create(EnvironmentRequest(deployment, step["id"], "shop", "", ends_at, (node,)))

    def _leak(self, number: int) -> None:
        """Servers of an environment that the books know as gone."""
        environment = self.world.all_environments()[number - 1]
        assert environment.final
        self._orphan({"id": environment.id, "ends_in": 10_000})

    def _answer(self, command: Mapping[str, Any]) -> Callable[[Call], int | None]:
        left = [command.get("times", 1_000_000)]

        def answer(call: Call) -> int | None:
            if left[0] == 0:
                return None
            left[0] -= 1
            return self._act(command, call)

        return answer

    def _act(self, command: Mapping[str, Any], call: Call) -> int:
        if command.get("kill"):
            self.world.grave.die(call.command)
        if "do" in command:
            self.world.store.writer = "world"
            self._do(command["do"])
            self.world.store.writer = "worker"
        for path, content in command.get("files", {}).items():
            self.world.transport.files[call.environment_id, call.node, path] = str(content).encode()
        if "say" in command:
            call.output(f"{command['say']}\n".encode())
        while command.get("flood"):
            call.output(b"and on and on\n" * 4096)
        if "overrun" in command:
            self.world.clock.sleep(call.limits.total_s)
            raise LimitExceeded(command["overrun"], f"still running after {call.limits.total_s:g} s")
        return int(command.get("exit", 0))


def _error(word: str) -> BaseException:
    """`transient: text` and its like; `killed` for the worker's death."""
    kind, _, text = word.partition(": ")
    if kind == "killed":
        return WorkerKilled()
    if kind == "failed":
        return errors.StageFailed(text)
    return _infra(word)


def _infra(word: str) -> InfraError:
    kind, _, text = word.partition(": ")
    return ERRORS[kind](text or f"{kind} by the scenario")
