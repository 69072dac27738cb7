"""Gitea and Forgejo.

Both also send GitHub's headers, send an empty signature when no secret is set, and sign the JSON even when they post
it in a form. A `secret` inside the body (old versions) proves nothing and is not read.
"""

from __future__ import annotations

from pipeline.clients import comments, webhooks
from pipeline.clients.forge_api import with_root
from pipeline.clients.statuses import post_status, shortened
from pipeline.clients.webhooks import Fields
from pipeline.domain.errors import UserError
from pipeline.domain.pulls import Said
from pipeline.domain.triggers import ZERO_SHA, Ignored, Trigger, TriggerKind, checked
from pipeline.ports.common import Secret
from pipeline.ports.forges import CommitStatus, Delivery, Received

_SIGNATURE = "x-gitea-signature"
_OPENED = frozenset({"opened", "synchronized", "reopened"})
#: Events that start no run, for those who tick "send me everything".
_OTHER_EVENTS = """
action_run_failure action_run_recover action_run_success create fork issues issue_assign issue_comment issue_label
issue_milestone package pull_request_approved pull_request_assign pull_request_comment pull_request_label
pull_request_milestone pull_request_rejected pull_request_review_approved pull_request_review_comment
pull_request_review_rejected pull_request_review_request release repository schedule status wiki workflow_dispatch
workflow_job workflow_run
"""
_OTHERS = frozenset(_OTHER_EVENTS.split())


class GiteaForge:
    """See `ports.forges.Forge`; `api_url` is `https://HOST`, with or without `/api/v1`."""

    name = "gitea"

    def recognises(self, delivery: Delivery) -> bool:
        return "x-gitea-event" in delivery.headers

    def receive(self, delivery: Delivery, secret: Secret) -> Received:
        headers = delivery.headers
        payload = webhooks.form_payload(delivery.body) if webhooks.is_form(delivery) else delivery.body
        webhooks.check_sha256(secret, payload, headers.get(_SIGNATURE, ""), _SIGNATURE)
        delivery_id = headers.get("x-gitea-delivery") or webhooks.digest(payload)
        return Received(delivery_id, _outcome(headers.get("x-gitea-event", ""), webhooks.parse(payload)))

    def report(self, status: CommitStatus, api_url: str, token: Secret) -> None:
        post_status(
            with_root(api_url, "/api/v1", "repos", *status.slug.split("/"), "statuses", status.sha),
            {
                "state": status.state.value,
                "target_url": status.url,
                "description": shortened(status.description),
                "context": status.context,
            },
            token,
            _headers(token),
        )

    def comment(self, said: Said, api_url: str, token: Secret) -> str:
        def at(*parts: str) -> str:
            return with_root(api_url, "/api/v1", "repos", *said.slug.split("/"), "issues", *parts)

        every = at(str(said.number), "comments")
        plain, body_of = comments.plain, comments.body_of
        words = comments.Words(every, lambda one: at("comments", one), "PATCH", plain, body_of, "limit")
        return comments.keep(said, words, token, _headers(token))


def _headers(token: Secret) -> dict[str, str]:
    return {"Authorization": f"token {token.reveal()}", "Accept": "application/json"}


def _outcome(event: str, payload: Fields) -> Trigger | Ignored:
    if event == "push":
        return _push(payload)
    if event in ("pull_request", "pull_request_sync"):
        return _pull_request(payload)
    if event == "delete":
        return _delete(payload)
    if event in _OTHERS:
        return Ignored(f"the event {event} starts no run")
    raise UserError(f"Gitea's event {event[:80]!r} is not known; send push and pull_request")


def _push(payload: Fields) -> Trigger | Ignored:
    ref, repository = payload.need("ref"), payload.need("repository", "clone_url")
    named = webhooks.ref_name(ref)
    if named is None:
        return webhooks.other_ref(ref)
    kind, name = named
    before, after = payload.text("before") or ZERO_SHA, payload.need("after")
    if after == ZERO_SHA:
        return webhooks.gone("gitea", repository, kind, name)
    if before == after:
        return Ignored(f"the push moved nothing: {ref[:200]} was at {after[:12]} before")
    message = payload.text("head_commit", "message") or webhooks.commit_message(payload.each("commits"), after)
    return checked(
        Trigger(
            kind=kind,
            forge="gitea",
            repository=repository,
            sha=after,
            slug=payload.need("repository", "full_name"),
            branch=name if kind is TriggerKind.PUSH else "",
            tag=name if kind is TriggerKind.TAG else "",
            base=before,
            actor=payload.text("pusher", "login"),
            message=webhooks.message_of(message),
            url=payload.text("compare_url"),
        )
    )


def _pull_request(payload: Fields) -> Trigger | Ignored:
    action, number = payload.need("action"), payload.number("number")
    repository = payload.need("repository", "clone_url")
    happened_at = webhooks.moment(payload.text("pull_request", "updated_at"))
    if action == "closed":
        how = "merged" if payload.any("pull_request", "merged") is True else "closed"
        return webhooks.closed("gitea", repository, number, how, happened_at)
    if action not in _OPENED:
        return Ignored(f"pull request {number}: {action[:80]} brings no new commit")
    slug, request = payload.need("repository", "full_name"), payload.within("pull_request")
    return checked(
        Trigger(
            kind=TriggerKind.PULL_REQUEST,
            forge="gitea",
            repository=repository,
            sha=request.need("head", "sha"),
            slug=slug,
            branch=request.need("head", "ref"),
            base=request.text("merge_base") or request.text("base", "sha") or ZERO_SHA,
            target=request.need("base", "ref"),
            number=number,
            actor=payload.text("sender", "login"),
            message=webhooks.message_of(request.text("title")),
            url=request.text("html_url"),
            fork=request.text("head", "repo", "full_name") != slug,
            happened_at=happened_at,
        )
    )


def _delete(payload: Fields) -> Ignored:
    kind = TriggerKind.TAG if payload.need("ref_type") == "tag" else TriggerKind.PUSH
    return webhooks.gone("gitea", payload.need("repository", "clone_url"), kind, payload.need("ref"))
