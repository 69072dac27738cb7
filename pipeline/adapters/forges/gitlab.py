"""GitLab, cloud and self-managed.

Two ways to prove a sender. A project's secret that starts with `whsec_` is a signing token: then only Standard
Webhooks signatures are taken. Any other secret is compared with `X-Gitlab-Token`.
"""

from __future__ import annotations

import base64
import binascii
import hmac

from pipeline.clients import comments, webhooks
from pipeline.clients.forge_api import with_root
from pipeline.clients.statuses import post_status, shortened
from pipeline.clients.webhooks import Fields
from pipeline.domain.errors import BadSignature, UserError
from pipeline.domain.pulls import Said
from pipeline.domain.triggers import ZERO_SHA, Ignored, Trigger, TriggerKind, checked
from pipeline.ports.common import Secret
from pipeline.ports.forges import CommitStatus, Delivery, Received, StatusState

_SIGNING = "whsec_"
_CLOUD = "https://gitlab.com"
_SIGNATURE = "webhook-signature"
_TOKEN = "x-gitlab-token"  # noqa: S105 - the name of a header
_OPENED = frozenset({"open", "reopen"})
_CLOSED = {"close": "closed", "merge": "merged"}
#: Events that start no run, for those who tick "send me everything".
_OTHER_EVENTS = """
access_token build deployment emoji feature_flag group_create issue job member milestone note pipeline release
repository_update resource_access_token subgroup_create user_add_to_group vulnerability wiki_page work_item
"""
_OTHERS = frozenset(_OTHER_EVENTS.split())
_STATES = {StatusState.ERROR: "failed", StatusState.FAILURE: "failed"}


class GitlabForge:
    """See `ports.forges.Forge`; `api_url` is `https://HOST`, with or without `/api/v4`, or empty for gitlab.com."""

    name = "gitlab"

    def recognises(self, delivery: Delivery) -> bool:
        return "x-gitlab-event" in delivery.headers

    def receive(self, delivery: Delivery, secret: Secret) -> Received:
        if secret.reveal().startswith(_SIGNING):
            _check_signature(delivery, secret)
        else:
            _check_token(delivery, secret)
        return Received(_delivery_id(delivery), _outcome(webhooks.parse(delivery.body)))

    def report(self, status: CommitStatus, api_url: str, token: Secret) -> None:
        post_status(
            with_root(api_url or _CLOUD, "/api/v4", "projects", status.slug, "statuses", status.sha),
            {
                "state": _STATES.get(status.state, status.state.value),
                "target_url": status.url,
                "description": shortened(status.description),
                "name": status.context,
            },
            token,
            _headers(token),
            done_already="Cannot transition status",
        )

    def comment(self, said: Said, api_url: str, token: Secret) -> str:
        def at(*parts: str) -> str:
            requests = ("projects", said.slug, "merge_requests", str(said.number), "notes")
            return with_root(api_url or _CLOUD, "/api/v4", *requests, *parts)

        words = comments.Words(at(), at, "PUT", comments.plain, comments.body_of)
        return comments.keep(said, words, token, _headers(token))


def _headers(token: Secret) -> dict[str, str]:
    return {"PRIVATE-TOKEN": token.reveal(), "Accept": "application/json"}


def _check_token(delivery: Delivery, secret: Secret) -> None:
    claimed = delivery.headers.get(_TOKEN, "")
    expected = webhooks.secret_bytes(secret)
    if not claimed:
        raise BadSignature(f"{_TOKEN} is missing or empty: set the webhook's secret token")
    if not hmac.compare_digest(expected, claimed.encode("utf-8", "replace")):
        raise BadSignature(f"{_TOKEN} is not the project's secret")


def _check_signature(delivery: Delivery, secret: Secret) -> None:
    """Standard Webhooks 1.0: HMAC-SHA256 of `id.timestamp.body`; one of several `v1,<base64>` must match."""
    headers = delivery.headers
    name, stamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    claimed = [part.removeprefix("v1,") for part in headers.get(_SIGNATURE, "").split() if part.startswith("v1,")]
    if not name or not claimed:
        raise BadSignature(f"webhook-id or {_SIGNATURE} is missing: set the webhook's signing token")
    signed = f"{name}.{stamp}.".encode() + delivery.body
    expected = base64.b64encode(hmac.digest(_signing_key(secret), signed, "sha256"))
    matches = [hmac.compare_digest(expected, part.encode("utf-8", "replace")) for part in claimed]
    if not any(matches):
        raise BadSignature(f"{_SIGNATURE} does not match: the webhook's signing token is not the project's")
    webhooks.check_time(stamp, delivery.now, "webhook-timestamp")


def _signing_key(secret: Secret) -> bytes:
    try:
        key = base64.b64decode(secret.reveal().removeprefix(_SIGNING), validate=True)
    except binascii.Error:
        key = b""
    if not key:
        raise BadSignature("the project's signing token is not whsec_ and base64: copy it from the forge again")
    return key


def _delivery_id(delivery: Delivery) -> str:
    headers = delivery.headers
    fixed = headers.get("webhook-id") or headers.get("idempotency-key")
    if fixed:
        return fixed
    # Before GitLab 17.4 only this: deliveries that one webhook caused through another share it, so the body counts too.
    return f"{headers.get('x-gitlab-event-uuid', '')}-{webhooks.digest(delivery.body)}".removeprefix("-")


def _outcome(payload: Fields) -> Trigger | Ignored:
    kind = payload.text("object_kind") or payload.text("event_name")
    if kind in ("push", "tag_push"):
        return _push(payload)
    if kind == "merge_request":
        return _merge_request(payload)
    if kind in _OTHERS:
        return Ignored(f"the event {kind} starts no run")
    raise UserError(f"GitLab's event {kind[:80]!r} is not known; send push, tag push and merge request events")


def _push(payload: Fields) -> Trigger | Ignored:
    ref, repository = payload.need("ref"), payload.need("project", "git_http_url")
    named = webhooks.ref_name(ref)
    if named is None:
        return webhooks.other_ref(ref)
    kind, name = named
    before, after = payload.text("before") or ZERO_SHA, payload.need("after")
    if after == ZERO_SHA:
        return webhooks.gone("gitlab", repository, kind, name)
    if before == after:
        return Ignored(f"the push moved nothing: {ref[:200]} was at {after[:12]} before")
    # `after` of an annotated tag is the tag's own id.
    sha = payload.text("checkout_sha") or after
    return checked(
        Trigger(
            kind=kind,
            forge="gitlab",
            repository=repository,
            sha=sha,
            slug=payload.need("project", "path_with_namespace"),
            branch=name if kind is TriggerKind.PUSH else "",
            tag=name if kind is TriggerKind.TAG else "",
            base=before,
            actor=payload.text("user_username") or payload.text("user_name"),
            message=webhooks.message_of(webhooks.commit_message(payload.each("commits"), sha)),
            url=f"{payload.text('project', 'web_url')}/-/commit/{sha}",
        )
    )


def _merge_request(payload: Fields) -> Trigger | Ignored:
    request, repository = payload.within("object_attributes"), payload.need("project", "git_http_url")
    action, number = request.text("action"), request.number("iid")
    happened_at = webhooks.moment(request.text("updated_at"))
    if action in _CLOSED:
        return webhooks.closed("gitlab", repository, number, _CLOSED[action], happened_at)
    # An update carries `oldrev` only when it brings new commits.
    if action not in _OPENED and not (action == "update" and request.text("oldrev")):
        return Ignored(f"merge request {number}: {action[:80] or 'this'} brings no new commit")
    return checked(
        Trigger(
            kind=TriggerKind.PULL_REQUEST,
            forge="gitlab",
            repository=repository,
            sha=request.need("last_commit", "id"),
            slug=payload.need("project", "path_with_namespace"),
            branch=request.need("source_branch"),
            target=request.need("target_branch"),
            number=number,
            actor=payload.text("user", "username"),
            message=webhooks.message_of(request.text("last_commit", "message")),
            url=request.text("url"),
            fork=request.any("source_project_id") != request.any("target_project_id"),
            happened_at=happened_at,
        )
    )
