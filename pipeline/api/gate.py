"""The gate before the API: nothing of a request is read before its sender showed the token."""

from __future__ import annotations

import hmac

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipeline.api import problems
from pipeline.domain.errors import GreenroomError, TooLarge, Unauthenticated
from pipeline.ports.common import Secret

#: Open to everybody: health, and hooks, which are signed and have a limit of their own.
OPEN = ("/healthz", "/readyz")
HOOKS = "/v1/hooks/"
#: Bytes of one request's body.
LIMIT_BYTES = 1024 * 1024


class Gate:
    """Refuses callers without the token and bodies that are too large, for every route but those that are open."""

    def __init__(self, app: ASGIApp, token: Secret, token_file: str) -> None:
        self._app = app
        self._token = token.reveal().encode()
        self._token_file = token_file

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in OPEN or scope["path"].startswith(HOOKS):
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(Headers(scope=scope))
        if refusal is not None:
            await problems.problem(refusal.status, refusal.code, str(refusal))(scope, receive, send)
            return
        await self._app(scope, _bounded(receive), send)

    def _refusal(self, headers: Headers) -> GreenroomError | None:
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(given.encode(), self._token):
            return Unauthenticated(f"send `Authorization: Bearer …` with the token in {self._token_file}")
        announced = headers.get("content-length", "0")
        if len(announced) > 12 or not announced.isdecimal() or int(announced) > LIMIT_BYTES:
            return TooLarge(f"a request has at most {LIMIT_BYTES} bytes")
        return None


def _bounded(receive: Receive) -> Receive:
    """The same messages, up to the limit; a body may be sent without its length being announced."""
    taken = 0

    async def bounded() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > LIMIT_BYTES:
            raise HTTPException(413, f"a request has at most {LIMIT_BYTES} bytes")
        return message

    return bounded
