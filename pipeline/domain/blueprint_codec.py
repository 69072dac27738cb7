"""Blueprints as plain JSON types, for documents and messages. A body carries the version of its schema."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.domain.blueprint import (
    Artifact,
    Blueprint,
    CommandSpec,
    ConfigureSpec,
    DeploySpec,
    DestroySpec,
    EnvironmentSpec,
    Priority,
    PullRequestFilter,
    PushFilter,
    Readiness,
    RoleSpec,
    Schedule,
    TestinfraSpec,
    Triggers,
)
from pipeline.domain.errors import PermanentError
from pipeline.domain.qos import QosClass, QosProfile

SCHEMA_VERSION = 1

Body = Mapping[str, Any]


def to_body(blueprint: Blueprint) -> dict[str, Any]:
    """Only dicts, lists, texts, numbers, truths and None."""
    body = {"schema": SCHEMA_VERSION, **dataclasses.asdict(blueprint)}
    body["test"] = [_test_body(test) for test in blueprint.test]
    return {key: _plain(value) for key, value in body.items()}


def from_body(body: Body) -> Blueprint:
    """The blueprint of a body; PermanentError when a newer Greenroom wrote it."""
    if body.get("schema") != SCHEMA_VERSION:
        raise PermanentError(
            f"a stored blueprint has schema {body.get('schema')!r}, known is {SCHEMA_VERSION}: upgrade this process"
        )
    return Blueprint(
        service=body["service"],
        environment=_environment(body["environment"]),
        triggers=_triggers(body["triggers"]),
        configure=ConfigureSpec(**body["configure"]),
        deploy=tuple(_deployment(item) for item in body["deploy"]),
        test=tuple(_test(item) for item in body["test"]),
        destroy=DestroySpec(**body["destroy"]),
        artifacts=tuple(Artifact(**item) for item in body["artifacts"]),
        timeout_s=body["timeout_s"],
    )


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, str) else value


def _test_body(test: TestinfraSpec | CommandSpec) -> dict[str, Any]:
    kind = "testinfra" if isinstance(test, TestinfraSpec) else "command"
    return {"kind": kind, **dataclasses.asdict(test)}


def _test(body: Body) -> TestinfraSpec | CommandSpec:
    fields = {key: value for key, value in body.items() if key != "kind"}
    if body["kind"] == "testinfra":
        return TestinfraSpec(**_with_tuples(fields, "roles"))
    return CommandSpec(**fields)


def _with_tuples(body: Body, *names: str) -> dict[str, Any]:
    return {**body, **{name: tuple(body[name]) for name in names}}


def _all_tuples(body: Body) -> dict[str, Any]:
    return _with_tuples(body, *body)


def _environment(body: Body) -> EnvironmentSpec:
    return EnvironmentSpec(**{**body, "roles": tuple(_role(item) for item in body["roles"])})


def _role(body: Body) -> RoleSpec:
    qos = QosProfile(**{**body["qos"], "qos_class": QosClass(body["qos"]["qos_class"])})
    return RoleSpec(**{**_with_tuples(body, "run_list"), "qos": qos})


def _triggers(body: Body) -> Triggers:
    push, pull_request = body["push"], body["pull_request"]
    return Triggers(
        push=None if push is None else PushFilter(**_all_tuples(push)),
        pull_request=None if pull_request is None else PullRequestFilter(**_all_tuples(pull_request)),
        schedule=tuple(Schedule(**{**item, "priority": Priority(item["priority"])}) for item in body["schedule"]),
    )


def _deployment(body: Body) -> DeploySpec:
    ready = body["ready"]
    return DeploySpec(**{**_with_tuples(body, "run"), "ready": None if ready is None else Readiness(**ready)})
