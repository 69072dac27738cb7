"""A run is taken back for a guaranteed one, through the real processes, each of which is killed on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.domain.inventory import Inventory, Machine, Zone
from pipeline.domain.runs import AttemptState, Run, StageName, Verdict
from tests.integration.test_rq import BLUEPRINT, attempts, finished, kill, make_deployment, the_worker
from tests.tools.deployment import Deployment, children, make_repository, wait_for

#: Long enough to kill everybody in it, and over before the worker is missed, in seconds.
GRACE_S = 3

pytestmark = [pytest.mark.redis, pytest.mark.timeout(120)]


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    """One machine for one node."""
    one = make_deployment(tmp_path)
    try:
        one.app.projects.add("shop")
        one.app.inventories.sync("memory", Inventory((Machine("m1", "z", {"vcpu": 1.0}),), (Zone("z"),)))
        one.provider()
        yield one
    finally:
        one.stop()


def tick(deployment: Deployment) -> None:
    deployment.start("workers", "tick", GREENROOM_PREEMPTION_GRACE_S=str(GRACE_S))


def submit(deployment: Deployment, place: Path, class_: str) -> Callable[[], Run | None]:
    roles: dict[str, Any] = {"web": {"script": "setup.sh", "qos": {"class": class_}}}
    blueprint = {**BLUEPRINT, "environment": {"image": "debian-12", "roles": roles}}
    return deployment.submit("shop", make_repository(place / class_, blueprint))


def end_of(deployment: Deployment, look: Callable[[], Run | None]) -> Run:
    return wait_for(finished(look), f"the end of a run; {deployment.log.read_text()[-3000:]}", 60.0)


def test_kills_in_the_grace_and_at_the_take_back_cost_nothing(deployment: Deployment, tmp_path: Path) -> None:
    books = deployment.app.books
    tick(deployment)
    workers = [deployment.worker(), deployment.worker()]
    deployment.slow("test")
    modest = submit(deployment, tmp_path, "best-effort")
    deployment.is_in("test")
    (busy,) = (one for one in workers if children(one.pid))
    deployment.slow("destroy")
    firm = submit(deployment, tmp_path, "guaranteed")
    wait_for(lambda: books.store.count("environments:noticed"), "the notice")
    kill(the_worker(deployment, "tick"), [])
    kill(busy, children(busy.pid))
    tick(deployment)
    deployment.is_in("destroy")
    kill(the_worker(deployment, "provider"), [])
    kill(the_worker(deployment, "tick"), [])
    deployment.provider()
    tick(deployment)
    asked, taken_back = end_of(deployment, firm), end_of(deployment, modest)
    assert (asked.verdict, asked.preempted) == (Verdict.PASSED, 0), asked.reason
    assert (taken_back.verdict, taken_back.preempted) == (Verdict.PASSED, 1), taken_back.reason
    assert attempts(taken_back, StageName.TEST)[-2:] == [AttemptState.CANCELLED, AttemptState.PASSED]
    wait_for(lambda: not books.store.count("environments:standing:memory"), "room again", 10.0)
    assert [books.store.count(f"environments:{name}") for name in ("noticed", "nominated", "requested")] == [0, 0, 0]
