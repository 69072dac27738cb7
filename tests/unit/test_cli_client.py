"""The client of the API, against a transport that answers only what it was told."""

from __future__ import annotations

from collections.abc import Sequence

import httpx
import pytest

from pipeline.cli import client as module
from pipeline.cli import targets
from pipeline.cli.client import Client
from pipeline.cli.output import FAILED, REFUSED, UNREACHABLE, USAGE, Complaint

Answer = httpx.Response | Exception


class Script(httpx.BaseTransport):
    """Gives prepared answers, one a request, and notes what was asked."""

    def __init__(self, *answers: Answer) -> None:
        self._answers = list(answers)
        self.asked: list[str] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(f"{request.method} {request.url.raw_path.decode()}")
        assert request.headers["authorization"] == "Bearer secret"
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def client(script: Script) -> Client:
    return Client("http://service", "secret", script)


def events(*pairs: tuple[str, str]) -> httpx.Response:
    text = "".join(f'id: {id}\nevent: {event}\ndata: {{"at": 1}}\n\n' for id, event in pairs)
    return httpx.Response(200, text=text)


def problem(status: int, type: str, detail: str, **more: str) -> httpx.Response:
    return httpx.Response(status, json={"type": type, "title": "x", "status": status, "detail": detail, **more})


@pytest.mark.parametrize(
    ("answer", "status", "words"),
    [
        (problem(404, "not-found", "there is no run x"), REFUSED, "there is no run x"),
        (problem(409, "invalid-transition", "not held"), REFUSED, "not held"),
        (problem(401, "unauthenticated", "send a token"), REFUSED, "another deployment"),
        (problem(500, "internal", "a mistake"), FAILED, "api.log"),
        (httpx.Response(502, text="<html>"), UNREACHABLE, "is that Greenroom's API"),
        (httpx.ConnectError("refused"), UNREACHABLE, "greenroom up"),
        (httpx.ReadTimeout("timed out"), FAILED, "took too long to answer; see api.log"),
    ],
)
def test_what_goes_wrong_has_its_exit_status_and_a_next_step(answer: Answer, status: int, words: str) -> None:
    with pytest.raises(Complaint, match=words) as ended:
        client(Script(answer)).get("/v1/runs/x")
    assert ended.value.status == status


@pytest.mark.parametrize(("guard", "passes"), [("traffic", True), ("ownership", False)])
def test_a_refusal_says_how_the_guard_may_be_passed_if_it_may(guard: str, *, passes: bool) -> None:
    refused = problem(409, "guard-refused", f"refused by guard {guard}", guard=guard)
    with pytest.raises(Complaint) as ended:
        client(Script(refused)).get("/v1/runs/x")
    assert (f"`--override {guard}=REASON` passes it all the same" in str(ended.value)) is passes


def test_a_list_is_read_over_its_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAGE", 2)
    script = Script(
        httpx.Response(200, json={"items": [{"n": 1}, {"n": 2}], "next": 2}),
        httpx.Response(200, json={"items": [{"n": 3}], "next": None}),
    )
    assert [one["n"] for one in client(script).items("/v1/runs", 5, project="shop")] == [1, 2, 3]
    assert script.asked == ["GET /v1/runs?limit=2&offset=0&project=shop", "GET /v1/runs?limit=2&offset=2&project=shop"]


def test_a_broken_stream_is_taken_up_where_it_broke(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RECONNECT_S", 0)
    script = Script(events(("1", "a"), ("2", "b")), httpx.ReadError("gone"), events(("3", "end"), ("4", "late")))
    seen = [message.event for message in client(script).stream("/v1/events", "after", "end")]
    assert seen == ["a", "b", "end"]
    assert script.asked == ["GET /v1/events", "GET /v1/events?after=2", "GET /v1/events?after=2"]


def test_a_stream_that_stays_broken_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RECONNECT_S", 0)
    script = Script(*[httpx.ReadError("gone")] * (module.RECONNECTS + 1))
    with pytest.raises(Complaint) as ended:
        list(client(script).stream("/v1/events", "after", "end"))
    assert ended.value.status == UNREACHABLE


def test_a_stream_of_something_that_is_not_there_is_refused() -> None:
    with pytest.raises(Complaint, match="no such log") as ended:
        list(client(Script(problem(404, "not-found", "no such log"))).stream("/v1/x", "offset", "end"))
    assert ended.value.status == REFUSED


def page(*ids: str) -> httpx.Response:
    return httpx.Response(200, json={"items": [{"id": id} for id in ids], "next": None})


def test_a_run_may_be_abbreviated() -> None:
    missing = problem(404, "not-found", "there is none")
    assert targets.run_id(client(Script(page("run-b"))), "last") == "run-b"
    assert targets.run_id(client(Script(httpx.Response(200, json={"id": "run-a"}))), "run-a") == "run-a"
    script = Script(missing, page("run-b1", "run-a2"))
    assert targets.run_id(client(script), "a2") == "run-a2"


@pytest.mark.parametrize(
    ("text", "answers", "words"),
    [
        ("last", [page()], "no run yet"),
        ("b", [problem(404, "not-found", "none"), page("run-b1", "run-b2")], "run-b1, run-b2: say more"),
        ("../runs", [problem(404, "not-found", "none"), page("run-b1")], "there is no run"),
    ],
)
def test_an_unclear_run_is_refused(text: str, answers: Sequence[Answer], words: str) -> None:
    with pytest.raises(Complaint, match=words) as ended:
        targets.run_id(client(Script(*answers)), text)
    assert ended.value.status == REFUSED


def projects(*pairs: tuple[str, str]) -> httpx.Response:
    return httpx.Response(200, json=[{"name": name, "repository": repository} for name, repository in pairs])


def test_the_project_is_found_by_its_repository() -> None:
    answer = projects(("shop", "/srv/shop.git"), ("blog", "/srv/blog.git"))
    assert targets.project_of(client(Script(answer)), "", "/srv/blog.git") == "blog"
    assert targets.project_of(client(Script(projects(("shop", "")))), "", "/srv/other.git") == "shop"
    assert targets.project_of(client(Script()), "named", "") == "named"


@pytest.mark.parametrize(("answer", "status"), [(projects(), REFUSED), (projects(("shop", ""), ("blog", "")), USAGE)])
def test_an_unclear_project_is_asked_for(answer: httpx.Response, status: int) -> None:
    with pytest.raises(Complaint) as ended:
        targets.project_of(client(Script(answer)), "", "")
    assert ended.value.status == status
