"""GitHub, cloud and Enterprise Server.

`X-Hub-Signature-256` over the raw body, also when that is a form. GitHub never delivers again by itself.
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

_CLOUD = "https://api.github.com"
_SIGNATURE = "x-hub-signature-256"
_OPENED = frozenset({"opened", "synchronize", "reopened"})

#: Events that start no run, for those who tick "send me everything".
_OTHER_EVENTS = """
branch_protection_configuration branch_protection_rule check_run check_suite code_scanning_alert commit_comment
create custom_property_values dependabot_alert deploy_key deployment deployment_protection_rule deployment_review
deployment_status discussion discussion_comment fork gollum installation installation_repositories issue_comment
issue_dependencies issues label member membership merge_group meta milestone org_block organization package
page_build personal_access_token_request project project_card project_column projects_v2 projects_v2_item public
pull_request_review pull_request_review_comment pull_request_review_thread registry_package release repository
repository_advisory repository_dispatch repository_import repository_ruleset repository_vulnerability_alert
secret_scanning_alert secret_scanning_alert_location secret_scanning_scan security_advisory security_and_analysis
star status sub_issues team team_add watch workflow_dispatch workflow_job workflow_run
"""
_OTHERS = frozenset(_OTHER_EVENTS.split())


class GithubForge:
    """See `ports.forges.Forge`; `api_url` is `https://HOST/api/v3`, or empty for github.com."""

    name = "github"

    def recognises(self, delivery: Delivery) -> bool:
        headers = delivery.headers
        # Gitea and Gogs send GitHub's header beside their own.
        return "x-github-event" in headers and "x-gitea-event" not in headers and "x-gogs-event" not in headers

    def receive(self, delivery: Delivery, secret: Secret) -> Received:
        headers = delivery.headers
        webhooks.check_prefixed_sha256(secret, delivery.body, headers.get(_SIGNATURE, ""), _SIGNATURE)
        payload = webhooks.form_payload(delivery.body) if webhooks.is_form(delivery) else delivery.body
        delivery_id = headers.get("x-github-delivery") or webhooks.digest(delivery.body)
        return Received(delivery_id, _outcome(headers.get("x-github-event", ""), webhooks.parse(payload)))

    def report(self, status: CommitStatus, api_url: str, token: Secret) -> None:
        post_status(
            with_root(api_url or _CLOUD, "", "repos", *status.slug.split("/"), "statuses", status.sha),
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
            return with_root(api_url or _CLOUD, "", "repos", *said.slug.split("/"), "issues", *parts)

        every = at(str(said.number), "comments")
        words = comments.Words(every, lambda one: at("comments", one), "PATCH", comments.plain, comments.body_of)
        return comments.keep(said, words, token, _headers(token))


def _headers(token: Secret) -> dict[str, str]:
    return {
        "Authorization": f"Bearer {token.reveal()}",
        "Accept": "application/vnd.github+json",
        "X-GitHub-Api-Version": "2022-11-28",
    }


def _outcome(event: str, payload: Fields) -> Trigger | Ignored:
    if event == "push":
        return _push(payload)
    if event == "pull_request":
        return _pull_request(payload)
    if event == "delete":
        return _delete(payload)
    if event == "ping":
        return Ignored("ping: the webhook works")
    if event in _OTHERS:
        return Ignored(f"the event {event} starts no run")
    raise UserError(f"GitHub's event {event[:80]!r} is not known; send push and pull_request")


def _push(payload: Fields) -> Trigger | Ignored:
    ref, repository = payload.need("ref"), payload.need("repository", "clone_url")
    named = webhooks.ref_name(ref)
    if named is None:
        return webhooks.other_ref(ref)
    kind, name = named
    before, after = payload.text("before") or ZERO_SHA, payload.need("after")
    if payload.any("deleted") is True or after == ZERO_SHA:
        return webhooks.gone("github", repository, kind, name)
    if before == after:
        return Ignored(f"the push moved nothing: {ref[:200]} was at {after[:12]} before")
    return checked(
        Trigger(
            kind=kind,
            forge="github",
            repository=repository,
            sha=_commit(payload, kind),
            slug=payload.need("repository", "full_name"),
            branch=name if kind is TriggerKind.PUSH else "",
            tag=name if kind is TriggerKind.TAG else "",
            base=before,
            actor=payload.text("pusher", "name") or payload.text("sender", "login"),
            message=webhooks.message_of(payload.text("head_commit", "message")),
            url=payload.text("compare"),
        )
    )


def _commit(payload: Fields, kind: TriggerKind) -> str:
    """The commit; `after` of an annotated tag is the tag's own id."""
    tagged = payload.text("head_commit", "id") if kind is TriggerKind.TAG else ""
    return tagged or payload.need("after")


def _pull_request(payload: Fields) -> Trigger | Ignored:
    action, number = payload.need("action"), payload.number("number")
    repository = payload.need("repository", "clone_url")
    happened_at = webhooks.moment(payload.text("pull_request", "updated_at"))
    if action == "closed":
        how = "merged" if payload.any("pull_request", "merged") is True else "closed"
        return webhooks.closed("github", repository, number, how, happened_at)
    if action not in _OPENED:
        return Ignored(f"pull request {number}: {action[:80]} brings no new commit")
    slug = payload.need("repository", "full_name")
    return checked(
        Trigger(
            kind=TriggerKind.PULL_REQUEST,
            forge="github",
            repository=repository,
            sha=payload.need("pull_request", "head", "sha"),
            slug=slug,
            branch=payload.need("pull_request", "head", "ref"),
            base=payload.text("pull_request", "base", "sha") or ZERO_SHA,
            target=payload.need("pull_request", "base", "ref"),
            number=number,
            actor=payload.text("sender", "login"),
            message=webhooks.message_of(payload.text("pull_request", "title")),
            url=payload.text("pull_request", "html_url"),
            fork=payload.text("pull_request", "head", "repo", "full_name") != slug,
            happened_at=happened_at,
        )
    )


def _delete(payload: Fields) -> Ignored:
    kind = TriggerKind.TAG if payload.need("ref_type") == "tag" else TriggerKind.PUSH
    return webhooks.gone("github", payload.need("repository", "clone_url"), kind, payload.need("ref"))
