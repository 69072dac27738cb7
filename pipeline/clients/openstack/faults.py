"""What an error of OpenStack means for whoever called."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.domain.errors import CapacityError, InfraError, PermanentError, TransientError

#: Statuses with which Nova, Neutron and Glance say that there is no room, and words of theirs that tell it from others.
_REFUSED = frozenset({400, 403, 409, 413})
_FULL = (
    "quota", "exceed", "overlimit", "no more ip addresses", "no more available ip", "no fixed ip addresses",
    # an address that was asked for by itself: another environment of the same blueprint may have it
    "already allocated",
    # a zone in which no machine takes servers now; one that the cloud does not have is never asked for
    "availability zone is not available",
)  # fmt: skip
#: Words of Nova's for a quota that was full when it built a server, which is ERROR then: it looks at quotas twice.
_FULL_FAULTS = ("quota exceeded", "number of ports exceeded", "no more ip addresses", "no fixed ip addresses")
#: Whoever asks is not who the entry says, or not any more: a wrong password, an application credential that ended.
_UNKNOWN_ACCOUNT = 401
#: What to do about an account that is not known any more.
CORRECT = "correct the account in its entry, or renew what has expired"
#: The account is known, and may not do that.
_NOT_ALLOWED = 403
#: Statuses of Nova, Neutron and Glance for an id that they do not know, or not any more.
_STALE = frozenset({400, 404})
#: May pass by itself. 409: something is still in use, or changes just now.
_PASSING = frozenset({408, 409, 423, 425, 429, 500, 502, 503, 504})
#: The most that a cloud may ask us to wait, in seconds.
MOST_WAIT_S = 600.0


@contextmanager
def told(what: str) -> Iterator[None]:
    """Raise what OpenStack's errors mean in Greenroom's words; `what` says which act on which object failed."""
    from keystoneauth1.exceptions import ClientException
    from openstack.exceptions import SDKException
    from requests.exceptions import RequestException

    try:
        yield
    except (SDKException, ClientException, RequestException) as error:
        raise meant(what, error) from error


def meant(what: str, error: Exception) -> InfraError:
    """The InfraError for an error of openstacksdk, keystoneauth or requests.

    After a timeout the act may have happened: it is a TransientError, and whoever tries again looks first.
    """
    text = f"{what}: {str(error)[:500]}"
    if _untrusted(error):
        return PermanentError(f"{text}; where its authority is a private one, name that in `cacert` of the entry")
    status = getattr(error, "status_code", None) or getattr(error, "http_status", None)
    if status == _UNKNOWN_ACCOUNT:
        return PermanentError(f"{text}; {CORRECT}")
    if status in _REFUSED and any(word in str(error).lower() for word in _FULL):
        return CapacityError(text)
    if status == _NOT_ALLOWED:
        return PermanentError(f"{text}; have the account given that right, or name one in the settings that has it")
    if status in _PASSING:
        return TransientError(text, retry_after_s=_retry_after(error))
    if _not_offered(error):
        return PermanentError(f"{text}; correct `region_name` of the entry, or have the service set up there")
    return TransientError(text) if status is None and _silent(error) else PermanentError(text)


def is_full(fault: str) -> bool:
    """Whether a server's fault is no more than a quota that was full."""
    return any(words in fault.lower() for words in _FULL_FAULTS)


def may_be_stale(error: PermanentError) -> bool:
    """Whether it may be no more than that something was looked up before it was replaced: nothing of that name or size
    was seen then, or the cloud does not know an id.
    """
    return error.__cause__ is None or getattr(error.__cause__, "status_code", None) in _STALE


def _silent(error: Exception) -> bool:
    """Whether nobody answered, not to the end, or not within the time that was waited for it."""
    from keystoneauth1.exceptions import DiscoveryFailure, RetriableConnectionFailure, UnknownConnectionError
    from openstack.exceptions import ResourceTimeout
    from requests.exceptions import ChunkedEncodingError, JSONDecodeError

    if isinstance(error, UnknownConnectionError):  # keystoneauth keeps in it what requests said
        return isinstance(error.original, ChunkedEncodingError)
    return isinstance(error, RetriableConnectionFailure | DiscoveryFailure | JSONDecodeError | ResourceTimeout)


def _not_offered(error: Exception) -> bool:
    """Whether the cloud's catalog has no such service in the region."""
    from openstack.exceptions import ServiceDisabledException

    return isinstance(error, ServiceDisabledException)


def _untrusted(error: Exception) -> bool:
    """Whether a certificate is not trusted; a look for versions fails with another error, in whose context that is."""
    from keystoneauth1.exceptions import SSLError

    return isinstance(error, SSLError) or isinstance(error.__context__, SSLError)


def whole(what: str, told_of: object) -> str:
    """A part of an answer that no whole one lacks; openstacksdk passes over an answer that is no JSON.

    TransientError when it is missing: the act happened, and whoever tries again finds what came of it.
    """
    if not told_of:
        raise TransientError(f"{what}: the cloud answered with something that it did not finish")
    return str(told_of)


def _retry_after(error: Exception) -> float:
    """How long the cloud asks to be left alone, in seconds."""
    headers = getattr(getattr(error, "response", None), "headers", {})
    said = str(headers.get("Retry-After", ""))
    return min(MOST_WAIT_S, float(said)) if said.isascii() and said.isdecimal() else 0.0
