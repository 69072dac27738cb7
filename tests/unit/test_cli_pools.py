"""`greenroom pool`: what is asked of the API, and what a person reads."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.tools.posing_api import Calls, answering, said

PAIR: dict[str, Any] = {
    "name": "pair", "project": "shop", "template": "pair", "wanted": 3, "max": 6, "max_age_s": 28800.0,
    "created_at": 0.0, "changed_at": 0.0, "ready": 1, "preparing": 2, "handed_out": 4, "hits": 9, "misses": 1,
    "hit_wait_s": 0.0471, "miss_wait_s": None, "short": ["env-7 is requested: [2] nodes are wanted"],
}  # fmt: skip


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """Method, path and body of each call."""
    answers = {
        ("GET", "/v1/projects"): [{"name": "shop", "repository": ""}],
        ("PUT", "/v1/pools/pair"): PAIR,
        ("GET", "/v1/pools"): [PAIR],
        ("GET", "/v1/pools/pair"): PAIR,
        ("GET", "/v1/pools/a%2Fb"): {**PAIR, "hits": 0, "misses": 0},
        ("DELETE", "/v1/pools/pair"): PAIR,
    }
    return answering(monkeypatch, answers)


def pool(*arguments: str) -> str:
    return said("pool", *arguments)


def test_set_says_all_that_was_said(asked: Calls) -> None:
    pool("set", "pair", "--ready", "3", "--max", "6", "--max-age", "8h", "-t", "other", "-p", "shop")
    wish = {"project": "shop", "template": "other", "ready": 3, "max": 6, "max_age": "8h"}
    assert asked[-1] == ("PUT", "/v1/pools/pair", wish)


def test_set_leaves_the_rest_to_the_service(asked: Calls) -> None:
    pool("set", "pair", "--ready", "3")
    wish = {"project": "shop", "template": "", "ready": 3, "max": None, "max_age": None}
    assert asked[-1] == ("PUT", "/v1/pools/pair", wish)


def test_show_tells_how_it_fares_and_why_it_is_short(asked: Calls) -> None:
    said = pool("show", "pair")
    for part in (
        "1 of 3",
        "8h at most",
        "4; 6 stand at most",
        "9 of 10, ready after 0.05 s",
        "env-7 is requested: [2]",
    ):
        assert part in said
    assert "nobody asked yet" in pool("show", "a/b")
    assert json.loads(pool("show", "pair", "--json")) == PAIR
    assert {method for method, _, _ in asked} == {"GET"}


@pytest.mark.usefixtures("asked")
def test_ls_shows_a_line_each() -> None:
    said = pool("ls")
    assert "1 of 3" in said
    assert json.loads(pool("ls", "--json")) == [PAIR]


def test_rm_tries_or_does_it(asked: Calls) -> None:
    assert "nothing was changed" in pool("rm", "pair", "--dry-run")
    assert "is removed" in pool("rm", "pair")
    assert [path for method, path, _ in asked if method == "DELETE"] == [
        "/v1/pools/pair?dry_run=1",
        "/v1/pools/pair?dry_run=0",
    ]
