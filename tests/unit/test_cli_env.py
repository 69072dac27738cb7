"""`greenroom env`: what is asked of the API, what a person and a program read, and the exit status."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import typer

from pipeline.cli import environments as shown
from pipeline.cli.client import Message
from pipeline.cli.commands import env
from pipeline.cli.output import Complaint

COSTS = {"environments": 1, "nodes": 2, "vcpu": 2.0, "memory_mib": 1024.0, "disk_gib": 10.0, "floating_addresses": 0}
CONTRACT = {
    "owner": "ada", "why": "a bug", "name": "demo", "ttl_s": 7200.0, "most_s": 86400.0, "ready_at": 2.0,
    "dies_at": 7202.0, "last_end": 86402.0, "warned": True, "protected": "", "may_end_earlier": ["it is given back"],
    "costs": COSTS, "url": "https://forge.test/pull/12", "host": "shop-pr-12.test.example",
}  # fmt: skip
READY: dict[str, Any] = {
    "id": "env-1", "state": "leased", "project": "shop", "owner": "", "reason": "", "fault": "", "position": None,
    "estimate_s": None, "contract": CONTRACT, "nodes": [], "private_key": None,
    "scaling": None, "degraded": "",
}  # fmt: skip
WAITS = {**READY, "state": "requested", "position": 2, "estimate_s": 90.0, "contract": {**CONTRACT, "ready_at": None}}
GONE = {**WAITS, "state": "destroyed", "position": None, "reason": "run run-1 failed: deploy: no"}
Answers = dict[str, list[Any]]


class Api:
    """Answers what it was told of, in turn and then the last again, and refuses all else."""

    def __init__(self, **answers: list[Any]) -> None:
        self._answers = {"GET /v1/environments/env-1": [READY], **answers}
        self.asked: list[tuple[str, Any]] = []

    def _answer(self, what: str, body: Any = None) -> Any:
        self.asked.append((what, body))
        left = self._answers[what]
        return left.pop(0) if len(left) > 1 else left[0]

    def get(self, path: str, **_: Any) -> Any:
        return self._answer(f"GET {path}")

    def find(self, path: str) -> Any:
        return READY if path == "/v1/environments/env-1" else None

    def post(self, path: str, body: Any = None) -> Any:
        return self._answer(f"POST {path}", body)

    def items(self, path: str, limit: int, **params: str) -> Any:
        return self._answer(f"ITEMS {path}", params)[:limit]

    def stream(self, path: str, _position: str, _end: str) -> Any:
        return self._answer(f"STREAM {path}")


@pytest.fixture
def speak(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Api]:
    def with_answers(**answers: list[Any]) -> Api:
        api = Api(**answers)
        monkeypatch.setattr("pipeline.cli.client.connect", lambda: api)
        return api

    monkeypatch.setattr(shown, "LOOK_S", 0.0)
    monkeypatch.setattr(shown, "person", lambda: "ada")
    monkeypatch.setattr("pipeline.cli.targets.project_of", lambda *_: "shop")
    return with_answers


Speak = Callable[..., Api]
MADE = "POST /v1/environments"
ONE = "GET /v1/environments/env-1"


def test_what_is_asked_for_is_sent(speak: Speak, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key = tmp_path / "keys.pub"
    key.write_text("# mine\nssh-ed25519 AAAA ada\n\n")
    api = speak(**{MADE: [READY]})
    env.create(template="three", why="a bug", ttl="2h", key=[key], json=True)
    (_, body), *_ = api.asked
    assert (body["project"], body["template"], body["owner"], body["ttl"]) == ("shop", "three", "ada", "2h")
    assert body["public_keys"] == ["ssh-ed25519 AAAA ada"]
    assert json.loads(capsys.readouterr().out)["id"] == "env-1"


def test_waiting_tells_how_far_it_is(speak: Speak, capsys: pytest.CaptureFixture[str]) -> None:
    speak(**{MADE: [WAITS], ONE: [WAITS, WAITS, READY]})
    env.create(ref="main", wait=True)
    said = capsys.readouterr().out
    assert said.count("env-1 waits for room: number 2 in the line, about 1m30s") == 1
    assert "env-1 is leased until" in said


def test_one_that_will_not_be_ready_is_1_and_says_why(speak: Speak, capsys: pytest.CaptureFixture[str]) -> None:
    speak(**{MADE: [WAITS], ONE: [GONE]})
    with pytest.raises(typer.Exit) as ended:
        env.create(ref="main", wait=True)
    assert ended.value.exit_code == 1
    assert "is destroyed: run run-1 failed: deploy: no" in capsys.readouterr().out


def test_a_key_that_is_made_is_written_for_nobody_else(speak: Speak, tmp_path: Path) -> None:
    speak(**{MADE: [{**READY, "private_key": "SECRET\n"}, {**READY, "private_key": "OTHER\n"}]})
    place = tmp_path / "key"
    env.create(key_out=place)
    assert (place.read_text(), place.stat().st_mode & 0o777) == ("SECRET\n", 0o600)
    with pytest.raises(Complaint, match="the key cannot be written to"):
        env.create(key_out=place)
    assert place.read_text() == "SECRET\n"


def test_the_contract_is_shown(speak: Speak, capsys: pytest.CaptureFixture[str]) -> None:
    speak()
    env.show("env-1")
    said = capsys.readouterr().out
    for part in ("a bug", "2 nodes, 2 vcpu, 1 GiB memory", "it is given back", "greenroom env extend"):
        assert part in said
    assert "https://forge.test/pull/12" in said
    assert "shop-pr-12.test.example" in said


def test_keys_of_a_forge_s_user_are_asked_for(speak: Speak, tmp_path: Path) -> None:
    api = speak(**{MADE: [READY]})
    env.create(keys_of="ada")
    ((_, body),) = [one for one in api.asked if one[0] == MADE]
    assert body["ssh_keys_from"] == "ada"
    with pytest.raises(Complaint, match="no key is made where one is given"):
        env.create(keys_of="ada", key_out=tmp_path / "key")


def test_it_is_shown_how_nodes_are_connected(speak: Speak, capsys: pytest.CaptureFixture[str]) -> None:
    node = {
        "name": "db-0", "state": "in-service", "address": "192.0.2.1", "zone": "", "machine": "", "fault": "",
        "networks": {}, "open": [], "virtual_address": "", "floating": False,
    }  # fmt: skip
    wires = {"networks": {"backend": "10.40.0.11", "office": ""}, "open": ["443/tcp", "icmp"], "floating": True}
    web = {**node, "name": "web-0", **wires, "virtual_address": "10.20.0.100"}
    speak(**{ONE: [{**READY, "nodes": [node, web]}]})
    env.show("env-1")
    (line,) = [line for line in capsys.readouterr().out.splitlines() if ": in " in line or "db-0:" in line]
    told = "in backend (10.40.0.11), office; open 443/tcp, icmp; may take over 10.20.0.100; floating address"
    assert line == f"  web-0: {told}"


@pytest.mark.parametrize("word", ["demo", "1", "last"])
def test_an_environment_is_found_by_its_name_or_a_part_of_its_id(speak: Speak, word: str) -> None:
    api = speak(**{"ITEMS /v1/environments": [[READY]], "POST /v1/environments/env-1/extend": [READY]})
    env.extend(word, "1h")
    assert api.asked[-1] == ("POST /v1/environments/env-1/extend", {"by": "1h"})


def test_what_is_not_there_or_not_clear_is_refused(speak: Speak) -> None:
    speak(**{"ITEMS /v1/environments": [[{**READY, "id": "env-aa", "contract": None}, {**READY, "id": "env-ab"}]]})
    with pytest.raises(Complaint, match="'a' may be env-aa, env-ab"):
        env.show("a")
    with pytest.raises(Complaint, match="there is no environment 'z'"):
        env.show("z")


def test_protection_wants_a_reason_or_off(speak: Speak) -> None:
    api = speak(**{"POST /v1/environments/env-1/protect": [READY]})
    for words in ({}, {"reason": "why", "off": True}):
        with pytest.raises(Complaint, match="say --reason WHY"):
            env.protect("env-1", **words)  # type: ignore[arg-type]  # either kind of word
    env.protect("env-1", off=True)
    assert api.asked[-1][1] == {"reason": ""}


def test_removal_waits_until_it_is_gone(speak: Speak, capsys: pytest.CaptureFixture[str]) -> None:
    api = speak(**{"POST /v1/environments/env-1/release": [READY], ONE: [READY, GONE]})
    env.remove("env-1", reason="over", override=["held=seen enough"])
    assert api.asked[0][1] == {"reason": "over", "overrides": {"held": "seen enough"}, "dry_run": False}
    assert "env-1 is destroyed" in capsys.readouterr().out


def test_a_command_streams_and_passes_its_exit_status_on(speak: Speak, capsys: pytest.CaptureFixture[str]) -> None:
    asked = {"id": "cmd-1", "links": {"self": "/v1/commands/cmd-1", "output": "/v1/commands/cmd-1/output"}}
    done = {**asked, "finished_at": 1.0, "fault": "", "exit_status": 3}
    api = speak(**{
        "POST /v1/environments/env-1/run": [asked],
        "STREAM /v1/commands/cmd-1/output": [[Message("1", "log", "up\n"), Message("1", "end", {})]],
        "GET /v1/commands/cmd-1": [{**done, "finished_at": None}, done, {**done, "fault": "its worker was lost"}],
    })  # fmt: skip
    with pytest.raises(typer.Exit) as ended:
        env.run("env-1", ["web", "--", "ls", "a b"])
    assert (ended.value.exit_code, capsys.readouterr().out) == (3, "up\n")
    assert api.asked[0] == ("POST /v1/environments/env-1/run", {"on": "web", "command": "ls 'a b'"})
    with pytest.raises(Complaint, match="its worker was lost"):
        env.run("env-1", ["--", "ls"])
    with pytest.raises(Complaint, match="which command"):
        env.run("env-1", ["web"])


SCALE = "POST /v1/environments/env-1/scale"
GROWS = {
    **READY,
    "scaling": {"coming": ["web-1"], "going": [], "run": "run-2", "reason": "", "fault": "", "moves": None},
}
WEBS = {**READY, "nodes": [{"role": "web"}, {"role": "web"}]}


def test_a_role_is_scaled_and_waited_for(speak: Speak, capsys: pytest.CaptureFixture[str]) -> None:
    api = speak(**{SCALE: [GROWS], ONE: [GROWS, WEBS]})
    env.scale("env-1", "web=2", drain="5s", wait=True, reason="the fair")
    assert api.asked[0] == (
        SCALE,
        {"reason": "the fair", "overrides": {}, "dry_run": False, "role": "web", "count": 2, "drain": "5s"},
    )
    said = capsys.readouterr()
    assert "env-1 gets web-1, prepared by run-2" in said.err + said.out
    assert "env-1 has 2 nodes of role web" in said.err + said.out


def test_a_scaling_that_failed_is_exit_status_1(speak: Speak, capsys: pytest.CaptureFixture[str]) -> None:
    speak(**{SCALE: [GROWS], ONE: [{**READY, "degraded": "2 nodes of role web: no image"}]})
    with pytest.raises(typer.Exit) as ended:
        env.scale("env-1", "web=2", wait=True, json=True)
    assert ended.value.exit_code == 1
    assert json.loads(capsys.readouterr().out)["degraded"] == "2 nodes of role web: no image"


def test_a_dry_run_tells_which_nodes_go(speak: Speak, capsys: pytest.CaptureFixture[str]) -> None:
    goes = {"coming": [], "going": ["web-1"], "run": "", "reason": "", "fault": "", "moves": None}
    api = speak(**{SCALE: [{**READY, "scaling": goes}]})
    env.scale("env-1", "web=1", dry_run=True, wait=True)
    assert api.asked[0][1]["dry_run"]
    said = capsys.readouterr()
    assert "env-1 gives web-1; nothing was changed" in said.err + said.out


MOVE = "POST /v1/environments/env-1/move"
THERE = {**READY, "nodes": [{"name": "web-1", "role": "web", "machine": "metal-1"}]}


def moves(back: str) -> Mapping[str, Any]:
    goes = {"role": "web", "coming": ["web-1"], "going": [], "run": "run-2", "reason": "", "fault": ""}
    return {**THERE, "scaling": {**goes, "moves": {"to": "bare-metal", "back": back}}}


def test_a_role_is_moved_and_waited_for(speak: Speak, capsys: pytest.CaptureFixture[str]) -> None:
    api = speak(**{MOVE: [moves("")], ONE: [moves(""), THERE]})
    env.move("env-1", "web", to="bare-metal", keep="1m", wait=True)
    said = {"reason": "", "overrides": {}, "dry_run": False, "role": "web", "to": "bare-metal", "keep": "1m"}
    assert api.asked[0] == (MOVE, {**said, "drain": None})
    told = capsys.readouterr()
    assert "env-1 moves web to bare-metal: gets web-1, prepared by run-2" in told.err + told.out
    assert "env-1 has role web there (web-1 on metal-1)" in told.err + told.out


def test_a_move_that_went_back_is_exit_status_1(speak: Speak, capsys: pytest.CaptureFixture[str]) -> None:
    speak(**{MOVE: [moves("")], ONE: [moves("a node is lost"), {**THERE, "degraded": "role web was not moved"}]})
    with pytest.raises(typer.Exit) as ended:
        env.move("env-1", "web", to="bare-metal", wait=True)
    assert ended.value.exit_code == 1
    told = capsys.readouterr()
    assert "moves web back from bare-metal, since a node is lost" in told.err + told.out


def test_a_move_is_called_back(speak: Speak) -> None:
    api = speak(**{f"{MOVE}/back": [moves("called back")]})
    env.move("env-1", "web", back=True, reason="too slow")
    assert api.asked[0][1] == {"reason": "too slow", "overrides": {}, "dry_run": False, "role": "web"}


@pytest.mark.parametrize(("to", "back"), [("", False), ("vm", True)])
def test_a_move_goes_somewhere_or_back(to: str, back: bool) -> None:
    with pytest.raises(Complaint, match="say --to WHERE"):
        env.move("env-1", "web", to=to, back=back)


def test_the_list_says_when_each_ends(speak: Speak, capsys: pytest.CaptureFixture[str]) -> None:
    protected = {**READY, "id": "env-2", "contract": {**CONTRACT, "protected": "a slot of staging front"}}
    ends = {**READY, "id": "env-3", "state": "destroying"}
    speak(**{"ITEMS /v1/environments": [[READY, protected, ends]]})
    env.environments()
    first, second, third = [line for line in capsys.readouterr().out.splitlines() if "env-" in line]
    assert first.rstrip().endswith("0       until 1970-01-01 02:00:02 UTC")
    assert second.rstrip().endswith("0       protected: a slot of staging front")
    assert third.rstrip().endswith("0")


@pytest.mark.parametrize("wish", ["web", "=2", "web=", "web=two", "web=-1"])
def test_what_is_no_wish_for_nodes_is_told(wish: str) -> None:
    with pytest.raises(Complaint, match="expected ROLE=N, such as web=3"):
        env.scale("env-1", wish)


ADDRESS = {"host": "env-1.test", "url": "http://env-1.test:8680/", "ip": "", "up": 2, "targets": 2}


def test_open_tells_the_address_and_opens_no_browser_unasked(
    speak: Speak, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []

    def browse(url: str) -> bool:
        opened.append(url)
        return True

    monkeypatch.setattr("webbrowser.open", browse)
    speak(**{f"{ONE}/address": [ADDRESS]})
    env.open_("env-1")
    assert capsys.readouterr().out == "http://env-1.test:8680/\n"
    assert opened == []
    env.open_("env-1", browser=True)
    assert opened == ["http://env-1.test:8680/"]
    capsys.readouterr()
    env.open_("env-1", json=True)
    assert json.loads(capsys.readouterr().out) == ADDRESS


def test_open_says_when_nothing_answers_or_no_browser_is_there(
    speak: Speak, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("webbrowser.open", lambda _: False)
    speak(**{f"{ONE}/address": [{**ADDRESS, "up": 0}]})
    with pytest.raises(Complaint, match="no browser can be opened here; go to http://env-1"):
        env.open_("env-1", browser=True)
    assert "none of its 2 nodes that get requests answers yet" in "".join(capsys.readouterr())
    speak(**{f"{ONE}/address": [{**ADDRESS, "up": 0, "targets": 0}]})
    env.open_("env-1")
    assert "env-1.test leads to no node now; `greenroom env show env-1`" in "".join(capsys.readouterr())
