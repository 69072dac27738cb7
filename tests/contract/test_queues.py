"""The port of queues, kept by the memory twin and by RQ on a real Redis."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from rq import Queue
from rq.job import Job
from rq.serializers import JSONSerializer

from pipeline.adapters.queues.memory import MemoryJobQueue
from pipeline.adapters.queues.rq import RqJobQueue
from pipeline.domain.blueprint import Blueprint, EnvironmentSpec, RoleSpec
from pipeline.domain.errors import PermanentError, TransientError
from pipeline.domain.runs import Run, RunState, StageName
from pipeline.domain.triggers import Trigger, TriggerKind
from pipeline.envs import jobs
from pipeline.ports.queues import JobQueue
from pipeline.ports.stores import JobRequest
from tests.plugins.redis_server import RedisServer


@dataclass(frozen=True)
class Subject:
    queue: MemoryJobQueue | RqJobQueue
    client: redis.Redis | None = None

    def waiting(self, name: str) -> list[str]:
        """Ids that wait in one queue, oldest first."""
        if isinstance(self.queue, MemoryJobQueue):
            return [job.id for job in self.queue.jobs if job.queue == name]
        return list(Queue(name, connection=self.client, serializer=JSONSerializer).job_ids)

    def take(self, name: str) -> None:
        """A worker takes the oldest job."""
        if isinstance(self.queue, MemoryJobQueue):
            self.queue.jobs.remove(next(job for job in self.queue.jobs if job.queue == name))
        else:
            assert Queue(name, connection=self.client, serializer=JSONSerializer).pop_job_id()


@pytest.fixture(params=["memory", "rq"])
def subject(request: pytest.FixtureRequest) -> Iterator[Subject]:
    if request.param == "memory":
        yield Subject(MemoryJobQueue())
        return
    server: RedisServer = request.getfixturevalue("redis_server")
    with server.client() as client:
        yield Subject(RqJobQueue(client), client)


def job(id: str, queue: str = "work") -> JobRequest:
    return JobRequest(id, queue, "run_stage", (id, "deliver", "1"))


def test_jobs_wait_in_the_order_in_which_they_came(subject: Subject) -> None:
    subject.queue.enqueue([job("c"), job("a"), job("x", "provider-local"), job("b")])
    subject.queue.enqueue([job("d")])
    assert subject.waiting("work") == ["c", "a", "b", "d"]
    assert subject.waiting("provider-local") == ["x"]


def test_a_job_that_waits_is_not_added_again(subject: Subject) -> None:
    subject.queue.enqueue([job("a"), job("b")])
    subject.queue.enqueue([job("a"), job("c")])
    subject.queue.enqueue([job("d"), job("d")])
    assert subject.waiting("work") == ["a", "b", "c", "d"]


def test_a_job_that_was_taken_may_be_added_again(subject: Subject) -> None:
    subject.queue.enqueue([job("a"), job("b")])
    subject.take("work")
    subject.queue.enqueue([job("a")])
    assert subject.waiting("work") == ["b", "a"]


def test_it_says_which_jobs_wait(subject: Subject) -> None:
    subject.queue.enqueue([job("a"), job("b"), job("x", "provider-local")])
    subject.take("work")
    asked = [job("x", "provider-local"), job("a"), job("b"), job("never")]
    assert list(subject.queue.waiting(asked)) == [True, False, True, False]
    assert list(subject.queue.waiting([])) == []


def test_nothing_is_enqueued_where_nothing_is_asked(subject: Subject) -> None:
    subject.queue.enqueue([])
    assert subject.waiting("work") == []


@pytest.mark.parametrize("id", ["a.b", "a b", "a:b", ""])
def test_a_job_that_it_cannot_take_is_refused(subject: Subject, id: str) -> None:
    with pytest.raises(PermanentError, match="takes no such job"):
        subject.queue.enqueue([job(id)])
    assert subject.waiting("work") == []


def test_the_jobs_that_are_asked_for_have_ids_that_rq_takes(redis_client: redis.Redis) -> None:
    blueprint = Blueprint("shop", EnvironmentSpec("debian-12", (RoleSpec("web"),)))
    trigger = Trigger(TriggerKind.PUSH, "github", "https://forge.test/shop.git", "1" * 40)
    run = Run("run-0123456789ab", "shop", trigger, RunState.RUNNING, 0.0, provider="local", blueprint=blueprint)
    wanted: list[JobRequest] = [
        jobs.poll("local"),
        jobs.reap("local"),
        jobs.plan("trg-0123456789ab", 3),
        jobs.report(run),
        jobs.wake(run),
        *(jobs.stage(run, name, 12) for name in StageName),
    ]
    RqJobQueue(redis_client).enqueue(wanted)
    for request in wanted:
        found = Job.fetch(request.id, connection=redis_client, serializer=JSONSerializer)
        assert found.func_name == f"workers.tasks.{request.task}"
        assert found.args == list(request.args)
        assert found.origin == request.queue


def test_what_lies_in_redis_is_json(redis_client: redis.Redis) -> None:
    RqJobQueue(redis_client).enqueue([job("a")])
    data = redis_client.hget("rq:job:a", "data")
    assert isinstance(data, bytes)
    assert json.loads(zlib.decompress(data)) == ["workers.tasks.run_stage", None, ["a", "deliver", "1"], {}]


def test_a_queue_that_is_down_says_so(tmp_path_factory: pytest.TempPathFactory) -> None:
    nowhere = str(tmp_path_factory.mktemp("no") / "redis.sock")
    queue: JobQueue = RqJobQueue(redis.Redis(unix_socket_path=nowhere, retry=Retry(NoBackoff(), 0)))
    with pytest.raises(TransientError, match="does not answer"):
        queue.enqueue([job("a")])
    with pytest.raises(TransientError, match="does not answer"):
        queue.waiting([job("a")])
