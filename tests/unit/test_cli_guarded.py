"""Commands whose acts pass the gate: what they ask of the API, and what they say."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from pipeline.cli import client as client_module
from pipeline.cli import ending
from pipeline.cli.main import app, main
from pipeline.cli.output import Output
from pipeline.domain.guards import GUARDS


class Api:
    """Answers what it was told to, by method and path, and notes the bodies; refuses everything else."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.asked: list[tuple[str, Any]] = []

    def get(self, path: str, **_: str) -> Any:
        return self._answer("get", path)

    def find(self, path: str) -> Any:
        return self._answer("get", path)

    def post(self, path: str, body: Any = None) -> Any:
        self.asked.append((path, body))
        return self._answer("post", path)

    def items(self, path: str, _limit: int, **_: str) -> Any:
        return self._answer("get", path)

    def _answer(self, method: str, path: str) -> Any:
        answers = self.answers[f"{method} {path}"]
        return answers.pop(0) if isinstance(answers, list) and answers and isinstance(answers[0], list) else answers


def run(monkeypatch: pytest.MonkeyPatch, api: Api, *arguments: str) -> int:
    monkeypatch.setattr(client_module, "connect", lambda *_: api)
    monkeypatch.setattr(sys, "argv", ["greenroom", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


RUN = {"id": "run-1", "environment": "env-1", "verdict": None, "state": "running"}
RELEASE = {
    "get /v1/runs/run-1": RUN,
    "post /v1/runs/run-1/release": RUN,
    "post /v1/runs/run-1/cancel": RUN,
}


def environment(state: str) -> dict[str, Any]:
    return {"id": "env-1", "state": state, "owner": "run-1"}


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("held", "could be taken back; the environment is held, nothing was changed"),
        ("destroying", "are being taken back"),
        ("destroyed", "are gone"),
    ],
)
def test_release_asks_and_says_what_becomes_of_the_nodes(
    state: str, words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    api = Api(**RELEASE, **{"get /v1/environments/env-1": environment(state)})
    options = ("--dry-run", "--override", "traffic=a drill", "--override", "held=seen=enough", "--reason", "why")
    assert run(monkeypatch, api, "release", "run-1", *options) == 0
    overrides = {"traffic": "a drill", "held": "seen=enough"}
    body = {"reason": "why", "overrides": overrides, "dry_run": True}
    assert api.asked == [("/v1/runs/run-1/release", body)]
    assert capsys.readouterr().out == f"the nodes of run-1 {words}\n"


def test_cancel_can_be_tried(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    api = Api(**RELEASE)
    assert run(monkeypatch, api, "cancel", "run-1", "--dry-run") == 0
    assert api.asked == [("/v1/runs/run-1/cancel", {"reason": "", "overrides": {}, "dry_run": True})]
    assert capsys.readouterr().out == "run-1 could be cancelled; nothing was changed, it is running\n"


def test_destroy_wants_a_reason_and_answers_in_json(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    api = Api(**{"post /v1/environments/env-1/destroy": environment("destroying")})
    assert run(monkeypatch, api, "destroy", "env-1") == 2
    assert api.asked == []
    capsys.readouterr()
    assert run(monkeypatch, api, "destroy", "env-1", "--reason", "nobody's", "--json") == 0
    assert api.asked == [("/v1/environments/env-1/destroy", {"reason": "nobody's", "overrides": {}, "dry_run": False})]
    assert json.loads(capsys.readouterr().out)["state"] == "destroying"


@pytest.mark.parametrize("override", ["held", "held=", "held= "])
@pytest.mark.parametrize(
    "command", ["release run-1", "cancel run-1", "destroy env-1", "machine drain m", "snapshot rm p s"]
)
def test_an_override_without_a_reason_asks_nothing(
    command: str, override: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    api = Api()
    assert run(monkeypatch, api, *command.split(), "--reason", "x", "--override", override) == 2
    assert api.asked == []
    assert "--override held: expected GUARD=REASON" in capsys.readouterr().err


def commands(group: TyperGroup, *words: str) -> Iterator[tuple[str, TyperCommand]]:
    """All commands by their words."""
    for name, command in group.commands.items():
        if isinstance(command, TyperGroup):
            yield from commands(command, *words, name)
        elif isinstance(command, TyperCommand):
            yield " ".join([*words, name]), command


def test_whoever_may_ask_the_guards_may_override_them() -> None:
    root = get_command(app)
    assert isinstance(root, TyperGroup)
    options = {words: {word for one in command.params for word in one.opts} for words, command in commands(root)}
    helps = {words: {getattr(one, "help", "") for one in command.params} for words, command in commands(root)}
    asking = [words for words, told in helps.items() if "ask the guards, change nothing" in told]
    assert {"snapshot rm", "staging rollback", "env rm", "machines drain"} <= set(asking)
    assert [words for words in asking if "--override" not in options[words]] == []


def a_machine(provider: str, state: str = "in-service") -> dict[str, Any]:
    return {"name": "a-1", "provider": provider, "state": state}


def test_a_machine_needs_no_provider_where_its_name_is_the_only_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    changed = {"post /v1/machines/lab/a-1/state": a_machine("lab", "maintenance")}
    api = Api(**{"get /v1/machines": (a_machine("lab"),)}, **changed)
    assert run(monkeypatch, api, "machine", "maintenance", "a-1", "--reason", "x") == 0
    assert capsys.readouterr().out == "machine a-1 is in maintenance\n"
    assert run(monkeypatch, Api(**changed), "machine", "drain", "a-1", "--reason", "x", "--provider", "lab") == 0


def test_the_machines_name_each_environment_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    view = {"zone": "z", "state_reason": "", "back_at": None, "probation": False}
    shown = {**a_machine("lab"), **view, "nodes": ["env-1/web-0", "env-1/web-1", "env-2/db-0"]}
    assert run(monkeypatch, Api(**{"get /v1/machines": (shown,)}), "machines") == 0
    assert "env-1 web-0, web-1; env-2 db-0" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("found", "status", "says"),
    [
        ((), 4, "there is no machine a-1; `greenroom machines` shows all"),
        (("lab", "cloud"), 2, "the providers lab, cloud have a machine a-1 each; name one with --provider"),
    ],
)
def test_a_machine_of_no_or_several_providers_is_told(
    found: tuple[str, ...], status: int, says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    api = Api(**{"get /v1/machines": tuple(map(a_machine, found))})
    assert run(monkeypatch, api, "machine", "drain", "a-1", "--reason", "x") == status
    assert says in capsys.readouterr().err


def test_a_file_that_cannot_be_read_is_no_answer_of_placement(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, Api(), "place", "/nowhere/greenroom.yml") == 2


def line(**more: Any) -> dict[str, Any]:
    usual = {"at": 0.0, "act": "destroy", "target": "env-1", "who": "tick", "why": "over", "dry_run": False}
    return {**usual, "refused": "", "because": "", "overridden": {}, "verified": None, "still": "", "keys": [], **more}


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (line(), "passed"),
        (line(dry_run=True), "dry run"),
        (line(overridden={"held": "seen"}), "passed, overriding held (seen)"),
        (line(refused="held", because="it is held"), "refused by held: it is held"),
        (line(verified=True), "verified: it is gone"),
        (line(keys=["SHA256:abc ada"]), "SHA256:abc ada"),
        (line(verified=False, still="node web-0"), "not verified: still there: node web-0"),
    ],
)
def test_the_audit_says_what_came_of_an_act(
    told: dict[str, Any], words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, Api(**{"get /v1/audit": (told,)}), "audit") == 0
    assert words in capsys.readouterr().out


def test_force_destroys_what_is_nobodys_and_passes_every_guard_that_may_be_passed() -> None:
    api = Api(
        **{
            "post /v1/environments/env-1/destroy": environment("destroying"),
            "get /v1/environments": [[environment("adopted")], [environment("destroyed")], []],
        }
    )
    release = getattr(ending, "_release")  # noqa: B009  # the part of `down` that needs no deployment
    assert release(Output(), api, [], force=True) == []
    ((path, body),) = api.asked
    assert path == "/v1/environments/env-1/destroy"
    assert body["reason"] == "greenroom down --force"
    assert set(body["overrides"]) == {guard.name for guard in GUARDS if not guard.firm}
