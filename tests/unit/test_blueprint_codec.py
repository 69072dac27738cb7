"""Blueprints as plain JSON."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.domain import blueprint as b
from pipeline.domain.blueprint_codec import SCHEMA_VERSION, from_body, to_body
from pipeline.domain.errors import PermanentError
from pipeline.domain.qos import QosProfile

words = st.text(max_size=5)
many = st.lists(words, max_size=2).map(tuple)
seconds = st.floats(0, 1e6)
attributes = st.dictionaries(words, st.none() | st.integers() | words | st.lists(words, max_size=2), max_size=2)
promises = st.builds(QosProfile)
roles = st.builds(b.RoleSpec, run_list=many, attributes=attributes, qos=promises)
blueprints = st.builds(
    b.Blueprint,
    environment=st.builds(b.EnvironmentSpec, roles=st.lists(roles, max_size=2).map(tuple)),
    configure=st.builds(b.ConfigureSpec, attributes=attributes, timeout_s=seconds, silence_s=seconds),
    timeout_s=seconds,
    destroy=st.builds(b.DestroySpec, hold_on_failure_s=seconds),
)


@given(blueprints)
def test_what_was_written_is_read_again(blueprint: b.Blueprint) -> None:
    assert from_body(json.loads(json.dumps(to_body(blueprint)))) == blueprint


def test_a_body_has_only_plain_types_and_a_version() -> None:
    body = to_body(b.Blueprint("shop", b.EnvironmentSpec("i", (b.RoleSpec("web"),)), test=(b.CommandSpec("x"),)))
    assert body["schema"] == SCHEMA_VERSION
    assert body["test"][0]["kind"] == "command"
    assert type(body["environment"]["roles"][0]["qos"]["qos_class"]) is str
    assert json.loads(json.dumps(body)) == body


def test_a_body_of_a_newer_greenroom_is_refused() -> None:
    with pytest.raises(PermanentError, match="upgrade"):
        from_body({"schema": SCHEMA_VERSION + 1})
