"""Runs through the real processes: Redis, RQ workers, the tick; and what happens when they are killed."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rq.job import Job
from rq.serializers import JSONSerializer

from pipeline.domain.environments import EnvironmentState
from pipeline.domain.runs import AttemptState, Run, RunState, StageName, Verdict
from pipeline.envs.jobs import ending_queue, provider_queue
from pipeline.ports.common import Secret
from pipeline.ports.stores import JobRequest
from tests.plugins.redis_server import RedisServer
from tests.tools.deployment import Deployment, children, make_repository, wait_for

pytestmark = pytest.mark.redis
BLUEPRINT = {
    "version": 1,
    "service": "shop",
    "environment": {"image": "debian-12", "roles": {"web": {"script": "setup.sh"}}},
    "deploy": [{"role": "web", "to": "/srv/shop", "run": ["./migrate"]}],
    "test": [{"run": "./check"}],
}
#: A run whose worker was killed goes on in so many seconds.
GOES_ON_S = 15.0
#: Forked stages, and where their commands are.
FORKED = [StageName.CONFIGURE, StageName.DEPLOY, StageName.TEST]


def make_deployment(home: Path) -> Deployment:
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is missing: run make setup")
    deployment = Deployment(home, RedisServer(home))
    deployment.redis.start()
    return deployment


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """One deployment for all tests of this module that leave it whole."""
    deployment = make_deployment(tmp_path_factory.mktemp("home"))
    try:
        deployment.app.projects.add("shop")
        deployment.tick()
        deployment.provider()
        deployment.worker()
        yield deployment
    finally:
        deployment.stop()


@pytest.fixture
def own_deployment(tmp_path: Path) -> Iterator[Deployment]:
    """A deployment of the test's own, with nothing but its Redis running."""
    deployment = make_deployment(tmp_path)
    try:
        deployment.app.projects.add("shop", hook_secret=Secret("hook-secret"))
        yield deployment
    finally:
        deployment.stop()


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_repository(tmp_path_factory.mktemp("git") / "shop", BLUEPRINT)


def finished(look: Callable[[], Run | None]) -> Callable[[], Run | None]:
    def found() -> Run | None:
        run = look()
        return run if run is not None and run.state is RunState.FINISHED else None

    return found


def expect_passed(deployment: Deployment, look: Callable[[], Run | None], within_s: float = 30.0) -> Run:
    run = wait_for(finished(look), f"the end of the run; {deployment.log.read_text()[-3000:]}", within_s)
    assert run.verdict is Verdict.PASSED, run.reason
    environment = deployment.app.books.environments.get(run.environment_id).value
    assert environment.state is EnvironmentState.DESTROYED
    told = [event.type for event in deployment.app.store.events(run.id) if event.type.startswith("run.")]
    assert told == ["run.pending", "run.running", "run.finishing", "run.finished"]
    return run


def attempts(run: Run, name: StageName) -> list[AttemptState]:
    return [attempt.state for attempt in run.stage(name).attempts]


def is_lost(look: Callable[[], Run | None], name: StageName) -> Callable[[], bool]:
    def found() -> bool:
        run = look()
        return run is not None and AttemptState.LOST in attempts(run, name)

    return found


def the_worker(deployment: Deployment, name: str) -> subprocess.Popen[bytes]:
    return next(p for p in deployment.processes if p.poll() is None and isinstance(p.args, list) and name in p.args)


def kill(process: subprocess.Popen[bytes], others: list[int]) -> None:
    process.kill()
    for pid in others:
        os.kill(pid, signal.SIGKILL)
    process.wait()


def test_a_run_from_a_repository_to_its_end(deployment: Deployment, repository: str) -> None:
    run = expect_passed(deployment, deployment.submit("shop", repository))
    assert all(attempts(run, name) == [AttemptState.PASSED] for name in StageName)


@pytest.mark.parametrize("alone", [True, False], ids=["parent", "parent-and-work-horse"])
@pytest.mark.parametrize("stage", FORKED)
def test_a_killed_worker_is_replaced(deployment: Deployment, repository: str, stage: StageName, alone: bool) -> None:
    deployment.slow(stage.value)
    look = deployment.submit("shop", repository)
    deployment.is_in(stage.value)
    worker = the_worker(deployment, "work")
    horses = children(worker.pid)
    assert len(horses) == 1
    kill(worker, [] if alone else horses)
    wait_for(lambda: not Path(f"/proc/{horses[0]}").exists(), "the work-horse's end with its worker", 5.0)
    deployment.worker()
    wait_for(is_lost(look, stage), "the loss of the attempt", GOES_ON_S)
    run = expect_passed(deployment, look)
    assert attempts(run, stage) == [AttemptState.LOST, AttemptState.PASSED]
    first, second = run.stage(stage).attempts
    assert second.queued_at - (first.started_at or 0.0) < GOES_ON_S + 5


@pytest.mark.parametrize(("place", "stage"), [("create", StageName.DELIVER), ("destroy", StageName.DESTROY)])
def test_a_killed_provider_worker_is_replaced(
    deployment: Deployment, repository: str, place: str, stage: StageName
) -> None:
    deployment.slow(place)
    look = deployment.submit("shop", repository)
    deployment.is_in(place)
    kill(the_worker(deployment, "provider"), [])
    deployment.provider()
    run = expect_passed(deployment, look, GOES_ON_S + 5)
    assert attempts(run, stage)[-1] is AttemptState.PASSED


def test_a_worker_that_wakes_up_too_late_changes_nothing(deployment: Deployment, repository: str) -> None:
    deployment.slow("test")
    look = deployment.submit("shop", repository)
    deployment.is_in("test")
    worker = the_worker(deployment, "work")
    (horse,) = children(worker.pid)
    frozen = [worker.pid, horse]
    for pid in frozen:
        os.kill(pid, signal.SIGSTOP)
    deployment.worker()
    run = expect_passed(deployment, look, GOES_ON_S + 10)
    assert attempts(run, StageName.TEST) == [AttemptState.LOST, AttemptState.PASSED]
    before = deployment.app.books.runs.get(run.id)
    for pid in frozen:
        os.kill(pid, signal.SIGCONT)
    wait_for(lambda: not Path(f"/proc/{horse}").exists(), "the late work-horse's giving up", 10.0)
    assert deployment.app.books.runs.get(run.id) == before
    told = [event for event in deployment.app.store.events(run.id) if event.type == "run.finished"]
    assert len(told) == 1
    assert "nothing of it counts" in deployment.log.read_text()
    kill(worker, [])


def test_a_standby_goes_on_when_the_leading_tick_is_killed(own_deployment: Deployment, repository: str) -> None:
    ticks = {process.pid: process for process in (own_deployment.tick(), own_deployment.tick())}
    own_deployment.provider()
    own_deployment.worker()

    def leader() -> int:
        holder = own_deployment.app.redis.get("greenroom:office:tick")
        return int(holder.split(b".")[-2]) if isinstance(holder, bytes) else 0

    own_deployment.slow("test")
    look = own_deployment.submit("shop", repository)
    own_deployment.is_in("test")
    first = wait_for(leader, "a leader")
    kill(ticks[first], [])
    own_deployment.app.control.cancel((look() or pytest.fail("the run is gone")).id)
    run = wait_for(finished(look), "the end of the run", GOES_ON_S)
    assert run.verdict is Verdict.CANCELLED
    assert leader() in ticks.keys() - {first}


def signed(number: int) -> tuple[dict[str, str], bytes]:
    """One delivery of the plain forge, to a branch of its own."""
    sha = hashlib.sha1(str(number).encode(), usedforsecurity=False).hexdigest()
    payload = {"repository": "/srv/shop.git", "ref": f"refs/heads/b{number}", "after": sha}
    body, stamp = json.dumps(payload).encode(), str(int(time.time()))
    digest = hmac.new(b"hook-secret", f"{stamp}.".encode() + body, "sha256").hexdigest()
    headers = {
        "x-greenroom-signature": f"sha256={digest}",
        "x-greenroom-timestamp": stamp,
        "x-greenroom-delivery": f"delivery-{number}",
    }
    return headers, body


async def post(port: int, numbers: asyncio.Queue[int], taken: dict[int, str]) -> None:
    """Send deliveries over one connection until it breaks or all were answered with 202."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        while not numbers.empty():
            number = numbers.get_nowait()
            try:
                taken[number] = await answer_to(number, reader, writer)
            finally:
                if number not in taken:
                    numbers.put_nowait(number)
    finally:
        writer.close()


async def answer_to(number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
    """The trigger's id that the answer to one delivery names."""
    headers, body = signed(number)
    lines = [f"{name}: {value}" for name, value in {**headers, "content-length": str(len(body))}.items()]
    head = "\r\n".join(["POST /v1/hooks/shop HTTP/1.1", "host: localhost", *lines])
    writer.write(f"{head}\r\n\r\n".encode() + body)
    answer = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    content = await reader.readexactly(int(answer.partition("content-length: ")[2].partition("\r\n")[0]))
    assert answer.startswith("http/1.1 202 "), content
    return str(json.loads(content)["trigger"])


async def keep_posting(port: int, numbers: asyncio.Queue[int], taken: dict[int, str], count: int) -> None:
    while len(taken) < count:
        try:
            await post(port, numbers, taken)
        except (OSError, asyncio.IncompleteReadError):
            await asyncio.sleep(0.05)


async def kill_now_and_then(deployment: Deployment, taken: dict[int, str], count: int) -> None:
    """Kill the listener whenever another part of the deliveries was taken."""
    for goal in (count // 10, count // 3, count // 2, 2 * count // 3):
        process = deployment.start("pipeline.api.server", "hooks")
        while len(taken) < goal:  # noqa: ASYNC110  # four times in a test: an event would only hide the goal
            await asyncio.sleep(0.005)
        kill(process, [])
    deployment.start("pipeline.api.server", "hooks")


async def test_no_delivery_is_lost_or_taken_twice_when_the_api_is_killed(own_deployment: Deployment) -> None:
    count, taken = 2000, dict[int, str]()
    numbers: asyncio.Queue[int] = asyncio.Queue()
    for number in range(count):
        numbers.put_nowait(number)
    async with asyncio.timeout(90), asyncio.TaskGroup() as group:
        group.create_task(kill_now_and_then(own_deployment, taken, count))
        for _ in range(16):
            group.create_task(keep_posting(own_deployment.hooks_port, numbers, taken, count))
    store = own_deployment.app.store
    assert len(taken) == len(set(taken.values())) == count
    assert store.count("triggers") == count
    records = own_deployment.app.books.triggers.many(sorted(taken.values()))
    assert len({record.value.delivery_id for record in records}) == count
    assert len(store.peek(3 * count)) == count


@pytest.mark.parametrize("module", [("workers", "tick"), ("workers", "work"), ("pipeline.api.server", "api")])
def test_a_redis_that_would_lose_data_is_refused_at_the_start(module: tuple[str, str], tmp_path: Path) -> None:
    deployment = Deployment(tmp_path, RedisServer(tmp_path, ("--appendonly", "no")))
    deployment.redis.start()
    try:
        refused = deployment.start(*module)
        assert refused.wait(30) != 0
        assert "appendfsync always" in deployment.log.read_text()
    finally:
        deployment.stop()


def test_a_redis_that_would_lose_data_is_taken_when_told_to(tmp_path: Path) -> None:
    deployment = Deployment(tmp_path, RedisServer(tmp_path, ("--appendonly", "no")))
    deployment.redis.start()
    try:
        tick = deployment.start("workers", "tick", GREENROOM_ALLOW_LOSSY_STORE="1")
        with deployment.redis.client() as client:
            wait_for(lambda: client.get("greenroom:office:tick"), "a leader")
        assert tick.poll() is None
    finally:
        deployment.stop()


def test_what_goes_does_not_wait_behind_a_crowd_that_comes(own_deployment: Deployment) -> None:
    app = own_deployment.app
    coming = [JobRequest(f"come_{at}", provider_queue("memory"), "poll_provider", ("memory",)) for at in range(20)]
    goes = JobRequest("goes", ending_queue("memory"), "poll_provider", ("memory",))
    app.queue.enqueue([*coming, goes])
    own_deployment.provider()

    def done() -> list[Job]:
        ids = [job.id for job in (*coming, goes)]
        found = [Job.fetch(id, connection=app.redis, serializer=JSONSerializer) for id in ids]
        return found if all(job.ended_at for job in found) else []

    in_order = sorted(wait_for(done, "the end of all jobs"), key=lambda job: str(job.started_at))
    assert "goes" in [job.id for job in in_order][:2]
