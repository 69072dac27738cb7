"""Posts commit statuses to the forges' APIs. httpx is imported at the first call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlsplit

from pipeline.domain.errors import PermanentError, TransientError
from pipeline.domain.texts import cut
from pipeline.ports.common import Secret

TIMEOUT_S = 15.0
#: What all forges take; longer texts are refused by some.
DESCRIPTION_LIMIT = 140
_TOLD = 300


def with_root(api_url: str, root: str, *parts: str) -> str:
    """The address of an API path; `root` (such as `/api/v4`) is added unless `api_url` ends with it already.

    PermanentError when `api_url` is no http address, or a part would lead elsewhere.
    """
    base = api_url.rstrip("/")
    if urlsplit(base).scheme not in ("http", "https") or not urlsplit(base).hostname:
        raise PermanentError(f"{api_url!r} is no address of a forge's API; set the project's API address")
    if any(step in ("", ".", "..") for part in parts for step in part.split("/")):
        raise PermanentError(f"{'/'.join(parts)} is no path of a forge's API")
    return "/".join([base if base.endswith(root) else base + root, *(quote(part, safe="") for part in parts)])


def shortened(description: str) -> str:
    """A description that every forge takes."""
    return cut(description, DESCRIPTION_LIMIT)


def post_status(
    url: str, body: Mapping[str, Any], token: Secret, headers: Mapping[str, str], *, done_already: str = ""
) -> None:
    """Post once. `done_already` is the text of a refusal which says that the status stands as wanted.

    Errors: TransientError (no answer, 429, 5xx, rate limit), PermanentError (any other refusal).
    """
    import httpx

    if not (token.reveal().isascii() and token.reveal().isprintable()):
        # The HTTP library would quote such a header, token and all, in its own error.
        raise PermanentError("the project's token has characters that no token has; set it again")
    try:
        response = httpx.post(url, json=dict(body), headers=dict(headers), timeout=TIMEOUT_S, follow_redirects=False)
    except (httpx.TransportError, OSError) as error:
        raise TransientError(f"{_shown(url)} did not answer: {type(error).__name__}; the status comes later") from error
    except httpx.InvalidURL as error:
        raise PermanentError(f"{_shown(url)} is no address: set the project's API address") from error
    if not response.is_success:
        _refuse(response.status_code, response.headers, response.text, url, token, done_already)


def _refuse(code: int, headers: Mapping[str, str], text: str, url: str, token: Secret, done_already: str) -> None:
    if done_already and code == 400 and done_already in text:
        return
    told = text[:_TOLD].replace(token.reveal() or "\0", "***")
    message = f"{_shown(url)} answered {code}: {told}"
    if code in (408, 425, 429) or code >= 500 or _rate_limited(code, headers):
        raise TransientError(message)
    raise PermanentError(f"{message}; {_remedy(code)}")


def _rate_limited(code: int, headers: Mapping[str, str]) -> bool:
    """GitHub says 403 for its rate limits, too."""
    return code == 403 and (headers.get("x-ratelimit-remaining") == "0" or "retry-after" in headers)


def _remedy(code: int) -> str:
    if code in (401, 403):
        return "check the project's token: it needs the right to write commit statuses"
    if code == 404:
        return "check the repository's name, and that the token can see it"
    return "check the project's API address" if 300 <= code < 400 else "the forge does not take this status"


def _shown(url: str) -> str:
    parts = urlsplit(url)
    return f"POST {parts.scheme}://{parts.hostname}{parts.path}"
