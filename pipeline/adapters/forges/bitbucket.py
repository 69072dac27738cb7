"""Bitbucket Cloud.

One push may carry several changes, of which one delivery can start one run: the last change that leaves a branch
is taken, else the last tag, else the last deletion is told. Commits of pull requests are shortened to 12 digits.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from pipeline.clients import comments, webhooks
from pipeline.clients.forge_api import with_root
from pipeline.clients.statuses import post_status, shortened
from pipeline.clients.webhooks import Fields
from pipeline.domain.errors import UserError
from pipeline.domain.pulls import Said
from pipeline.domain.triggers import ZERO_SHA, Ignored, Trigger, TriggerKind, checked
from pipeline.ports.common import Secret
from pipeline.ports.forges import CommitStatus, Delivery, Received, StatusState

_CLOUD = "https://api.bitbucket.org"
_SIGNATURE = "x-hub-signature"
_OPENED = frozenset({"pullrequest:created", "pullrequest:updated"})
_CLOSED = {"pullrequest:fulfilled": "merged", "pullrequest:rejected": "declined"}
#: Events that start no run, for those who tick everything.
_OTHER_EVENTS = """
issue:comment_created issue:created issue:updated project:updated pullrequest:approved
pullrequest:changes_request_created
pullrequest:changes_request_removed pullrequest:comment_created pullrequest:comment_deleted pullrequest:comment_reopened
pullrequest:comment_resolved pullrequest:comment_updated pullrequest:push pullrequest:unapproved
repo:commit_comment_created repo:commit_status_created repo:commit_status_updated repo:created repo:deleted repo:fork
repo:imported repo:transfer repo:updated
"""
_OTHERS = frozenset(_OTHER_EVENTS.split())
_KINDS = {
    "branch": TriggerKind.PUSH,
    "named_branch": TriggerKind.PUSH,
    "tag": TriggerKind.TAG,
    "annotated_tag": TriggerKind.TAG,
}
_STATES = {
    StatusState.PENDING: "INPROGRESS",
    StatusState.SUCCESS: "SUCCESSFUL",
    StatusState.FAILURE: "FAILED",
    StatusState.ERROR: "FAILED",
}
#: Longer keys are refused.
_KEY_LIMIT = 40


class BitbucketForge:
    """See `ports.forges.Forge`; an empty `api_url` means `https://api.bitbucket.org`.

    The token is an access token, or `email:token` for a personal one.
    """

    name = "bitbucket"

    def recognises(self, delivery: Delivery) -> bool:
        return "x-event-key" in delivery.headers

    def receive(self, delivery: Delivery, secret: Secret) -> Received:
        headers = delivery.headers
        webhooks.check_prefixed_sha256(secret, delivery.body, headers.get(_SIGNATURE, ""), _SIGNATURE)
        delivery_id = headers.get("x-request-uuid") or webhooks.digest(delivery.body)
        return Received(delivery_id, _outcome(headers.get("x-event-key", ""), webhooks.parse(delivery.body)))

    def report(self, status: CommitStatus, api_url: str, token: Secret) -> None:
        repository = ("repositories", *status.slug.split("/"))
        post_status(
            with_root(api_url or _CLOUD, "/2.0", *repository, "commit", status.sha, "statuses", "build"),
            {
                "key": status.context[:_KEY_LIMIT],
                "state": _STATES[status.state],
                "name": status.context,
                "url": status.url,
                "description": shortened(status.description),
            },
            token,
            _headers(token),
        )

    def comment(self, said: Said, api_url: str, token: Secret) -> str:
        def at(*parts: str) -> str:
            requests = (*said.slug.split("/"), "pullrequests", str(said.number), "comments")
            return with_root(api_url or _CLOUD, "/2.0", "repositories", *requests, *parts)

        words = comments.Words(at(), at, "PUT", _content, _raw, "pagelen", "values")
        return comments.keep(said, words, token, _headers(token))


def _headers(token: Secret) -> dict[str, str]:
    return {"Authorization": _authorization(token), "Accept": "application/json"}


def _content(text: str) -> Mapping[str, Any]:
    return {"content": {"raw": text}}


def _raw(comment: Mapping[str, Any]) -> str:
    return Fields(comment).text("content", "raw")


def _authorization(token: Secret) -> str:
    if ":" in token.reveal():
        return "Basic " + base64.b64encode(token.reveal().encode()).decode()
    return f"Bearer {token.reveal()}"


def _outcome(event: str, payload: Fields) -> Trigger | Ignored:
    if event == "repo:push":
        return _push(payload)
    if event in _OPENED or event in _CLOSED:
        return _pull_request(event, payload)
    if event == "diagnostics:ping":
        return Ignored("ping: the webhook works")
    if event in _OTHERS:
        return Ignored(f"the event {event} starts no run")
    raise UserError(f"Bitbucket's event {event[:80]!r} is not known; send repo:push and pullrequest events")


def _push(payload: Fields) -> Trigger | Ignored:
    if not isinstance(payload.any("push", "changes"), list):
        raise UserError("the payload has no push.changes")
    changes = payload.each("push", "changes")
    for kind in (TriggerKind.PUSH, TriggerKind.TAG):
        for change in reversed(changes):
            if _KINDS.get(change.text("new", "type")) is kind:
                return _change(payload, change, kind)
    for change in reversed(changes):
        if change.text("old", "type") in _KINDS:
            kind = _KINDS[change.text("old", "type")]
            return webhooks.gone(
                "bitbucket", _clone_url(payload.within("repository")), kind, change.need("old", "name")
            )
    return Ignored("the push changed neither a branch nor a tag")


def _change(payload: Fields, change: Fields, kind: TriggerKind) -> Trigger | Ignored:
    name, sha = change.need("new", "name"), change.need("new", "target", "hash")
    base = change.text("old", "target", "hash") or ZERO_SHA
    if base == sha:
        return Ignored(f"the push moved nothing: {name[:200]} was at {sha[:12]} before")
    return checked(
        Trigger(
            kind=kind,
            forge="bitbucket",
            repository=_clone_url(payload.within("repository")),
            sha=sha,
            slug=payload.need("repository", "full_name"),
            branch=name if kind is TriggerKind.PUSH else "",
            tag=name if kind is TriggerKind.TAG else "",
            base=base,
            actor=_actor(payload),
            message=webhooks.message_of(change.text("new", "target", "message")),
            url=change.text("links", "html", "href") or change.text("new", "links", "html", "href"),
        )
    )


def _pull_request(event: str, payload: Fields) -> Trigger | Ignored:
    request = payload.within("pullrequest")
    number = request.number("id")
    # Bitbucket keeps no ref for pull requests at the target, so a fork's commit is fetched from the fork.
    repository = _clone_url(request.within("source", "repository"))
    if event in _CLOSED:
        happened_at = webhooks.moment(request.text("updated_on"))
        return webhooks.closed("bitbucket", repository, number, _CLOSED[event], happened_at)
    slug = request.need("destination", "repository", "full_name")
    fork = request.text("source", "repository", "full_name") != slug
    return checked(
        Trigger(
            kind=TriggerKind.PULL_REQUEST,
            forge="bitbucket",
            repository=repository,
            sha=request.need("source", "commit", "hash"),
            slug=slug,
            branch=request.need("source", "branch", "name"),
            base=request.text("destination", "commit", "hash") or ZERO_SHA,
            target=request.need("destination", "branch", "name"),
            number=number,
            actor=_actor(payload),
            message=webhooks.message_of(request.text("title")),
            url=request.text("links", "html", "href"),
            fork=fork,
            home=_clone_url(request.within("destination", "repository")) if fork else "",
            happened_at=webhooks.moment(request.text("updated_on")),
        )
    )


def _clone_url(repository: Fields) -> str:
    return repository.need("links", "html", "href").rstrip("/") + ".git"


def _actor(payload: Fields) -> str:
    actor = payload.within("actor")
    return actor.text("nickname") or actor.text("username") or actor.text("display_name")
