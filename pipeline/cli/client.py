"""Calls of the API. What goes wrong ends the command with a message and the right exit status."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from pipeline.cli.output import FAILED, REFUSED, UNREACHABLE, Complaint

if TYPE_CHECKING:
    import httpx

    from pipeline.settings import Settings

Json = dict[str, Any]
TIMEOUT_S = 30.0
#: A stream that breaks off is taken up again so often, and so far apart in seconds.
RECONNECTS = 10
RECONNECT_S = 1.0
PAGE = 200
#: What to do about an error whose own words do not say it.
NEXT = {
    "unauthenticated": "the token does not fit: is another deployment answering at this address?",
    "internal": "see api.log in the deployment's log directory",
    "transient": "try again; `greenroom doctor` says more",
}


@dataclass(frozen=True)
class Message:
    """One server-sent event."""

    id: str
    event: str
    data: Json | str


def segment(name: str) -> str:
    """A name as one part of a path."""
    return quote(name, safe="")


class Client:
    """The API of one deployment."""

    def __init__(self, url: str, token: str, transport: httpx.BaseTransport | None = None) -> None:
        self.url = url
        self._token = token
        self._transport = transport

    @cached_property
    def _http(self) -> httpx.Client:
        import httpx

        # Loopback is never reached through a proxy.
        return httpx.Client(
            base_url=self.url,
            headers={"authorization": f"Bearer {self._token}"},
            timeout=TIMEOUT_S,
            trust_env=False,
            transport=self._transport,
        )

    def get(self, path: str, **params: str | int) -> Any:
        return self._call("GET", path, params=params).json()

    def get_within(self, path: str, seconds: float) -> Any:
        """What may take longer than anything else."""
        return self._call("GET", path, timeout=seconds).json()

    def post(self, path: str, body: Mapping[str, object] | None = None) -> Any:
        return self._call("POST", path, json=dict(body or {})).json()

    def patch(self, path: str, body: Mapping[str, object]) -> Any:
        return self._call("PATCH", path, json=dict(body)).json()

    def put(self, path: str, body: Mapping[str, object]) -> Any:
        return self._call("PUT", path, json=dict(body)).json()

    def delete(self, path: str, **params: str | int) -> Any:
        return self._call("DELETE", path, params=params).json()

    def text(self, path: str, accept: str = "*/*", **params: str) -> str:
        return self._call("GET", path, params=params, headers={"accept": accept}).text

    def items(self, path: str, limit: int, **params: str) -> list[Json]:
        """The first `limit` entries of a list, over as many pages as it takes."""
        found: list[Json] = []
        while len(found) < limit:
            page = self.get(path, limit=min(PAGE, limit - len(found)), offset=len(found), **params)
            found += page["items"]
            if page["next"] is None:
                break
        return found

    def find(self, path: str) -> Any | None:
        """An object, or None when there is none."""
        answer = self._send("GET", path)
        return None if answer.status_code == 404 else self._checked(answer).json()

    def stream(self, path: str, position: str, end: str) -> Iterator[Message]:
        """Server-sent events up to the one named `end`; a broken one goes on at `?{position}=<last id>`."""
        import httpx

        last, broken = "", 0
        while True:
            fault: Exception = EOFError("the stream ended early")
            try:
                for message in self._events(path, {position: last} if last else {}):
                    last, broken = message.id or last, 0
                    yield message
                    if message.event == end:
                        return
            except httpx.TransportError as error:
                fault = error
            broken += 1
            if broken > RECONNECTS:
                raise self._unreachable(fault) from fault
            time.sleep(RECONNECT_S)

    def _events(self, path: str, params: Mapping[str, str]) -> Iterator[Message]:
        with self._http.stream("GET", path, params=dict(params), timeout=httpx_timeout()) as answer:
            if answer.is_error:
                answer.read()
                self._checked(answer)
            fields: dict[str, str] = {}
            for line in answer.iter_lines():
                if line:
                    name, _, value = line.partition(":")
                    fields[name] = value.removeprefix(" ")
                elif fields:
                    yield Message(fields.get("id", ""), fields.get("event", ""), json.loads(fields.get("data", "{}")))
                    fields = {}

    def _call(self, method: str, path: str, **request: Any) -> httpx.Response:
        return self._checked(self._send(method, path, **request))

    def _send(self, method: str, path: str, **request: Any) -> httpx.Response:
        import httpx

        try:
            return self._http.request(method, path, **request)
        except httpx.TransportError as error:
            raise self._unreachable(error) from error

    def _unreachable(self, error: Exception) -> Complaint:
        import httpx

        if isinstance(error, httpx.ReadTimeout):
            return Complaint(
                f"{self.url} took too long to answer; see api.log in the deployment's log directory", FAILED
            )
        reason = str(error) or type(error).__name__
        return Complaint(f"nothing answers at {self.url} ({reason}); `greenroom up` starts it", UNREACHABLE)

    def _checked(self, answer: httpx.Response) -> httpx.Response:
        if not answer.is_error:
            return answer
        try:
            problem = answer.json()
        except ValueError as error:
            raise Complaint(
                f"{self.url} answered {answer.status_code}: is that Greenroom's API?", UNREACHABLE
            ) from error
        hint = _next_step(problem)
        text = problem.get("detail") or answer.reason_phrase
        raise Complaint(f"{text}{f' ({hint})' if hint else ''}", REFUSED if answer.is_client_error else FAILED)


def _next_step(problem: Json) -> str:
    """What to do about it, where its own words do not say so."""
    if "guard" not in problem:
        return NEXT.get(problem.get("type", ""), "")
    from pipeline.domain.guards import GUARDS

    firm = any(guard.firm for guard in GUARDS if guard.name == problem["guard"])
    return "" if firm else f"`--override {problem['guard']}=REASON` passes it all the same"


def httpx_timeout() -> httpx.Timeout:
    """Streams may be silent for as long as they like."""
    import httpx

    return httpx.Timeout(TIMEOUT_S, read=None)


def connect(settings: Settings | None = None) -> Client:
    """A client of this machine's deployment; the command ends when it has no token yet."""
    from pipeline.cli import deployment

    known = settings or deployment.settings()
    up = deployment.running(known)
    url = up.api if up else f"http://{known.api_bind}"
    try:
        token = known.token_file.read_text().strip()
    except FileNotFoundError as error:
        raise Complaint(f"there is no token in {known.token_file}; `greenroom up` makes it", UNREACHABLE) from error
    except PermissionError as error:
        raise Complaint(f"{known.token_file} belongs to another user; ask that one", REFUSED) from error
    return Client(url, token)
