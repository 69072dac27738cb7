"""A forge's API that keeps the comments of one pull request: no. 12 of `group/shop`, for who brings `tok-123`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs


@dataclass
class Comments:
    """The comments of pull request 12 as the API of forge `name` keeps them; whoever brings another token gets 401.

    `lost`: the next so many comments are written, and not answered. `asked` are the requests, without their bodies.
    `statuses` are those of commits.
    """

    name: str
    url: str = ""
    texts: dict[int, str] = field(default_factory=dict)
    lost: int = 0
    asked: list[str] = field(default_factory=list)
    statuses: list[Mapping[str, Any]] = field(default_factory=list)

    def answer(self, method: str, target: str, headers: Message, body: bytes) -> tuple[int, Any]:
        every, _, change, (header, token) = PLACES[self.name]
        path, _, query = target.partition("?")
        self.asked.append(f"{method} {path}")
        if headers.get(header) != token:
            return 401, {"message": "no"}
        if (method, path) == ("GET", every):
            return 200, self._page(parse_qs(query))
        if (method, path) == ("POST", every):
            return 201, self._set(len(self.texts) + 1, body)
        if method == "POST" and "/statuses/" in path:
            self.statuses.append(json.loads(body))
            return 201, {}
        id = self._named(path)
        return (200, self._set(id, body)) if method == change and id else (404, {"message": "no such thing"})

    def _named(self, path: str) -> int:
        return next((id for id in self.texts if path == PLACES[self.name][1].format(id)), 0)

    def _page(self, query: Mapping[str, list[str]]) -> Any:
        """Gitea tells all of them, whatever page is asked for."""
        size = int(query.get("per_page", query.get("pagelen", ["1000"]))[0])
        first = 0 if self.name == "gitea" else size * (int(query["page"][0]) - 1)
        page = [self._shown(id) for id in sorted(self.texts)][first : first + size]
        return {"values": page} if self.name == "bitbucket" else page

    def _set(self, id: int, body: bytes) -> Mapping[str, Any]:
        sent = json.loads(body)
        self.texts[id] = sent["content"]["raw"] if self.name == "bitbucket" else sent["body"]
        return self._shown(id)

    def _shown(self, id: int) -> Mapping[str, Any]:
        text = self.texts[id]
        return {"id": id, "content": {"raw": text}} if self.name == "bitbucket" else {"id": id, "body": text}


#: Where each forge has the comments and one of them, the method that changes one, and the header with the token.
PLACES: Mapping[str, tuple[str, str, str, tuple[str, str]]] = {
    "github": (
        "/repos/group/shop/issues/12/comments",
        "/repos/group/shop/issues/comments/{}",
        "PATCH",
        ("authorization", "Bearer tok-123"),
    ),
    "gitlab": (
        "/api/v4/projects/group%2Fshop/merge_requests/12/notes",
        "/api/v4/projects/group%2Fshop/merge_requests/12/notes/{}",
        "PUT",
        ("private-token", "tok-123"),
    ),
    "gitea": (
        "/api/v1/repos/group/shop/issues/12/comments",
        "/api/v1/repos/group/shop/issues/comments/{}",
        "PATCH",
        ("authorization", "token tok-123"),
    ),
    "bitbucket": (
        "/2.0/repositories/group/shop/pullrequests/12/comments",
        "/2.0/repositories/group/shop/pullrequests/12/comments/{}",
        "PUT",
        ("authorization", "Bearer tok-123"),
    ),
}


def server_of(kept: Comments) -> ThreadingHTTPServer:
    """A server of it, which nobody serves yet."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            sent = self.rfile.read(int(self.headers.get("content-length", 0)))
            code, answer = kept.answer(self.command, self.path, self.headers, sent)
            if code == 201 and kept.lost:
                kept.lost -= 1
                self.close_connection = True
                return
            body = json.dumps(answer).encode()
            self.send_response(code)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            self.do_GET()

        def do_PATCH(self) -> None:
            self.do_GET()

        def do_PUT(self) -> None:
            self.do_GET()

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing on stderr."""

    return ThreadingHTTPServer(("127.0.0.1", 0), Handler)
