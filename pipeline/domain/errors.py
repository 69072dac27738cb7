"""Every error of Greenroom, sorted by who is at fault and what may be done about it.

GreenroomError                  .code is the metric label and the problem+json type
  UserError                     4xx, never retried
    InvalidFile                 a file of a person is wrong; carries one Finding a mistake
      InvalidBlueprint          greenroom.yml
      InvalidInventory          inventory.yml
    BadSignature                401
    Unauthenticated             401
    NotFound                    404
    AlreadyExists               409
    Unreachable                 422: a machine that is to be registered does not let the service in
    HostKeyUnknown              409: a machine shows a host key that nobody confirmed
    NotSupported                409: what the object stands on cannot do this
    KeyReused                   422: the name of one request on another one
    OverQuota                   409: more than the project may have
    TooLarge                    413
  InvalidTransition             409: the object is not in a state that allows the act
    StaleAttempt                a worker that lost its attempt tried to write
    VersionConflict             the document changed since it was read
    Fenced                      a leader that lost its office tried to write
  GuardRefused                  409: which guard, why, and what would have to change
  StageFailed                   the product under test failed: expected, never retried
  InfraError
    TransientError              may be retried, as failsafe decides
      CallsPaused               the provider is not called before a time
    CapacityError               wait: full or over quota; not a failure
    PermanentError              never retried: bad credentials, missing image
"""

from __future__ import annotations

from dataclasses import dataclass


class GreenroomError(Exception):
    """Base of all; `code` is stable, `str()` says what happened, to what, and what to do next."""

    code = "internal"
    status = 500


class UserError(GreenroomError):
    """The request is wrong; the same request will be wrong again."""

    code = "bad-request"
    status = 400


@dataclass(frozen=True)
class Finding:
    """One mistake in a file: where it is, what was expected there, and the nearest known name."""

    line: int
    column: int
    key: str
    message: str

    def __str__(self) -> str:
        place = f" ({self.key})" if self.key else ""
        return f"line {self.line}, column {self.column}{place}: {self.message}"


class InvalidFile(UserError):
    """A file that cannot be used; `findings` are in the order of the file."""

    status = 422

    def __init__(self, source: str, findings: tuple[Finding, ...]) -> None:
        super().__init__("\n".join(f"{source}: {finding}" for finding in findings))
        self.source = source
        self.findings = findings


class InvalidBlueprint(InvalidFile):
    """A greenroom.yml that cannot be used."""

    code = "invalid-blueprint"


class InvalidInventory(InvalidFile):
    """An inventory.yml that cannot be used."""

    code = "invalid-inventory"


class BadSignature(UserError):
    """A delivery that its sender did not sign with the project's secret."""

    code = "bad-signature"
    status = 401


class Unauthenticated(UserError):
    """A call without a valid token."""

    code = "unauthenticated"
    status = 401


class NotFound(UserError):
    """No object of that name."""

    code = "not-found"
    status = 404


class Unreachable(UserError):
    """A machine does not let the service in; nothing was registered."""

    code = "unreachable"
    status = 422


class HostKeyUnknown(UserError):
    """Nobody said which host key a machine has; `shown` is the one that it shows."""

    code = "host-key-unknown"
    status = 409

    def __init__(self, message: str, shown: str) -> None:
        super().__init__(message)
        self.shown = shown


class AlreadyExists(UserError):
    """An object of that name is there already."""

    code = "already-exists"
    status = 409


class NotSupported(UserError):
    """What the object stands on cannot do this; says what to do instead."""

    code = "not-supported"
    status = 409


class KeyReused(UserError):
    """A request that bears the Idempotency-Key of another one."""

    code = "idempotency-key-reused"
    status = 422


class OverQuota(UserError):
    """More than the project may have together; says what is in use."""

    code = "over-quota"
    status = 409


class TooLarge(UserError):
    """More than Greenroom takes in one piece."""

    code = "too-large"
    status = 413


class InvalidTransition(GreenroomError):
    """The object is not in a state that allows the act."""

    code = "invalid-transition"
    status = 409


class StaleAttempt(InvalidTransition):
    """A worker whose attempt was given to another one tried to write."""

    code = "stale-attempt"


class VersionConflict(InvalidTransition):
    """The document changed since it was read: read it again and decide again."""

    code = "version-conflict"


class Fenced(InvalidTransition):
    """A leader that lost its office tried to write."""

    code = "fenced"


class GuardRefused(GreenroomError):
    """A destructive act that a guard refused; says which, why, and what would have to change.

    `passing`: the same may be allowed later, so whoever was refused may ask again.
    """

    code = "guard-refused"
    status = 409

    def __init__(self, guard: str, why: str, remedy: str, *, passing: bool = False) -> None:
        super().__init__(f"refused by guard {guard}: {why}; {remedy}")
        self.guard = guard
        self.why = why
        self.remedy = remedy
        self.passing = passing


class StageFailed(GreenroomError):
    """The product under test is bad: the run's verdict is `failed`, and nothing is retried."""

    code = "stage-failed"
    status = 422


class InfraError(GreenroomError):
    """Our side or the cloud is bad: the run's verdict is `error` once retries are used up."""

    code = "infrastructure"
    status = 502


class TransientError(InfraError):
    """May pass by itself: timeouts, 429, 5xx, lost SSH. `retry_after_s`: how long whoever failed wants to be alone."""

    code = "transient"
    status = 503

    def __init__(self, message: str, *, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class CallsPaused(TransientError):
    """A call that was not made or not answered, since the provider is left alone until `until` (epoch seconds)."""

    code = "calls-paused"

    def __init__(self, why: str, until: float) -> None:
        super().__init__(why)
        self.until = until


class CapacityError(InfraError):
    """The provider is full or over its quota: wait, it is not a failure."""

    code = "capacity"
    status = 503


class PermanentError(InfraError):
    """Will not pass by itself: bad credentials, a missing image, a missing program."""

    code = "permanent"
