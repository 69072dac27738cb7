"""What the forges' webhooks have in common: signatures over the raw bytes, JSON bodies, names of refs.

Only SHA-256 is taken. Everything here runs in intake's event loop: no I/O, one pass over the body for each of
signature and JSON.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs

from pipeline.domain.errors import BadSignature, UserError
from pipeline.domain.triggers import ZERO_SHA, Ignored, Trigger, TriggerKind, ref_refusal
from pipeline.ports.common import Secret
from pipeline.ports.forges import Delivery

#: How far a signed time may be from ours, in seconds: the window of the Standard Webhooks specification.
WINDOW_S = 300.0
#: Pull requests have numbers below it; a name in DNS is made of them.
NUMBERS = 2**31

_FORM = "application/x-www-form-urlencoded"
_MESSAGE_LIMIT = 2000


def check_sha256(secret: Secret, signed: bytes, claimed: str, header: str) -> None:
    """BadSignature unless `claimed` is the hex HMAC-SHA256 of the bytes, in constant time."""
    key = secret_bytes(secret)
    if not claimed:
        raise BadSignature(f"{header} is missing or empty: set a secret for the webhook")
    expected = hmac.digest(key, signed, "sha256").hex()
    if not hmac.compare_digest(expected.encode(), claimed.strip().lower().encode("utf-8", "replace")):
        raise BadSignature(f"{header} does not match: the webhook's secret is not the project's")


def check_prefixed_sha256(secret: Secret, signed: bytes, claimed: str, header: str) -> None:
    """As `check_sha256`, for `sha256=<hex>`."""
    method, _, digest = claimed.partition("=")
    if claimed and method != "sha256":
        raise BadSignature(f"{header}: only sha256 signatures are taken, got {method[:20]!r}")
    check_sha256(secret, signed, digest, header)


def secret_bytes(secret: Secret) -> bytes:
    """The key; BadSignature when there is none, so that nothing is ever signed with an empty one."""
    key = secret.reveal().encode()
    if not key:
        raise BadSignature("the project has no webhook secret: set one, then set it at the forge")
    return key


def check_time(stamp: str, now: float, header: str) -> None:
    """BadSignature unless the epoch seconds in `stamp` are close to now."""
    if not (stamp.isascii() and stamp.isdecimal() and len(stamp) < 12):
        raise BadSignature(f"{header} is missing or no time in epoch seconds")
    if abs(now - int(stamp)) > WINDOW_S:
        raise BadSignature(f"{header} is more than {WINDOW_S:.0f} s from our time: check both clocks")


def is_form(delivery: Delivery) -> bool:
    return delivery.headers.get("content-type", "").partition(";")[0].strip().lower() == _FORM


def form_payload(body: bytes) -> bytes:
    """The JSON that a form carries in its field `payload`."""
    try:
        fields = parse_qs(body.decode("ascii"), strict_parsing=True, max_num_fields=4)
    except ValueError as error:
        raise UserError("the form cannot be read") from error
    return fields.get("payload", [""])[0].encode()


def parse(payload: bytes) -> Fields:
    """The JSON object of a body that was believed; UserError for anything else."""
    try:
        value = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise UserError("the body is no JSON") from error
    if not isinstance(value, dict):
        raise UserError("the body is no JSON object")
    return Fields(value)


def digest(body: bytes) -> str:
    """The id of a delivery that has none."""
    return hashlib.sha256(body).hexdigest()


class Fields:
    """Typed look-ups in a payload. A field of the wrong type is as good as missing."""

    def __init__(self, value: Mapping[str, Any]) -> None:
        self._value = value

    def any(self, *path: str | int) -> Any:
        """The value at a path, None when there is none."""
        value: Any = self._value
        for key in path:
            if isinstance(value, dict) and isinstance(key, str):
                value = value.get(key)
            elif isinstance(value, list) and isinstance(key, int) and -len(value) <= key < len(value):
                value = value[key]
            else:
                return None
        return value

    def text(self, *path: str | int) -> str:
        """The text at a path, else an empty one."""
        value = self.any(*path)
        return value if isinstance(value, str) else ""

    def need(self, *path: str | int) -> str:
        """The text at a path; UserError when there is none."""
        text = self.text(*path)
        if not text:
            raise UserError(f"the payload has no {'.'.join(map(str, path))}")
        return text

    def number(self, *path: str | int) -> int:
        """The number of a pull request at a path; UserError when there is none."""
        value = self.any(*path)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < NUMBERS:
            raise UserError(f"the payload has no number {'.'.join(map(str, path))}")
        return value

    def within(self, *path: str | int) -> Fields:
        """The object at a path, else an empty one."""
        value = self.any(*path)
        return Fields(value if isinstance(value, dict) else {})

    def each(self, *path: str | int) -> list[Fields]:
        """The objects in the list at a path."""
        value = self.any(*path)
        return [Fields(item) for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def message_of(text: str) -> str:
    """A commit message short enough to keep."""
    return text.strip()[:_MESSAGE_LIMIT]


def commit_message(commits: list[Fields], sha: str) -> str:
    """The message of the commit with that id, in whichever order the forge lists them."""
    return next((commit.text("message") for commit in commits if commit.text("id") == sha), "")


def ref_name(ref: str) -> tuple[TriggerKind, str] | None:
    """Branch or tag of a full ref; None for other refs, UserError for a name that git would not take."""
    for prefix, kind in (("refs/heads/", TriggerKind.PUSH), ("refs/tags/", TriggerKind.TAG)):
        if ref.startswith(prefix):
            name = ref.removeprefix(prefix)
            refusal = ref_refusal(name)
            if refusal is not None:
                raise UserError(refusal)
            return kind, name
    return None


def other_ref(ref: str) -> Ignored:
    if not ref.startswith("refs/"):
        raise UserError(f"{ref[:80]!r} is no full ref such as refs/heads/main")
    return Ignored(f"{ref[:200]} is neither a branch nor a tag")


def gone(forge: str, repository: str, kind: TriggerKind, name: str) -> Ignored:
    """A branch or tag that was deleted; the branch's runs are to end."""
    word = "tag" if kind is TriggerKind.TAG else "branch"
    branch = "" if kind is TriggerKind.TAG else name
    lane = Trigger(kind, forge, repository, ZERO_SHA, branch=branch).lane
    return Ignored(f"the {word} {name[:200]} was deleted", ended_lane=lane)


def closed(forge: str, repository: str, number: int, how: str, happened_at: float) -> Ignored:
    """A pull request that was merged or declined; its runs are to end."""
    lane = Trigger(TriggerKind.PULL_REQUEST, forge, repository, ZERO_SHA, number=number).lane
    return Ignored(f"pull request {number} was {how}", ended_lane=lane, happened_at=happened_at)


def moment(text: str) -> float:
    """Epoch seconds of a time as forges write it, UTC where it names no zone; 0 where it is none."""
    try:
        told = datetime.fromisoformat(text.replace(" UTC", "+00:00"))
    except ValueError:
        return 0.0
    return (told if told.tzinfo is not None else told.replace(tzinfo=UTC)).timestamp()
