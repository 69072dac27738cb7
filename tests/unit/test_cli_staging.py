"""`greenroom staging`: what is asked of the API, what a person and a program read, and the exit status."""

from __future__ import annotations

import json
from contextlib import nullcontext
from typing import Any

import pytest
import typer

from pipeline.cli import stagings as shown
from pipeline.cli.commands import staging
from pipeline.cli.output import Complaint

SLOT = {
    "state": "empty", "environment": "", "number": 0, "ref": "", "sha": "", "fault": "", "passed_at": 0.0,
    "approved_by": "", "drains_until": 0.0, "kept_until": 0.0, "url": "",
}  # fmt: skip
BLUE = {**SLOT, "state": "passed", "ref": "v1", "environment": "env-1", "url": "env-1.test.example"}
IDLE: dict[str, Any] = {
    "name": "front", "activity": "idle", "live": "blue", "idle": "green", "blue": BLUE, "green": SLOT, "wanted": None,
    "lock": None, "spec": {"project": "shop", "domain": "front.test.example"},
}  # fmt: skip
WATCHING = {**IDLE, "activity": "watching"}
LOCKED = {**IDLE, "lock": {"who": "ada", "reason": "the fair"}, "wanted": {"ref": "v3"}}
LINE = {"at": 1.0, "slot": "blue", "number": 3, "ref": "v1", "sha": "1" * 40, "who": "ada", "why": "", "seconds": 0.004}
ONE, HISTORY = "GET /v1/stagings/front", "GET /v1/stagings/front/history"


class Api:
    """Answers what it was told of, in turn and then the last again, and refuses all else."""

    def __init__(self, answers: dict[str, list[Any]]) -> None:
        self._answers = answers
        self.asked: list[tuple[str, Any]] = []

    def _answer(self, what: str, body: Any = None) -> Any:
        self.asked.append((what, body))
        left = self._answers[what]
        return left.pop(0) if len(left) > 1 else left[0]

    def get(self, path: str, **_: Any) -> Any:
        return self._answer(f"GET {path}")

    def put(self, path: str, body: Any) -> Any:
        return self._answer(f"PUT {path}", body)

    def post(self, path: str, body: Any = None) -> Any:
        return self._answer(f"POST {path}", body)


@pytest.fixture
def speak(monkeypatch: pytest.MonkeyPatch) -> Any:
    def with_answers(**answers: list[Any]) -> Api:
        api = Api(answers)
        monkeypatch.setattr("pipeline.cli.client.connect", lambda: api)
        return api

    monkeypatch.setattr(shown, "LOOK_S", 0.0)
    monkeypatch.setattr("pipeline.cli.environments.person", lambda: "ada")
    monkeypatch.setattr("pipeline.cli.targets.project_of", lambda *_: "shop")
    return with_answers


def test_what_is_wanted_is_sent_and_shown(speak: Any, capsys: pytest.CaptureFixture[str]) -> None:
    api = speak(**{"PUT /v1/stagings/front": [IDLE]})
    staging.put("front", role="web", port=8080, check=["web=./smoke -x"], keep="2h")
    ((_, body),) = api.asked
    assert (body["project"], body["role"], body["port"], body["keep"]) == ("shop", "web", 8080, "2h")
    assert body["checks"] == [{"role": "web", "run": "./smoke -x"}]
    told = capsys.readouterr().out
    assert "front of project shop at front.test.example: idle" in told
    assert "blue (live)" in told
    assert "env-1.test.example" in told


def test_open_tells_the_url_and_what_dns_has_to_name(speak: Any, capsys: pytest.CaptureFixture[str]) -> None:
    address = {"host": "front.test", "url": "http://front.test:8080/", "ip": "203.0.113.7", "up": 1, "targets": 1}
    speak(**{"GET /v1/stagings/front/address": [address]})
    staging.open_("front")
    url, dns = capsys.readouterr().out.splitlines()
    assert url == "http://front.test:8080/"
    assert dns == "front.test has the address 203.0.113.7: a DNS record has to name it"


@pytest.mark.parametrize("text", ["./smoke", "web=", "=./smoke"])
def test_a_check_without_role_or_command_is_refused(speak: Any, text: str) -> None:
    speak()
    with pytest.raises(Complaint, match="ROLE=COMMAND"):
        staging.put("front", role="web", port=8080, check=[text])


@pytest.mark.parametrize(("last", "status"), [("stays", 0), ("went back", 1), ("bad", 1), ("not switched", 1)])
def test_a_promotion_is_waited_for_and_its_end_is_the_exit_status(speak: Any, last: str, status: int) -> None:
    asked = {"POST /v1/stagings/front/promote": [WATCHING], ONE: [WATCHING, IDLE], HISTORY: [[{**LINE, "what": last}]]}
    api = speak(**asked)
    with pytest.raises(typer.Exit) if status else nullcontext() as ended:
        staging.promote("front", reason="a fix", override=["healthy=the check is wrong"], wait=True)
    assert ended is None or ended.value.exit_code == status
    assert api.asked[0][1] == {
        "who": "ada", "reason": "a fix", "overrides": {"healthy": "the check is wrong"}, "dry_run": False,
    }  # fmt: skip


def test_a_rollback_may_pass_a_guard(speak: Any) -> None:
    api = speak(**{"POST /v1/stagings/front/rollback": [IDLE]})
    staging.rollback("front", override=["healthy=its check is wrong"])
    ((_, body),) = api.asked
    assert body["overrides"] == {"healthy": "its check is wrong"}


def test_a_dry_run_is_never_waited_for(speak: Any, capsys: pytest.CaptureFixture[str]) -> None:
    api = speak(**{"POST /v1/stagings/front/promote": [WATCHING], "POST /v1/stagings/front/remove": [IDLE]})
    staging.promote("front", dry_run=True, wait=True)
    staging.remove("front", dry_run=True, override=["traffic=over"])
    assert [body["dry_run"] for _, body in api.asked] == [True, True]
    assert capsys.readouterr().out.count("nothing was changed") == 2


def test_a_deploy_names_who_and_what(speak: Any) -> None:
    api = speak(**{"POST /v1/stagings/front/deploy": [IDLE]})
    staging.deploy("front", "v2", reason="a fix")
    assert api.asked == [("POST /v1/stagings/front/deploy", {"ref": "v2", "who": "ada", "reason": "a fix"})]


def test_locks_and_history_are_read(speak: Any, capsys: pytest.CaptureFixture[str]) -> None:
    speak(**{ONE: [LOCKED], HISTORY: [[{**LINE, "what": "promoted"}]], "GET /v1/stagings": [[IDLE]]})
    staging.show("front")
    staging.history("front")
    staging.several()
    told = capsys.readouterr().out
    for words in ("locked    by ada: the fair", "v3 is to be deployed", "promoted", "0.004", "passed v1 (live)"):
        assert words in told


def test_a_program_reads_json(speak: Any, capsys: pytest.CaptureFixture[str]) -> None:
    speak(**{"POST /v1/stagings/front/lock": [LOCKED], HISTORY: [[]], "GET /v1/stagings": [[IDLE]]})
    staging.lock("front", reason="the fair", json=True)
    assert json.loads(capsys.readouterr().out)["lock"]["who"] == "ada"
    staging.history("front", json=True)
    assert json.loads(capsys.readouterr().out) == []
    staging.several(json=True)
    assert json.loads(capsys.readouterr().out)[0]["name"] == "front"
