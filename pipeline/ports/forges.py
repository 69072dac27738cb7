"""Forges: who sends deliveries, and where a run's status is reported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from pipeline.domain.pulls import Said
from pipeline.domain.triggers import Ignored, Trigger
from pipeline.ports.common import Secret


@dataclass(frozen=True)
class Delivery:
    """One webhook request as it came; header names in lower case. `now` is the time of its arrival, epoch seconds."""

    headers: Mapping[str, str]
    body: bytes
    now: float


@dataclass(frozen=True)
class Received:
    """A delivery that was believed: its id is unique per forge and project (a digest of the body if there is none)."""

    delivery_id: str
    outcome: Trigger | Ignored


class StatusState(StrEnum):
    PENDING = "pending"
    SUCCESS = "success"
    FAILURE = "failure"
    ERROR = "error"


@dataclass(frozen=True)
class CommitStatus:
    """What a commit's page shows; `context` names us there, `description` is at most 140 characters."""

    slug: str
    sha: str
    state: StatusState
    description: str
    url: str
    context: str = "greenroom"


class Forge(Protocol):
    """One kind of git host. `recognises` and `receive` are pure and fast: intake calls them in its event loop."""

    @property
    def name(self) -> str:
        """`github`, `gitlab`, `gitea`, `bitbucket` or `plain`."""

    def recognises(self, delivery: Delivery) -> bool:
        """Whether the headers are this forge's."""

    def receive(self, delivery: Delivery, secret: Secret) -> Received:
        """Check the signature over the raw bytes, then read.

        Errors: BadSignature (also when the secret is empty), UserError for broken JSON or missing fields.
        """

    def report(self, status: CommitStatus, api_url: str, token: Secret) -> None:
        """Set a commit status; may be repeated. TransientError (again later) or PermanentError (say so, give up)."""

    def comment(self, said: Said, api_url: str, token: Secret) -> str:
        """Write a comment at a pull request, or change the one of its id, or the one that bears its mark; its id.

        May be repeated: while one that bears the mark is found, there is never a second. Errors as those of `report`.
        """
