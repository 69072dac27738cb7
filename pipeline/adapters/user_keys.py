"""`UserKeys` over HTTPS, as GitHub, GitLab, Gitea and Forgejo show them."""

from __future__ import annotations

import ssl
import time
from typing import TYPE_CHECKING

from pipeline.domain.errors import NotFound, TransientError, UserError

if TYPE_CHECKING:
    import httpx

#: For each step of a request, and for all of it.
STEP_S, WHOLE_S = 5.0, 10.0
LIMIT_BYTES = 64 * 1024


class HttpsUserKeys:
    """Follows no redirect, sends nothing of ours, and stops reading where an answer is too long or too slow."""

    def __init__(self, trust: ssl.SSLContext | None = None) -> None:
        self._trust = trust

    def of(self, forge: str, user: str) -> str:
        import httpx

        url = f"{forge}/{user}.keys"
        if not url.startswith("https://"):
            raise UserError(f"{url} is not asked: keys are taken over https:// only")
        verify = self._trust or True
        try:
            with httpx.stream("GET", url, timeout=STEP_S, follow_redirects=False, verify=verify) as answer:
                return _text(url, answer)
        except (httpx.TransportError, OSError) as error:
            raise TransientError(
                f"{url} did not answer: {type(error).__name__}; ask again, or send the keys"
            ) from error
        except httpx.InvalidURL as error:
            raise UserError(f"{url} is no address") from error


def _text(url: str, answer: httpx.Response) -> str:
    if answer.status_code == 404:
        raise NotFound(f"{url}: there is no such user")
    if answer.status_code == 429 or answer.status_code >= 500:
        raise TransientError(f"{url} answered {answer.status_code}; ask again, or send the keys")
    if answer.status_code != 200:
        raise UserError(f"{url} answered {answer.status_code}; send the keys instead")
    until, read = time.monotonic() + WHOLE_S, bytearray()
    for piece in answer.iter_bytes(8192):
        read += piece
        if len(read) > LIMIT_BYTES:
            raise UserError(f"{url} is longer than {LIMIT_BYTES} bytes; send the keys instead")
        if time.monotonic() > until:
            raise TransientError(f"{url} took longer than {WHOLE_S:g} s; ask again, or send the keys")
    return read.decode("ascii", "replace")
