"""Calls of the forges' APIs. httpx is imported at the first one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlsplit

from pipeline.domain.errors import PermanentError, TransientError
from pipeline.ports.common import Secret

TIMEOUT_S = 15.0
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


def call(
    method: str,
    url: str,
    body: Mapping[str, Any] | None,
    token: Secret,
    headers: Mapping[str, str],
    *,
    done_already: str = "",
    absent: bool = False,
) -> Any:
    """Ask once; the JSON of the answer, None where it has none. `done_already` is the text of a refusal which says that
    all stands as wanted. `absent`: None where there is no such thing (404, 410), too.

    Errors: TransientError (no answer, 429, 5xx, rate limit), PermanentError (any other refusal).
    """
    import httpx

    if not (token.reveal().isascii() and token.reveal().isprintable()):
        # The HTTP library would quote such a header, token and all, in its own error.
        raise PermanentError("the project's token has characters that no token has; set it again")
    content = None if body is None else dict(body)
    shown = f"{method} {_shown(url)}"
    try:
        response = httpx.request(
            method, url, json=content, headers=dict(headers), timeout=TIMEOUT_S, follow_redirects=False
        )
    except (httpx.TransportError, OSError) as error:
        raise TransientError(f"{shown} did not answer: {type(error).__name__}; it is told later") from error
    except httpx.InvalidURL as error:
        raise PermanentError(f"{shown} is no address: set the project's API address") from error
    if absent and response.status_code in (404, 410):
        return None
    if not response.is_success:
        _refuse(response.status_code, response.headers, response.text, shown, token, done_already)
    try:
        return response.json()
    except ValueError:
        return None


def _refuse(code: int, headers: Mapping[str, str], text: str, shown: str, token: Secret, done_already: str) -> None:
    if done_already and code == 400 and done_already in text:
        return
    told = text[:_TOLD].replace(token.reveal() or "\0", "***")
    message = f"{shown} answered {code}: {told}"
    if code in (408, 425, 429) or code >= 500 or _rate_limited(code, headers):
        raise TransientError(message)
    raise PermanentError(f"{message}; {_remedy(code)}")


def _rate_limited(code: int, headers: Mapping[str, str]) -> bool:
    """GitHub says 403 for its rate limits, too."""
    return code == 403 and (headers.get("x-ratelimit-remaining") == "0" or "retry-after" in headers)


def _remedy(code: int) -> str:
    if code in (401, 403):
        return "check the project's token: it needs the right to write commit statuses, and comments of pull requests"
    if code == 404:
        return "check the repository's name, and that the token can see it"
    return "check the project's API address" if 300 <= code < 400 else "the forge does not take this"


def _shown(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}{parts.path}"
