"""What an error of OpenStack means for whoever called."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.domain.errors import CapacityError, InfraError, PermanentError, TransientError

#: Words of Nova and Neutron for a full quota, in a 400, 403, 409 or 413.
_FULL = ("quota", "exceed", "limit reached", "no more ip addresses", "no valid host", "overlimit")
_PASSING = frozenset({408, 409, 423, 425, 429, 500, 502, 503, 504})


@contextmanager
def told(what: str) -> Iterator[None]:
    """Raise what OpenStack's errors mean in Greenroom's words; `what` says which act on which object failed."""
    from keystoneauth1.exceptions import ClientException
    from openstack.exceptions import SDKException

    try:
        yield
    except (SDKException, ClientException) as error:
        raise meant(what, error) from error


def meant(what: str, error: Exception) -> InfraError:
    """The InfraError for an error of openstacksdk or keystoneauth."""
    status = getattr(error, "status_code", None) or getattr(error, "http_status", None)
    text = f"{what}: {str(error)[:500]}"
    if status in {400, 403, 409, 413} and any(word in str(error).lower() for word in _FULL):
        return CapacityError(text)
    if status is None or status in _PASSING:
        return TransientError(text)
    return PermanentError(text)
