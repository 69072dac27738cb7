"""The API as its own description says: no answer is a failure of ours, and none is one that it does not tell of."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.core.result import Ok
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from pipeline.api.app import create
from pipeline.bootstrap import Application
from tests.plugins.redis_server import RedisServer
from tests.tools.deployment import memory_settings

pytestmark = [pytest.mark.redis, pytest.mark.timeout(300)]
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
Operation = APIOperation[Any, Any, Any, Any]
Case = schemathesis.Case[Any]
#: Requests that are made up for each route.
MADE_UP = 15
#: What stands where a route wants a name or an id; made up ones are hardly ever there.
THERE = {"project": "shop", "name": "front", "provider": "memory"}


@pytest.fixture
def app(redis_server: RedisServer, tmp_path: Path) -> Iterator[Application]:
    known = memory_settings(tmp_path, redis_server.url)
    app = Application(known.model_copy(update={"base_domain": "test.example"}))
    app.projects.add("shop", repository="https://forge.test/shop.git")
    yield app
    app.redis.close()


def test_every_answer_is_described(app: Application) -> None:
    headers = {"authorization": f"Bearer {app.token.reveal()}"}
    schema = schemathesis.openapi.from_asgi("/openapi.json", create(app), headers=headers)
    schema.validate()
    found = list(schema.get_all_operations())
    operations = [one.ok() for one in found if isinstance(one, Ok)]
    assert len(operations) == len(found)
    faults = [fault for operation in operations for fault in _faults(operation, headers)]
    assert len(operations) > 50
    assert not faults, "\n\n".join(faults)


def _faults(operation: Operation, headers: dict[str, str]) -> Iterator[str]:
    """What the answers of one route do that its description does not say."""

    @given(case=operation.as_strategy())
    @settings(max_examples=MADE_UP, phases=[Phase.explicit, Phase.generate], suppress_health_check=list(HealthCheck))
    def answers(case: Case) -> None:
        for there in (False, True):
            known = {name: THERE[name] for name in case.path_parameters if name in THERE} if there else {}
            case.path_parameters = {**case.path_parameters, **known}
            case.call_and_validate(checks=CHECKS, headers=headers)

    try:
        answers()
    except FailureGroup as found:
        yield f"{operation.label}: {found}\n" + "\n".join(map(str, found.exceptions))
