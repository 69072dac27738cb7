"""Which triggers run, and which names may be handed on to git."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline.domain.blueprint import PullRequestFilter, PushFilter, Triggers
from pipeline.domain.errors import UserError
from pipeline.domain.triggers import (
    ZERO_SHA,
    Trigger,
    TriggerKind,
    checked,
    is_sha,
    ref_refusal,
    refusal,
    repository_refusal,
)

PUSH = Trigger(TriggerKind.PUSH, "plain", "/srv/git/shop.git", "a" * 40, branch="main")
TAG = replace(PUSH, kind=TriggerKind.TAG, branch="", tag="v1.0")
PULL = replace(PUSH, kind=TriggerKind.PULL_REQUEST, branch="feature/x", target="main", number=7)
FORK = replace(PULL, fork=True)
DOCS = ("docs/a.md", "docs/deep/b.md")
MIXED = ("docs/a.md", "src/a.py")


def rules(push: PushFilter | None = None, pull: PullRequestFilter | None = None) -> Triggers:
    return Triggers(push=push, pull_request=pull)


@pytest.mark.parametrize(
    ("trigger", "wanted", "changed", "told"),
    [
        (PUSH, Triggers(), (), None),
        (PUSH, rules(PushFilter(branches=("main",))), (), None),
        (PUSH, rules(PushFilter(branches=("release/*",))), (), "matches none of on.push.branches"),
        (replace(PUSH, branch="feature/a/b"), rules(PushFilter(branches=("feature/*",))), (), None),
        (PUSH, rules(PushFilter(branches=("*",), branches_ignore=("ma*",))), (), "branches_ignore"),
        (PUSH, rules(), (), "on: push is not set"),
        (PUSH, rules(PushFilter(paths_ignore=("docs/**",))), DOCS, "paths_ignore"),
        (PUSH, rules(PushFilter(paths_ignore=("docs/**",))), MIXED, None),
        (PUSH, rules(PushFilter(paths_ignore=("docs/**",))), (), None),
        (PUSH, rules(PushFilter(paths=("src/**",))), DOCS, "matches paths"),
        (PUSH, rules(PushFilter(paths=("src/**",))), MIXED, None),
        (TAG, Triggers(), (), "matches none of on.push.tags"),
        (TAG, rules(PushFilter(tags=("v*",))), (), None),
        (TAG, rules(PushFilter(tags=("v*",), branches=("none",))), (), None),
        (PULL, Triggers(), (), "on: pull_request is not set"),
        (PULL, rules(None, PullRequestFilter()), (), None),
        (PULL, rules(None, PullRequestFilter(branches=("main",))), (), None),
        (PULL, rules(None, PullRequestFilter(branches=("release/*",))), (), "on.pull_request.branches"),
        (PULL, rules(None, PullRequestFilter(paths_ignore=("docs/*",))), DOCS, "paths_ignore"),
        (PULL, rules(None, PullRequestFilter(paths_ignore=("docs/*",))), MIXED, None),
        (FORK, rules(None, PullRequestFilter()), (), "on.pull_request.forks of main does not let those in"),
        (FORK, rules(None, PullRequestFilter(environment=True)), (), "forks"),
        (FORK, rules(None, PullRequestFilter(forks=True)), (), None),
        (FORK, rules(None, PullRequestFilter(branches=("release/*",), forks=True)), (), "on.pull_request.branches"),
        (replace(PUSH, kind=TriggerKind.API), rules(), DOCS, None),
        (replace(PUSH, kind=TriggerKind.SCHEDULE), rules(), DOCS, None),
    ],
)
def test_filters(trigger: Trigger, wanted: Triggers, changed: tuple[str, ...], told: str | None) -> None:
    why = refusal(trigger, wanted, changed)
    assert why is None if told is None else told in (why or "")


@pytest.mark.parametrize("text", ["[skip ci]", "Fix [SKIP CI]", "a\n\n[ci skip]", "[skip-ci]", "[no ci]"])
def test_a_message_may_ask_to_skip(text: str) -> None:
    for trigger in (PUSH, TAG, PULL):
        assert (
            refusal(replace(trigger, message=text), rules(PushFilter(tags=("*",)), PullRequestFilter()), ()) is not None
        )


@pytest.mark.parametrize("text", ["skip ci", "[skip  ci]", "[skip cider]", "[ci]"])
def test_other_messages_run(text: str) -> None:
    assert refusal(replace(PUSH, message=text), Triggers(), ()) is None


def test_nobody_skips_what_was_asked_for() -> None:
    assert refusal(replace(PUSH, kind=TriggerKind.API, message="[skip ci]"), Triggers(), ()) is None


def test_lanes() -> None:
    assert PUSH.lane == "/srv/git/shop.git#branch/main"
    assert PULL.lane == "/srv/git/shop.git#pull/7"
    assert TAG.lane == replace(PUSH, kind=TriggerKind.API).lane == ""


@pytest.mark.parametrize(
    "name", ["main", "feature/x", "v1.0", "a-b_c", "ünïcode", "refs/heads/main", "HEAD", "a@b", "x.lockx"]
)
def test_names_of_refs(name: str) -> None:
    assert ref_refusal(name) is None


@pytest.mark.parametrize(
    "name",
    [
        "",
        "-x",
        "--upload-pack=x",
        "a..b",
        "a b",
        "a\nb",
        "a\x00",
        "~",
        "a^",
        "a:b",
        "a?",
        "*",
        "[a]",
        "a\\b",
        "@{-1}",
        "@",
        *["/a", "a/", "a//b", "a.", ".a", "a/.b", "a.lock", "a.lock/b", "x" * 1025],
    ],
)
def test_what_is_no_name_of_a_ref(name: str) -> None:
    assert ref_refusal(name) is not None


@pytest.mark.parametrize(
    "url",
    [
        "https://git.example/shop.git",
        "https://git.example:8443/a/b",
        "http://git.example/a",
        "ssh://git@git.example/a.git",
        "ssh://git@git.example:2222/a.git",
        "git+ssh://git.example/a",
        "git@git.example:group/shop.git",
        "/srv/git/shop.git",
        "/srv/with blank/shop.git",
        "file:///srv/git/shop.git",
    ],
)
def test_repositories(url: str) -> None:
    assert repository_refusal(url) is None


@pytest.mark.parametrize(
    "url",
    [
        "",
        "ext::sh -c id",
        "ext::https://h/x",
        "-x",
        "--upload-pack=touch x",
        "ftp://h/x",
        "git://h/x",
        "file://h/x",
        "file:x",
        "../x",
        "x",
        "C:\\x",
        "https://",
        "https://h",
        "https:///x",
        "https://-h/x",
        "ssh://-oProxyCommand=x/y",
        "ssh://git@-oProxyCommand=x/y",
        "-git@h:x",
        "git@-h:x",
        "git@h:-x",
        "git@h:",
        "https://h/x y",
        "https://h/x\nproxy=y",
        "/a\nb",
        "/a\x00b",
        "transport::git@h:x",
        "/" + "x" * 1024,
    ],
)
def test_what_is_no_repository(url: str) -> None:
    assert repository_refusal(url) is not None


@pytest.mark.parametrize("url", ["https://u:pass@h/x", "https://tok@h/x", "ssh://u:pass@h/x", "http://:pass@h/x"])
def test_a_login_in_a_url_is_refused_and_not_told(url: str) -> None:
    why = repository_refusal(url)
    assert why is not None
    assert "login" in why
    assert "pass" not in why
    assert "tok@" not in why


def test_commit_ids() -> None:
    assert is_sha("0123456789abcdef" * 2 + "01234567")
    assert not any(is_sha(text) for text in ("", "a" * 39, "a" * 41, "A" * 40, "g" * 40, "a" * 40 + "\n"))


@pytest.mark.parametrize("trigger", [PUSH, TAG, PULL, replace(PUSH, sha="abcdef1", base="abcdef2", slug="a/b.c-d/~e")])
def test_a_sound_trigger_is_handed_on(trigger: Trigger) -> None:
    assert checked(trigger) is trigger


@pytest.mark.parametrize(
    "changes",
    [
        {"repository": "ext::x"},
        {"branch": "--x"},
        {"tag": "a b"},
        {"target": "-x"},
        {"sha": ""},
        {"sha": ZERO_SHA},
        {"sha": "main"},
        {"sha": "abc"},
        {"base": "-x"},
        {"slug": "a/../b"},
        {"slug": "a b"},
        {"slug": "/a"},
        {"slug": "a?x=y"},
    ],
)
def test_an_odd_trigger_is_refused(changes: dict[str, str]) -> None:
    with pytest.raises(UserError):
        checked(replace(PUSH, **changes))  # type: ignore[arg-type]  # each of these fields is a text
