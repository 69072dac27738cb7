"""Every forge: what is believed, what becomes of each payload, and how a status is reported."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from pipeline.adapters.forges.bitbucket import BitbucketForge
from pipeline.adapters.forges.gitea import GiteaForge
from pipeline.adapters.forges.github import GithubForge
from pipeline.adapters.forges.gitlab import GitlabForge
from pipeline.adapters.forges.plain import PlainForge
from pipeline.domain.errors import BadSignature, PermanentError, TransientError, UserError
from pipeline.domain.pulls import Said
from pipeline.domain.triggers import ZERO_SHA, Ignored, Trigger, TriggerKind
from pipeline.ports.common import Secret
from pipeline.ports.forges import CommitStatus, Delivery, Forge, StatusState
from tests.tools.commented import Comments, server_of

DATA = Path(__file__).parents[1] / "data/webhooks"
NOW = 1_700_000_000.0
KEY = "correct horse"
SECRET = Secret(KEY)
SIGNING_SECRET = Secret("whsec_" + base64.b64encode(b"battery staple").decode())

Headers = dict[str, str]
Signer = Callable[[bytes, str, str], Headers]


def hmac_sha256(body: bytes, key: str = KEY) -> str:
    return hmac.new(key.encode(), body, hashlib.sha256).hexdigest()


def github_headers(body: bytes, event: str, key: str = KEY) -> Headers:
    return {"x-github-event": event, "x-hub-signature-256": f"sha256={hmac_sha256(body, key)}"}


def gitlab_headers(body: bytes, event: str, key: str = KEY) -> Headers:
    return {"x-gitlab-event": event, "x-gitlab-token": key}


def gitea_headers(body: bytes, event: str, key: str = KEY) -> Headers:
    """As Gitea sends them: GitHub's and Gogs' headers beside its own."""
    signature = hmac_sha256(body, key)
    return {
        "x-gitea-event": event,
        "x-gogs-event": event,
        "x-github-event": event,
        "x-gitea-signature": signature,
        "x-gogs-signature": signature,
        "x-hub-signature-256": f"sha256={signature}",
    }


def bitbucket_headers(body: bytes, event: str, key: str = KEY) -> Headers:
    return {"x-event-key": event, "x-hub-signature": f"sha256={hmac_sha256(body, key)}"}


def plain_headers(body: bytes, event: str = "", key: str = KEY) -> Headers:
    signature = hmac_sha256(f"{NOW:.0f}.".encode() + body, key)
    return {"x-greenroom-timestamp": f"{NOW:.0f}", "x-greenroom-signature": f"sha256={signature}"}


@dataclass(frozen=True)
class Kit:
    """A forge, how it signs, and an event of it with a body that starts a run."""

    forge: Forge
    headers: Signer
    event: str
    payload: str | Mapping[str, Any]
    id_header: str
    signature_header: str

    @property
    def body(self) -> bytes:
        if isinstance(self.payload, str):
            return (DATA / self.payload).read_bytes()
        return json.dumps(self.payload).encode()

    def delivery(self, body: bytes | None = None, /, **changes: str) -> Delivery:
        content = self.body if body is None else body
        headers = {**self.headers(content, self.event, KEY), **{k.replace("_", "-"): v for k, v in changes.items()}}
        return Delivery(headers, content, NOW)


PLAIN_PUSH = {
    "repository": "/srv/git/shop.git",
    "ref": "refs/heads/main",
    "before": "1" * 40,
    "after": "2" * 40,
    "pusher": "ada",
    "message": "Sell more\n",
}
KITS = {
    "github": Kit(
        GithubForge(), github_headers, "push", "github/push-new-branch.json", "x-github-delivery", "x-hub-signature-256"
    ),
    "gitlab": Kit(GitlabForge(), gitlab_headers, "Push Hook", "gitlab/push.json", "idempotency-key", "x-gitlab-token"),
    "gitea": Kit(GiteaForge(), gitea_headers, "push", "gitea/push.json", "x-gitea-delivery", "x-gitea-signature"),
    "bitbucket": Kit(
        BitbucketForge(), bitbucket_headers, "repo:push", "bitbucket/push.json", "x-request-uuid", "x-hub-signature"
    ),
    "plain": Kit(PlainForge(), plain_headers, "", PLAIN_PUSH, "x-greenroom-delivery", "x-greenroom-signature"),
}


@pytest.fixture(params=KITS)
def kit(request: pytest.FixtureRequest) -> Kit:
    return KITS[request.param]


def receive(name: str, event: str, body: bytes | Mapping[str, Any]) -> Trigger | Ignored:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    kit = KITS[name]
    return kit.forge.receive(Delivery(kit.headers(content, event, KEY), content, NOW), SECRET).outcome


def payload(name: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((DATA / name).read_bytes())
    return value


CODERTOCAT = "https://github.com/Codertocat/Hello-World"
GITHUB_PULL = Trigger(
    kind=TriggerKind.PULL_REQUEST,
    forge="github",
    repository=f"{CODERTOCAT}.git",
    sha="ec26c3e57ca3a959ca5aad62de7213c562f8c821",
    slug="Codertocat/Hello-World",
    branch="changes",
    base="f95f852bd8fca8fcc58a9a2d6c842781e32a215e",
    target="master",
    number=2,
    actor="Codertocat",
    message="Update the README with new information.",
    url=f"{CODERTOCAT}/pull/2",
    happened_at=1557933633.0,  # 2019-05-15T15:20:33Z
)

#: 2017-12-10 17:01:11 UTC and 2018-07-02T21:51:39.532546+00:00, as they stand in the samples.
GITLABS, BITBUCKETS = 1512925271.0, 1530568299.532546
#: file, event, what becomes of it
SAMPLES: list[tuple[str, str, Trigger | Ignored]] = [
    ("github/ping.json", "ping", Ignored("ping: the webhook works")),
    ("github/push.json", "push", Ignored("the tag simple-tag was deleted")),
    (
        "github/push-new-branch.json",
        "push",
        Trigger(
            kind=TriggerKind.PUSH,
            forge="github",
            repository=f"{CODERTOCAT}.git",
            sha="6113728f27ae82c7b1a177c8d03f9e96e0adf246",
            slug="Codertocat/Hello-World",
            branch="master",
            base=ZERO_SHA,
            actor="Codertocat",
            message="Initial commit",
            url=f"{CODERTOCAT}/commit/6113728f27ae82c7b1a177c8d03f9e96e0adf246",
        ),
    ),
    ("github/delete.json", "delete", Ignored("the tag simple-tag was deleted")),
    ("github/pull_request-opened.json", "pull_request", GITHUB_PULL),
    ("github/pull_request-synchronize.json", "pull_request", GITHUB_PULL),
    (
        "github/pull_request-closed.json",
        "pull_request",
        Ignored("pull request 2 was closed", ended_lane=f"{CODERTOCAT}.git#pull/2", happened_at=1557933678.0),
    ),
    (
        "gitlab/push.json",
        "Push Hook",
        Trigger(
            kind=TriggerKind.PUSH,
            forge="gitlab",
            repository="https://gitlab.com/gitlab-org/hello-world.git",
            sha="2adc9465c4edfc33834e173fe89436a7cb899a1d",
            slug="gitlab-org/hello-world",
            branch="master",
            base="9217710ce8c7e1eae7a5d1c45f6e43e1c769f866",
            actor="sytses",
            message="added readme",
            url="https://gitlab.com/gitlab-org/hello-world/-/commit/2adc9465c4edfc33834e173fe89436a7cb899a1d",
        ),
    ),
    (
        "gitlab/pull_request_create.json",
        "Merge Request Hook",
        Trigger(
            kind=TriggerKind.PULL_REQUEST,
            forge="gitlab",
            repository="https://gitlab.com/gitlab-org/hello-world.git",
            sha="c4c79227ed610f1151f05bbc5be33b4f340d39c8",
            slug="gitlab-org/hello-world",
            branch="feature",
            target="master",
            number=1,
            actor="sytses",
            message="update readme",
            url="https://gitlab.com/gitlab-org/hello-world/merge_requests/1",
            happened_at=GITLABS,
        ),
    ),
    (
        "gitea/push.json",
        "push",
        Trigger(
            kind=TriggerKind.PUSH,
            forge="gitea",
            repository="http://try.gitea.io/gogits/hello-world.git",
            sha="4522cbcefc20728a5b72b3a86af35e608622c514",
            slug="gogits/hello-world",
            branch="master",
            base="9836a96a253cce25d17988fcf41b8c4205cf779f",
            actor="unknwon",
            message="Updated readme",
            url="http://try.gitea.io/gogits/hello-world/compare/"
            "9836a96a253cce25d17988fcf41b8c4205cf779f...4522cbcefc20728a5b72b3a86af35e608622c514",
        ),
    ),
    (
        "gitea/pull_request_opened.json",
        "pull_request",
        Trigger(
            kind=TriggerKind.PULL_REQUEST,
            forge="gitea",
            repository="https://try.gitea.io/jcitizen/my-repo.git",
            sha="2eba238e33607c1fa49253182e9fff42baafa1eb",
            slug="jcitizen/my-repo",
            branch="feature",
            base="39af58f1eff02aa308e16913e887c8d50362b474",
            target="master",
            number=1,
            actor="jcitizen",
            message="Add License File",
            url="https://try.gitea.io/jcitizen/my-repo/pulls/1",
            happened_at=1530837467.0,  # 2018-07-06T00:37:47Z
        ),
    ),
    (
        "bitbucket/push.json",
        "repo:push",
        Trigger(
            kind=TriggerKind.PUSH,
            forge="bitbucket",
            repository="https://bitbucket.org/brydzewski/foo.git",
            sha="141977fedf5cf35aa290ac87d4b5177ac4cd9de1",
            slug="brydzewski/foo",
            branch="master",
            base="40e7580cf11311d84a6e5e97e2cbba6df1675750",
            actor="brydzewski",
            message="Update README",
            url="https://bitbucket.org/brydzewski/foo/branches/compare/"
            "141977fedf5cf35aa290ac87d4b5177ac4cd9de1..40e7580cf11311d84a6e5e97e2cbba6df1675750",
        ),
    ),
    (
        "bitbucket/pr_created.json",
        "pullrequest:created",
        Trigger(
            kind=TriggerKind.PULL_REQUEST,
            forge="bitbucket",
            repository="https://bitbucket.org/brydzewski/foo.git",
            sha="507a576e59b3",
            slug="brydzewski/foo",
            branch="develop",
            base="7d1a175411ef",
            target="master",
            number=1,
            actor="brydzewski",
            message="Awesome new feature",
            url="https://bitbucket.org/brydzewski/foo/pull-requests/1",
            happened_at=BITBUCKETS,
        ),
    ),
]


@pytest.mark.parametrize(("file", "event", "expected"), SAMPLES, ids=[sample[0] for sample in SAMPLES])
def test_each_sample_becomes_its_trigger(file: str, event: str, expected: Trigger | Ignored) -> None:
    assert receive(file.partition("/")[0], event, (DATA / file).read_bytes()) == expected


def test_every_sample_is_in_the_table() -> None:
    files = {str(path.relative_to(DATA)) for path in DATA.rglob("*.json")}
    assert files == {sample[0] for sample in SAMPLES}


def test_a_plain_push() -> None:
    assert receive("plain", "", PLAIN_PUSH) == Trigger(
        kind=TriggerKind.PUSH,
        forge="plain",
        repository="/srv/git/shop.git",
        sha="2" * 40,
        branch="main",
        base="1" * 40,
        actor="ada",
        message="Sell more",
    )


# What is believed


def test_only_the_right_forge_recognises_a_delivery(kit: Kit) -> None:
    recognising = [other.forge.name for other in KITS.values() if other.forge.recognises(kit.delivery())]
    assert recognising == [kit.forge.name]


def test_no_forge_recognises_a_strangers_request(kit: Kit) -> None:
    assert not kit.forge.recognises(Delivery({"content-type": "application/json"}, b"{}", NOW))


def test_a_signed_delivery_is_believed(kit: Kit) -> None:
    assert isinstance(kit.forge.receive(kit.delivery(), SECRET).outcome, Trigger)


@pytest.mark.parametrize("claimed", ["", "sha256=", "sha256=00", "=", "0" * 64, "sha1=" + "0" * 40, "ключ"])
def test_a_wrong_signature_is_refused(kit: Kit, claimed: str) -> None:
    delivery = kit.delivery(**{kit.signature_header: claimed})
    with pytest.raises(BadSignature):
        kit.forge.receive(delivery, SECRET)


def test_a_missing_signature_is_refused(kit: Kit) -> None:
    headers = {k: v for k, v in kit.delivery().headers.items() if "signature" not in k and "token" not in k}
    with pytest.raises(BadSignature):
        kit.forge.receive(Delivery(headers, kit.body, NOW), SECRET)


def test_sha1_alone_is_refused(kit: Kit) -> None:
    headers = {k: v for k, v in kit.delivery().headers.items() if "signature" not in k and "token" not in k}
    digest = hmac.new(KEY.encode(), kit.body, hashlib.sha1).hexdigest()
    headers["x-hub-signature"] = f"sha1={digest}"
    with pytest.raises(BadSignature):
        kit.forge.receive(Delivery(headers, kit.body, NOW), SECRET)


def test_another_secret_is_refused(kit: Kit) -> None:
    with pytest.raises(BadSignature):
        kit.forge.receive(kit.delivery(), Secret("another"))


def test_an_empty_secret_believes_nobody(kit: Kit) -> None:
    for key in ("", KEY):
        delivery = Delivery(kit.headers(kit.body, kit.event, key), kit.body, NOW)
        with pytest.raises(BadSignature):
            kit.forge.receive(delivery, Secret(""))


def test_no_error_tells_the_secret_or_the_right_signature(kit: Kit) -> None:
    right = kit.delivery().headers[kit.signature_header].removeprefix("sha256=")
    with pytest.raises(BadSignature) as caught:
        kit.forge.receive(kit.delivery(**{kit.signature_header: "sha256=" + "0" * 64}), SECRET)
    assert KEY not in str(caught.value)
    assert right not in str(caught.value)


def test_a_changed_body_is_refused() -> None:
    for kit in KITS.values():
        if kit.forge.name != "gitlab":  # its token says nothing about the body
            changed = replace(kit.delivery(), body=kit.body.replace(b"master", b"maste2").replace(b"main", b"mai2"))
            with pytest.raises(BadSignature):
                kit.forge.receive(changed, SECRET)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b"null", b"\xff", b"[" * 100_000, b"9" * 5000, b"{}"])
def test_a_signed_body_that_cannot_be_read_is_a_user_error(kit: Kit, body: bytes) -> None:
    with pytest.raises(UserError) as caught:
        kit.forge.receive(kit.delivery(body), SECRET)
    assert not isinstance(caught.value, BadSignature)


@pytest.mark.parametrize("wrong", [None, 7, "text", [], {}])
def test_fields_of_the_wrong_type_are_user_errors_or_ignored(kit: Kit, wrong: object) -> None:
    original: dict[str, Any] = json.loads(kit.body)
    for key in original:
        body = json.dumps({**original, key: wrong}).encode()
        try:
            outcome = kit.forge.receive(kit.delivery(body), SECRET).outcome
        except UserError:
            continue
        assert isinstance(outcome, Trigger | Ignored)


@pytest.mark.parametrize("name", ["github", "gitea", "bitbucket"])
def test_an_unknown_event_is_a_user_error(name: str) -> None:
    with pytest.raises(UserError, match="not known"):
        receive(name, "frobnicated", b"{}")


def test_an_unknown_gitlab_event_is_a_user_error() -> None:
    with pytest.raises(UserError, match="not known"):
        receive("gitlab", "Frob Hook", {"object_kind": "frob"})


@pytest.mark.parametrize(
    ("name", "event", "body"),
    [
        ("github", "issues", {}),
        ("gitea", "issues", {}),
        ("bitbucket", "repo:fork", {}),
        ("gitlab", "Note Hook", {"object_kind": "note"}),
        ("bitbucket", "diagnostics:ping", {}),
    ],
)
def test_events_of_no_interest_are_ignored(name: str, event: str, body: Mapping[str, Any]) -> None:
    assert isinstance(receive(name, event, body), Ignored)


# Delivery ids


def test_the_forges_delivery_id_is_taken(kit: Kit) -> None:
    assert kit.forge.receive(kit.delivery(**{kit.id_header: "abc"}), SECRET).delivery_id == "abc"


def test_without_an_id_the_body_gives_one(kit: Kit) -> None:
    first, second = (kit.forge.receive(kit.delivery(), SECRET).delivery_id for _ in range(2))
    assert first == second == hashlib.sha256(kit.body).hexdigest()


def test_old_gitlabs_share_event_ids_between_recursive_deliveries() -> None:
    kit = KITS["gitlab"]
    bodies = [kit.body, kit.body.replace(b"added readme", b"changed readme")]
    ids = {kit.forge.receive(kit.delivery(body, x_gitlab_event_uuid="u"), SECRET).delivery_id for body in bodies}
    assert len(ids) == 2
    assert all(one.startswith("u-") for one in ids)


# Forms


def form(body: bytes) -> bytes:
    return urlencode({"payload": body.decode()}).encode()


def test_github_signs_the_form() -> None:
    body = form((DATA / "github/push-new-branch.json").read_bytes())
    headers = {**github_headers(body, "push"), "content-type": "application/x-www-form-urlencoded; charset=utf-8"}
    assert isinstance(GithubForge().receive(Delivery(headers, body, NOW), SECRET).outcome, Trigger)


def test_gitea_signs_the_json_in_the_form() -> None:
    body = (DATA / "gitea/push.json").read_bytes()
    headers = {**gitea_headers(body, "push"), "content-type": "application/x-www-form-urlencoded"}
    assert isinstance(GiteaForge().receive(Delivery(headers, form(body), NOW), SECRET).outcome, Trigger)


@pytest.mark.parametrize("body", [b"", b"x=y", b"\xff", b"payload", b"&".join([b"a=b"] * 100)])
def test_a_broken_form_is_refused(body: bytes) -> None:
    headers = {**gitea_headers(body, "push"), "content-type": "application/x-www-form-urlencoded"}
    with pytest.raises(UserError):
        GiteaForge().receive(Delivery(headers, body, NOW), SECRET)


def test_a_secret_inside_the_body_proves_nothing() -> None:
    body = json.dumps({**payload("gitea/push.json"), "secret": KEY}).encode()
    headers = {**gitea_headers(body, "push"), "x-gitea-signature": ""}
    with pytest.raises(BadSignature, match="missing or empty"):
        GiteaForge().receive(Delivery(headers, body, NOW), SECRET)


# Standard Webhooks


def standard_headers(body: bytes, stamp: float = NOW, key: bytes = b"battery staple") -> Headers:
    signed = f"msg_1.{stamp:.0f}.".encode() + body
    digest = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    return {
        "x-gitlab-event": "Push Hook",
        "webhook-id": "msg_1",
        "webhook-timestamp": f"{stamp:.0f}",
        "webhook-signature": f"v1a,unknown v1,{base64.b64encode(b'old').decode()} v1,{digest}",
    }


def standard(**changes: str) -> Delivery:
    body = KITS["gitlab"].body
    return Delivery({**standard_headers(body), **{k.replace("_", "-"): v for k, v in changes.items()}}, body, NOW)


def test_a_standard_webhook_is_believed() -> None:
    received = GitlabForge().receive(standard(), SIGNING_SECRET)
    assert received.delivery_id == "msg_1"
    assert isinstance(received.outcome, Trigger)


@pytest.mark.parametrize(
    "changes",
    [
        {"webhook_id": "msg_2"},
        {"webhook_id": ""},
        {"webhook_timestamp": f"{NOW + 1:.0f}"},
        {"webhook_timestamp": ""},
        {"webhook_signature": ""},
        {"webhook_signature": "v1,"},
        {"webhook_signature": "v1,AAAA"},
        {"webhook_signature": "v2,AAAA"},
    ],
)
def test_a_changed_standard_webhook_is_refused(changes: Mapping[str, str]) -> None:
    with pytest.raises(BadSignature):
        GitlabForge().receive(standard(**changes), SIGNING_SECRET)


@pytest.mark.parametrize(("age", "believed"), [(0, True), (300, True), (-300, True), (301, False), (-301, False)])
def test_a_standard_webhook_has_a_window(age: int, believed: bool) -> None:
    body = KITS["gitlab"].body
    delivery = Delivery(standard_headers(body, NOW - age), body, NOW)
    if believed:
        assert GitlabForge().receive(delivery, SIGNING_SECRET).delivery_id == "msg_1"
    else:
        with pytest.raises(BadSignature, match="clock"):
            GitlabForge().receive(delivery, SIGNING_SECRET)


def test_a_signing_token_is_not_taken_as_a_plain_one() -> None:
    body = KITS["gitlab"].body
    headers = {"x-gitlab-event": "Push Hook", "x-gitlab-token": SIGNING_SECRET.reveal()}
    with pytest.raises(BadSignature):
        GitlabForge().receive(Delivery(headers, body, NOW), SIGNING_SECRET)


@pytest.mark.parametrize("secret", ["whsec_", "whsec_!!!", "whsec_a"])
def test_a_broken_signing_token_believes_nobody(secret: str) -> None:
    with pytest.raises(BadSignature, match="signing token"):
        GitlabForge().receive(standard(), Secret(secret))


# Plain


@pytest.mark.parametrize("age", [301, -301])
def test_an_old_plain_delivery_is_refused(age: int) -> None:
    with pytest.raises(BadSignature, match="clock"):
        PlainForge().receive(replace(KITS["plain"].delivery(), now=NOW + age), SECRET)


def test_the_time_of_a_plain_delivery_is_signed() -> None:
    with pytest.raises(BadSignature, match="does not match"):
        PlainForge().receive(KITS["plain"].delivery(x_greenroom_timestamp=f"{NOW + 9:.0f}"), SECRET)


def test_plain_deletions_end_their_lane() -> None:
    gone = receive("plain", "", {**PLAIN_PUSH, "after": ZERO_SHA})
    assert gone == Ignored("the branch main was deleted", ended_lane="/srv/git/shop.git#branch/main")


def test_plain_reports_nothing() -> None:
    PlainForge().report(STATUS, "", Secret("t"))


# Kinds of push


def changed(file: str, **changes: Any) -> dict[str, Any]:
    return {**payload(file), **changes}


PUSHES = {
    "github": ("push", "github/push-new-branch.json"),
    "gitlab": ("Push Hook", "gitlab/push.json"),
    "gitea": ("push", "gitea/push.json"),
    "plain": ("", ""),
}


@pytest.fixture(params=PUSHES)
def push(request: pytest.FixtureRequest) -> Callable[..., Trigger | Ignored]:
    event, file = PUSHES[request.param]

    def send(**changes: Any) -> Trigger | Ignored:
        body = {**PLAIN_PUSH, **changes} if not file else changed(file, **changes)
        return receive(request.param, event, body)

    return send


def test_a_deleted_branch_ends_its_lane(push: Callable[..., Trigger | Ignored]) -> None:
    started = push(ref="refs/heads/old", deleted=False)
    assert isinstance(started, Trigger)
    ended = push(ref="refs/heads/old", after=ZERO_SHA, checkout_sha=None, deleted=True)
    assert ended == Ignored("the branch old was deleted", ended_lane=started.lane)


def test_a_deleted_tag_ends_nothing(push: Callable[..., Trigger | Ignored]) -> None:
    ended = push(ref="refs/tags/v1", after=ZERO_SHA, checkout_sha=None, deleted=True)
    assert ended == Ignored("the tag v1 was deleted")


def test_a_tag(push: Callable[..., Trigger | Ignored]) -> None:
    tagged = push(ref="refs/tags/v1.0")
    assert isinstance(tagged, Trigger)
    assert (tagged.kind, tagged.tag, tagged.branch, tagged.lane) == (TriggerKind.TAG, "v1.0", "", "")


def test_a_branch_with_slashes_keeps_them(push: Callable[..., Trigger | Ignored]) -> None:
    trigger = push(ref="refs/heads/feature/a/b")
    assert isinstance(trigger, Trigger)
    assert trigger.branch == "feature/a/b"


def test_a_push_that_moves_nothing_is_ignored(push: Callable[..., Trigger | Ignored]) -> None:
    ignored = push(before="a" * 40, after="a" * 40, checkout_sha="a" * 40)
    assert isinstance(ignored, Ignored)
    assert "moved nothing" in ignored.reason


@pytest.mark.parametrize("ref", ["refs/notes/commits", "refs/pull/1/head", "refs/keep-around/x"])
def test_other_refs_are_ignored(push: Callable[..., Trigger | Ignored], ref: str) -> None:
    assert isinstance(push(ref=ref), Ignored)


@pytest.mark.parametrize(
    "ref", ["main", "--upload-pack=x", "refs/heads/--upload-pack=x", "refs/heads/a..b", "refs/heads/"]
)
def test_odd_refs_are_user_errors(push: Callable[..., Trigger | Ignored], ref: str) -> None:
    with pytest.raises(UserError):
        push(ref=ref)


@pytest.mark.parametrize("sha", ["main", "-" * 40, "A" * 40, "a" * 41, "a" * 6, "--upload-pack=x"])
def test_odd_commits_are_user_errors(push: Callable[..., Trigger | Ignored], sha: str) -> None:
    with pytest.raises(UserError):
        push(after=sha, checkout_sha=sha)


@pytest.mark.parametrize(
    "url", ["ext::sh -c id", "-x", "ftp://h/x", "file:///a\nb", "https://u:p@h/x", "C:\\x", "../x"]
)
def test_odd_repositories_are_user_errors(push: Callable[..., Trigger | Ignored], url: str) -> None:
    nested = {"clone_url": url, "git_http_url": url, "full_name": "a/b", "path_with_namespace": "a/b"}
    for changes in ({"repository": nested, "project": nested}, {"repository": url, "project": nested}):
        with pytest.raises(UserError):
            push(**changes)


def test_the_commit_of_an_annotated_tag_is_taken() -> None:
    head = {"id": "c" * 40, "message": "m"}
    body = changed("github/push-new-branch.json", ref="refs/tags/v1", after="b" * 40, head_commit=head)
    trigger = receive("github", "push", body)
    assert isinstance(trigger, Trigger)
    assert trigger.sha == "c" * 40
    body = changed(
        "gitlab/push.json", object_kind="tag_push", ref="refs/tags/v1", after="b" * 40, checkout_sha="c" * 40
    )
    trigger = receive("gitlab", "Tag Push Hook", body)
    assert isinstance(trigger, Trigger)
    assert trigger.sha == "c" * 40


@pytest.mark.parametrize("order", [1, -1])
def test_the_message_is_the_head_commits_in_any_order(order: int) -> None:
    commits = [{"id": "b" * 40, "message": "old [skip ci]"}, {"id": "c" * 40, "message": "new"}][::order]
    for name, file in (("gitlab", "gitlab/push.json"), ("gitea", "gitea/push.json")):
        body = changed(file, after="c" * 40, checkout_sha="c" * 40, commits=commits)
        trigger = receive(name, PUSHES[name][0], body)
        assert isinstance(trigger, Trigger)
        assert trigger.message == "new"


# Kinds of pull request


@pytest.mark.parametrize("action", ["labeled", "edited", "assigned", "ready_for_review", "converted_to_draft"])
def test_pull_requests_without_new_commits_are_ignored(action: str) -> None:
    for name, file in (("github", "github/pull_request-opened.json"), ("gitea", "gitea/pull_request_opened.json")):
        ignored = receive(name, "pull_request", changed(file, action=action))
        assert isinstance(ignored, Ignored)
        assert ignored.ended_lane == ""


@pytest.mark.parametrize(("name", "action"), [("github", "reopened"), ("gitea", "synchronized"), ("gitea", "reopened")])
def test_pull_requests_with_new_commits_run(name: str, action: str) -> None:
    file = {"github": "github/pull_request-opened.json", "gitea": "gitea/pull_request_opened.json"}[name]
    assert isinstance(receive(name, "pull_request", changed(file, action=action)), Trigger)


def merge_request(**changes: Any) -> Trigger | Ignored:
    body = payload("gitlab/pull_request_create.json")
    body["object_attributes"].update(changes)
    return receive("gitlab", "Merge Request Hook", body)


@pytest.mark.parametrize(
    ("changes", "runs"),
    [
        ({"action": "open"}, True),
        ({"action": "reopen"}, True),
        ({"action": "update", "oldrev": "a" * 40}, True),
        ({"action": "update"}, False),
        ({"action": "approved"}, False),
        ({"action": None}, False),
    ],
)
def test_merge_requests_run_with_new_commits(changes: Mapping[str, Any], runs: bool) -> None:
    assert isinstance(merge_request(**changes), Trigger) is runs


@pytest.mark.parametrize(("action", "how"), [("close", "closed"), ("merge", "merged")])
def test_an_ended_merge_request_ends_its_lane(action: str, how: str) -> None:
    lane = "https://gitlab.com/gitlab-org/hello-world.git#pull/1"
    assert merge_request(action=action) == Ignored(f"pull request 1 was {how}", ended_lane=lane, happened_at=GITLABS)


def test_forks_are_told() -> None:
    forked = merge_request(source_project_id=7)
    assert isinstance(forked, Trigger)
    assert forked.fork
    assert forked.repository == "https://gitlab.com/gitlab-org/hello-world.git"
    body = payload("github/pull_request-opened.json")
    body["pull_request"]["head"]["repo"] = None  # the fork was deleted
    trigger = receive("github", "pull_request", body)
    assert isinstance(trigger, Trigger)
    assert trigger.fork


def test_a_fork_at_bitbucket_names_the_repository_that_it_wants_into() -> None:
    body = payload("bitbucket/pr_created.json")
    source = body["pullrequest"]["source"]["repository"]
    source["full_name"], source["links"]["html"]["href"] = "stranger/foo", "https://bitbucket.org/stranger/foo"
    trigger = receive("bitbucket", "pullrequest:created", body)
    assert isinstance(trigger, Trigger)
    assert (trigger.fork, trigger.home) == (True, "https://bitbucket.org/brydzewski/foo.git")
    assert trigger.repository == "https://bitbucket.org/stranger/foo.git"


@pytest.mark.parametrize("number", [0, -1, 2**31, 10**400, 1.5, True, "12"])
def test_what_is_no_number_of_a_pull_request_is_a_user_error(number: object) -> None:
    body = payload("github/pull_request-opened.json")
    body["number"] = number
    with pytest.raises(UserError, match="no number"):
        receive("github", "pull_request", body)


@pytest.mark.parametrize("told", ["", "yesterday", "2019-13-01T00:00:00Z"])
def test_what_is_no_time_is_none(told: str) -> None:
    body = payload("github/pull_request-opened.json")
    body["pull_request"]["updated_at"] = told
    trigger = receive("github", "pull_request", body)
    assert isinstance(trigger, Trigger)
    assert trigger.happened_at == 0.0


@pytest.mark.parametrize(("event", "how"), [("pullrequest:fulfilled", "merged"), ("pullrequest:rejected", "declined")])
def test_an_ended_bitbucket_pull_request_ends_its_lane(event: str, how: str) -> None:
    lane = "https://bitbucket.org/brydzewski/foo.git#pull/1"
    expected = Ignored(f"pull request 1 was {how}", ended_lane=lane, happened_at=BITBUCKETS)
    assert receive("bitbucket", event, payload("bitbucket/pr_created.json")) == expected


# Bitbucket's several changes


def change(kind: str, name: str, *, old: bool = True, new: bool = True) -> dict[str, Any]:
    def side(sha: str) -> dict[str, Any]:
        return {"type": kind, "name": name, "target": {"hash": sha, "message": f"of {name}"}}

    return {"old": side("1" * 40) if old else None, "new": side("2" * 40) if new else None}


def bitbucket_push(*changes: Mapping[str, Any]) -> Trigger | Ignored:
    return receive("bitbucket", "repo:push", changed("bitbucket/push.json", push={"changes": list(changes)}))


@pytest.mark.parametrize(
    ("changes", "kind", "name"),
    [
        ([change("branch", "a"), change("branch", "b")], TriggerKind.PUSH, "b"),
        ([change("branch", "a"), change("tag", "t", old=False)], TriggerKind.PUSH, "a"),
        ([change("branch", "a"), change("branch", "b", new=False)], TriggerKind.PUSH, "a"),
        ([change("annotated_tag", "t", old=False)], TriggerKind.TAG, "t"),
        ([change("branch", "a", old=False)], TriggerKind.PUSH, "a"),
    ],
)
def test_the_last_branch_of_a_push_counts(changes: list[dict[str, Any]], kind: TriggerKind, name: str) -> None:
    trigger = bitbucket_push(*changes)
    assert isinstance(trigger, Trigger)
    assert (trigger.kind, trigger.branch or trigger.tag) == (kind, name)


def test_bitbucket_deletions_and_empty_pushes_are_ignored() -> None:
    lane = "https://bitbucket.org/brydzewski/foo.git#branch/a"
    assert bitbucket_push(change("branch", "a", new=False)) == Ignored("the branch a was deleted", ended_lane=lane)
    assert bitbucket_push() == Ignored("the push changed neither a branch nor a tag")
    assert bitbucket_push(change("bookmark", "x")) == Ignored("the push changed neither a branch nor a tag")


# Statuses

STATUS = CommitStatus(
    slug="group/shop",
    sha="a" * 40,
    state=StatusState.FAILURE,
    description="failed: 1 of 3 tests",
    url="https://greenroom.example/runs/run-1",
)
TOKEN = Secret("tok-123")


@dataclass
class Api:
    """A forge's API that takes exactly one kind of request and notes it."""

    url: str
    answers: list[tuple[int, Headers, bytes]] = field(default_factory=list)
    requests: list[tuple[str, str, Headers, Any]] = field(default_factory=list)


@contextmanager
def serve() -> Iterator[Api]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            forge_api.requests.append((self.command, self.path, headers, json.loads(body)))
            code, extra, answer = forge_api.answers.pop(0) if forge_api.answers else (201, {}, b"{}")
            self.send_response(code)
            for name, value in {**extra, "content-length": str(len(answer))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing on stderr."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        forge_api = Api(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield forge_api
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with serve() as served:
        yield served


REPORTS: list[tuple[str, str, Headers, Mapping[str, str]]] = [
    (
        "github",
        f"/repos/group/shop/statuses/{'a' * 40}",
        {
            "authorization": "Bearer tok-123",
            "accept": "application/vnd.github+json",
            "x-github-api-version": "2022-11-28",
        },
        {"state": "failure", "target_url": STATUS.url, "description": STATUS.description, "context": "greenroom"},
    ),
    (
        "gitlab",
        f"/api/v4/projects/group%2Fshop/statuses/{'a' * 40}",
        {"private-token": "tok-123"},
        {"state": "failed", "target_url": STATUS.url, "description": STATUS.description, "name": "greenroom"},
    ),
    (
        "gitea",
        f"/api/v1/repos/group/shop/statuses/{'a' * 40}",
        {"authorization": "token tok-123"},
        {"state": "failure", "target_url": STATUS.url, "description": STATUS.description, "context": "greenroom"},
    ),
    (
        "bitbucket",
        f"/2.0/repositories/group/shop/commit/{'a' * 40}/statuses/build",
        {"authorization": "Bearer tok-123"},
        {
            "key": "greenroom",
            "name": "greenroom",
            "state": "FAILED",
            "url": STATUS.url,
            "description": STATUS.description,
        },
    ),
]
REPORTING = ["github", "gitlab", "gitea", "bitbucket"]


@pytest.mark.parametrize(("name", "path", "headers", "body"), REPORTS, ids=REPORTING)
def test_a_status_is_reported(name: str, path: str, headers: Headers, body: Mapping[str, str], api: Api) -> None:
    KITS[name].forge.report(STATUS, api.url, TOKEN)
    [(method, asked, sent, told)] = api.requests
    assert (method, asked, told) == ("POST", path, body)
    assert headers.items() <= sent.items()
    assert sent["content-type"] == "application/json"


@pytest.mark.parametrize(("name", "root"), [("gitlab", "/api/v4"), ("gitea", "/api/v1/"), ("bitbucket", "/2.0")])
def test_the_api_root_may_stand_in_the_address(name: str, root: str, api: Api) -> None:
    KITS[name].forge.report(STATUS, api.url + root, TOKEN)
    assert api.requests[0][1].count(root.rstrip("/")) == 1


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("github", ["pending", "success", "failure", "error"]),
        ("gitlab", ["pending", "success", "failed", "failed"]),
        ("gitea", ["pending", "success", "failure", "error"]),
        ("bitbucket", ["INPROGRESS", "SUCCESSFUL", "FAILED", "FAILED"]),
    ],
)
def test_states_have_the_forges_names(name: str, words: list[str], api: Api) -> None:
    for state in StatusState:
        KITS[name].forge.report(replace(STATUS, state=state), api.url, TOKEN)
    assert [request[3]["state"] for request in api.requests] == words


@pytest.mark.parametrize("name", REPORTING)
def test_long_descriptions_are_cut(name: str, api: Api) -> None:
    KITS[name].forge.report(replace(STATUS, description="x" * 500), api.url, TOKEN)
    assert len(api.requests[0][3]["description"]) == 140


@pytest.mark.parametrize("name", REPORTING)
@pytest.mark.parametrize("code", [429, 500, 502, 503])
def test_passing_troubles_are_transient(name: str, code: int, api: Api) -> None:
    api.answers.append((code, {}, b"later"))
    with pytest.raises(TransientError, match=str(code)):
        KITS[name].forge.report(STATUS, api.url, TOKEN)


@pytest.mark.parametrize("name", REPORTING)
@pytest.mark.parametrize("code", [301, 400, 401, 403, 404, 422])
def test_refusals_are_permanent_and_tell_no_token(name: str, code: int, api: Api) -> None:
    api.answers.append((code, {"location": "http://127.0.0.1:1/"}, b"no such thing, tok-123"))
    with pytest.raises(PermanentError) as caught:
        KITS[name].forge.report(STATUS, api.url, TOKEN)
    assert f"answered {code}: no such thing" in str(caught.value)
    assert "tok-123" not in str(caught.value)


def test_githubs_rate_limit_is_transient(api: Api) -> None:
    api.answers.append((403, {"x-ratelimit-remaining": "0"}, b"slow down"))
    with pytest.raises(TransientError):
        GithubForge().report(STATUS, api.url, TOKEN)


def test_a_status_that_gitlab_has_already_is_fine(api: Api) -> None:
    api.answers.append((400, {}, b'{"message": "Cannot transition status via :enqueue from :pending"}'))
    GitlabForge().report(STATUS, api.url, TOKEN)
    assert len(api.requests) == 1


def test_a_personal_bitbucket_token(api: Api) -> None:
    BitbucketForge().report(STATUS, api.url, Secret("ada@example.org:tok"))
    assert api.requests[0][2]["authorization"] == "Basic " + base64.b64encode(b"ada@example.org:tok").decode()


@pytest.mark.parametrize("name", REPORTING)
def test_an_api_that_is_not_there_is_transient(name: str, api: Api) -> None:
    with pytest.raises(TransientError, match="did not answer"):
        KITS[name].forge.report(STATUS, "http://127.0.0.1:1", TOKEN)


@pytest.mark.parametrize("address", ["ftp://h", "h", "http://", "file:///x"])
def test_an_odd_api_address_is_permanent(address: str) -> None:
    for name in REPORTING:
        with pytest.raises(PermanentError, match="API address"):
            KITS[name].forge.report(STATUS, address, TOKEN)


@pytest.mark.parametrize("name", REPORTING)
def test_a_slug_leads_nowhere_else(name: str, api: Api) -> None:
    with pytest.raises(PermanentError):
        KITS[name].forge.report(replace(STATUS, slug="a/../../user"), api.url, TOKEN)
    assert api.requests == []


@pytest.mark.parametrize("name", REPORTING)
def test_a_token_with_line_breaks_is_never_sent_or_told(name: str, api: Api) -> None:
    with pytest.raises(PermanentError) as caught:
        KITS[name].forge.report(STATUS, api.url, Secret("tok\r\nx: y"))
    assert "tok" not in str(caught.value).replace("token", "")
    assert api.requests == []


# Comments

SAID = Said("group/shop", 12, "at http://shop", mark="m1")


@pytest.fixture(params=REPORTING)
def commented(request: pytest.FixtureRequest, api: Api) -> Iterator[tuple[Forge, Comments]]:
    del api  # it sees to it that no proxy is asked
    kept = Comments(request.param)
    with server_of(kept) as server:
        kept.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield KITS[request.param].forge, kept
        finally:
            server.shutdown()
            thread.join()


def test_a_comment_is_written_once_and_changed_from_then_on(commented: tuple[Forge, Comments]) -> None:
    forge, kept = commented
    kept.texts[1] = "looks good"
    id = forge.comment(SAID, kept.url, TOKEN)
    assert forge.comment(replace(SAID, id=id, text="at http://other"), kept.url, TOKEN) == id
    assert set(kept.texts) == {1, int(id)}
    assert kept.texts[1] == "looks good"
    assert kept.texts[int(id)].startswith("at http://other\n\n[greenroom-m1]: #")
    assert len([one for one in kept.asked if one.startswith("POST")]) == 1


@pytest.mark.parametrize("before", [0, 250])
def test_a_comment_that_was_written_and_not_noted_is_found_again(
    commented: tuple[Forge, Comments], before: int
) -> None:
    forge, kept = commented
    kept.texts.update({id: f"remark {id}" for id in range(1, before + 1)})
    kept.lost = 1
    with pytest.raises(TransientError):
        forge.comment(SAID, kept.url, TOKEN)
    id = forge.comment(replace(SAID, text="again"), kept.url, TOKEN)
    assert len(kept.texts) == before + 1
    assert kept.texts[int(id)].startswith("again")


def test_another_ones_mark_is_none_of_ours(commented: tuple[Forge, Comments]) -> None:
    forge, kept = commented
    kept.texts[1] = replace(SAID, mark="m2").body
    assert forge.comment(SAID, kept.url, TOKEN) == "2"


def test_a_comment_that_somebody_deleted_is_written_anew(commented: tuple[Forge, Comments]) -> None:
    forge, kept = commented
    kept.texts[1] = "looks good"
    assert forge.comment(replace(SAID, id="77"), kept.url, TOKEN) == "2"


def test_a_comment_with_a_wrong_token_is_refused_for_good(commented: tuple[Forge, Comments]) -> None:
    forge, kept = commented
    with pytest.raises(PermanentError, match="comments of pull requests") as refused:
        forge.comment(SAID, kept.url, Secret("another"))
    assert "another" not in str(refused.value)
    assert kept.texts == {}


def test_a_bare_repository_takes_no_comment() -> None:
    assert KITS["plain"].forge.comment(SAID, "", TOKEN) == ""
