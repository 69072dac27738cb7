"""Any git repository with Greenroom's post-receive hook.

The hook posts one JSON object an updated ref: `repository` (URL or absolute path), `ref` (full), `before`, `after`,
`pusher`, `message`. `X-Greenroom-Signature: sha256=<hex>` is the HMAC-SHA256 of `<X-Greenroom-Timestamp>.<body>`;
`X-Greenroom-Delivery` is the same for every retry of one delivery.
"""

from __future__ import annotations

from pipeline.clients import webhooks
from pipeline.clients.webhooks import Fields
from pipeline.domain.pulls import Said
from pipeline.domain.triggers import ZERO_SHA, Ignored, Trigger, TriggerKind, checked
from pipeline.ports.common import Secret
from pipeline.ports.forges import CommitStatus, Delivery, Received

_SIGNATURE = "x-greenroom-signature"
_TIMESTAMP = "x-greenroom-timestamp"


class PlainForge:
    """See `ports.forges.Forge`."""

    name = "plain"

    def recognises(self, delivery: Delivery) -> bool:
        return _SIGNATURE in delivery.headers or "x-greenroom-delivery" in delivery.headers

    def receive(self, delivery: Delivery, secret: Secret) -> Received:
        stamp = delivery.headers.get(_TIMESTAMP, "")
        webhooks.check_prefixed_sha256(
            secret, stamp.encode() + b"." + delivery.body, delivery.headers.get(_SIGNATURE, ""), _SIGNATURE
        )
        webhooks.check_time(stamp, delivery.now, _TIMESTAMP)
        delivery_id = delivery.headers.get("x-greenroom-delivery") or webhooks.digest(delivery.body)
        return Received(delivery_id, _outcome(webhooks.parse(delivery.body)))

    def report(self, status: CommitStatus, api_url: str, token: Secret) -> None:
        """Do nothing: a bare repository has no place for a commit status."""

    def comment(self, said: Said, api_url: str, token: Secret) -> str:  # noqa: ARG002  # as every forge
        """Do nothing: it has no pull requests either."""
        return ""


def _outcome(payload: Fields) -> Trigger | Ignored:
    ref, repository, after = payload.need("ref"), payload.need("repository"), payload.need("after")
    named = webhooks.ref_name(ref)
    if named is None:
        return webhooks.other_ref(ref)
    kind, name = named
    if after == ZERO_SHA:
        return webhooks.gone("plain", repository, kind, name)
    before = payload.text("before") or ZERO_SHA
    if before == after:
        return Ignored(f"the push moved nothing: {ref[:200]} was at {after[:12]} before")
    return checked(_trigger(payload, kind, name, before))


def _trigger(payload: Fields, kind: TriggerKind, name: str, before: str) -> Trigger:
    return Trigger(
        kind=kind,
        forge="plain",
        repository=payload.need("repository"),
        sha=payload.need("after"),
        branch=name if kind is TriggerKind.PUSH else "",
        tag=name if kind is TriggerKind.TAG else "",
        base=before,
        actor=payload.text("pusher"),
        message=webhooks.message_of(payload.text("message")),
    )
