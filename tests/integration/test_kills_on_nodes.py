"""kill -9 of workers in every stage of runs on real nodes: each goes on at once, ends as it should, leaves nothing."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest
from rq import Worker

from pipeline.domain.environments import EnvironmentState
from pipeline.domain.runs import AttemptState, Run, RunState, StageName, StageState
from tests.plugins.local_nodes import why_not
from tests.tools.deployed import PROJECT, Deployed, running
from tests.tools.deployment import children, wait_for

#: A run goes on within this after a kill: a worker is missed after 6 s.
GOES_ON_S = 15.0
#: Stages whose work is done by a forked work-horse.
FORKED = (StageName.CONFIGURE, StageName.DEPLOY, StageName.TEST, StageName.DESTROY)
BLUEPRINT = """\
version: 1
service: slow
environment:
  image: debian-12
  roles:
    web: {count: 1, size: tiny, script: bin/configure}
configure: {with: script}
deploy:
  - {role: web, to: /srv/slow, run: ["bin/slow deploy"]}
test:
  - {run: "bin/slow test && bin/many", on: "web[0]"}
artifacts:
  - {path: /var/tmp/many, on: web}
  - {path: /var/tmp/marks, on: web}
"""
SLOW = """\
#!/bin/sh
echo "{0} begun" | tee -a /var/tmp/marks; sleep 3; echo "{0} done" >> /var/tmp/marks
"""
FILES = {
    "greenroom.yml": BLUEPRINT,
    "bin/configure": SLOW.format("configure"),
    "bin/slow": SLOW.format("$1"),
    # So many files that fetching them takes seconds.
    "bin/many": "#!/bin/sh\nmkdir -p /var/tmp/many && cd /var/tmp/many && seq 8000 | xargs touch\n",
}

pytestmark = [
    pytest.mark.local,
    pytest.mark.redis,
    pytest.mark.timeout(300),
    pytest.mark.skipif(why_not() is not None, reason=str(why_not())),
]


@pytest.fixture(scope="module")
def up() -> Iterator[Deployed]:
    with running(workers=4) as one:
        one.add_project()
        yield one


@dataclass
class Victim:
    """A run whose workers are killed; `pauses` are the seconds from each kill until the run went on."""

    up: Deployed
    with_horse: bool
    sha: str
    run_id: str = ""
    pauses: dict[StageName, float] = field(default_factory=dict)

    def suffer(self) -> Run:
        """Lose a worker in every stage; the run at its end."""
        app = self.up.app
        trigger = app.control.submit(PROJECT, str(self.up.repository), self.sha, "main", "tester")
        self.run_id = wait_for(lambda: app.books.triggers.get(trigger.id).value.run_id, "the plan")
        self._kill_provider(EnvironmentState.BUILDING)
        wait_for(self._delivered, "the end of deliver", 90)
        for stage in FORKED:
            self._kill_in(stage)
        return wait_for(self._finished, "the end of the run", 60)

    def _run(self) -> Run:
        return self.up.app.books.runs.get(self.run_id).value

    def _delivered(self) -> bool:
        return self._run().stage(StageName.DELIVER).state is StageState.PASSED

    def _finished(self) -> Run | None:
        run = self._run()
        return run if run.state is RunState.FINISHED else None

    def _kill_provider(self, state: EnvironmentState) -> None:
        """All workers of the provider, in the middle of a build: they fork nothing."""

        def moves() -> bool:
            environment = self._run().environment_id
            return bool(environment) and self.up.app.books.environments.get(environment).value.state is state

        wait_for(moves, f"an environment that is {state}")
        for name, pid in self.up.pids().items():
            # One that the other victim has just ended has no process until it is started again.
            if pid is not None and name.startswith("provider-local-"):
                os.kill(pid, signal.SIGKILL)

    def _kill_in(self, stage: StageName) -> None:
        pid = wait_for(lambda: self._worker_of(stage), f"a worker in {stage}")
        wait_for(lambda: self._works(stage), f"work in {stage}")
        horses = children(pid) if self.with_horse else []
        for victim in (pid, *horses):
            os.kill(victim, signal.SIGKILL)
        self._note_pause(stage, 2, time.time())

    def _worker_of(self, stage: StageName) -> int | None:
        """The process that does the stage's first attempt."""
        job = f"{self.run_id}_{stage}_1"
        workers = Worker.all(connection=self.up.app.redis)
        return next((worker.pid for worker in workers if worker.get_current_job_id() == job), None)

    def _works(self, stage: StageName) -> bool:
        """Whether the stage's command runs on the node; destroy only opens its log before it fetches."""
        logs = self.up.app.logs
        names = [log.name for log in logs.logs(self.run_id) if log.name.startswith(f"{stage}-1")]
        said = b"".join(logs.read(self.run_id, name, 0, 1 << 16) for name in names)
        return f"{stage} begun".encode() in said or (bool(names) and stage is StageName.DESTROY)

    def _note_pause(self, stage: StageName, attempt: int, killed_at: float) -> None:
        """Wait until this attempt runs, and note how long that took by the run's own events."""
        kind = "attempt.running"

        def went_on() -> float | None:
            found = self.up.app.books.store.events(self.run_id)
            wanted = {"stage": stage.value, "attempt": attempt}
            ats = [one.at for one in found if one.type == kind and wanted.items() <= dict(one.data).items()]
            return ats[0] if ats else None

        self.pauses[stage] = wait_for(went_on, f"{kind} of {stage}") - killed_at


def test_a_killed_worker_costs_an_attempt_and_nothing_else(up: Deployed) -> None:
    sha = up.commit(FILES)
    victims = [Victim(up, with_horse, sha) for with_horse in (False, True)]
    with ThreadPoolExecutor() as pool:
        runs = list(pool.map(Victim.suffer, victims))
    for run, victim in zip(runs, victims, strict=True):
        assert str(run.verdict) == "passed", f"{run.reason}\n{up.said()}"
        assert max(victim.pauses.values()) < GOES_ON_S, victim.pauses
        *lost, last = [attempt.state for attempt in run.stage(StageName.DELIVER).attempts]
        # the other run's victims may have been at this one's deliver
        assert last is AttemptState.PASSED
        assert set(lost) <= {AttemptState.LOST}
        for stage in FORKED:
            states = [attempt.state for attempt in run.stage(stage).attempts]
            assert states == [AttemptState.LOST, AttemptState.PASSED], stage
        assert marks(up, run) == [
            f"{stage} {what}" for stage in ("configure", "deploy", "test") for what in ("begun", "begun", "done")
        ]


def marks(up: Deployed, run: Run) -> list[str]:
    """What the stages wrote on the node: a lost attempt began, and was ended there before it was done."""
    content = up.app.logs.open_artifact(run.id, "web-0/var/tmp/marks")
    return b"".join(content).decode().splitlines()


def test_afterwards_nothing_is_left(up: Deployed) -> None:
    assert up.app.books.environments.in_index("environments:standing:local") == []
    wait_for(lambda: not up.traces(), f"the end of {up.traces()}", 10)
    assert list((up.home / "run" / "ssh").iterdir()) == []
    bad = [check for check in up.json("doctor") if not check["ok"]]
    assert bad == []
