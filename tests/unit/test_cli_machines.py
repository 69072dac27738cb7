"""`greenroom machines add | ls | rm | release | key`: what they ask of the API, and what they say."""

from __future__ import annotations

import json
from typing import Any

import pytest
import typer

from tests.unit.test_cli_guarded import Api, a_machine, run

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5"
REGISTERED = {"state": "leased", "reason": "", "used_by": "env-1/db-0"}
SHOWN: dict[str, Any] = {
    **a_machine("metal"), "zone": "rack-a", "kind": "bare-metal", "nodes": [], "registered": REGISTERED,
}  # fmt: skip
ADD = (
    "machines", "add", "a-1", "--provider", "metal", "--address", "192.0.2.1", "--zone", "rack-a",
    "--image", "debian-12", "--reset", "make-clean",
)  # fmt: skip


def test_add_sends_what_was_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    api = Api(**{"post /v1/machines": SHOWN})
    more = ("--host-key", KEY, "--capacity", "vcpu=16", "--capacity", "memory=64GiB", "--capacity", "disk=2TiB")
    assert run(monkeypatch, api, *ADD, *more, "--aggregate", "nvme", "--reset-timeout", "60") == 0
    ((path, body),) = api.asked
    assert path == "/v1/machines"
    assert body["capacity"] == {"vcpu": 16.0, "memory_mib": 65536.0, "disk_gib": 2048.0}
    assert (body["host_key"], body["reset_s"], body["aggregates"], body["images"]) == (KEY, 60, ["nvme"], ["debian-12"])
    assert "machine a-1 is registered at metal" in capsys.readouterr().out


@pytest.mark.parametrize(("answer", "status"), [(True, 0), (False, 2)])
def test_a_host_key_is_believed_when_a_person_says_so(
    answer: bool, status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(typer, "confirm", lambda *_, **__: answer)
    api = Api(**{"get /v1/machines/host-key": {"key": KEY}, "post /v1/machines": SHOWN})
    assert run(monkeypatch, api, *ADD) == status
    assert KEY in capsys.readouterr().err
    assert [body["host_key"] for _, body in api.asked] == ([KEY] if answer else [])


@pytest.mark.parametrize("capacity", ["memory=64", "vcpu=many", "disk"])
def test_a_capacity_that_says_nothing_asks_nothing(
    capacity: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    api = Api()
    assert run(monkeypatch, api, *ADD, "--host-key", KEY, "--capacity", capacity) == 2
    assert (api.asked, f"--capacity {capacity}" in capsys.readouterr().err) == ([], True)


def test_ls_shows_who_has_each(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    dirty = {**SHOWN, "name": "a-2", "state": "draining", "registered": {**REGISTERED, "state": "dirty", "used_by": ""}}
    out = {**dirty, "name": "a-3", "state": "maintenance"}
    hypervisor = {**SHOWN, "name": "h-1", "registered": None}
    api = Api(**{"get /v1/machines": (SHOWN, dirty, out, hypervisor)})
    assert run(monkeypatch, api, "machines", "ls") == 0
    told = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line.strip()}
    assert "leased" in told["a-1"]
    assert "env-1/db-0" in told["a-1"]
    assert "in maintenance" not in told["a-2"]
    assert "dirty, in maintenance" in told["a-3"]
    assert "h-1" not in told
    assert run(monkeypatch, api, "machines", "ls", "--json") == 0
    assert [one["name"] for one in json.loads(capsys.readouterr().out)] == ["a-1", "a-2", "a-3"]


@pytest.mark.parametrize(
    ("words", "path", "says"),
    [
        ("rm a-1", "remove", "machine a-1 is forgotten"),
        ("rm a-1 --dry-run", "remove", "could be forgotten; nothing was changed"),
        ("release a-1", "release", "machine a-1 is being cleaned"),
        ("release a-1 --dry-run", "release", "could be cleaned; nothing was changed"),
        ("drain a-1", "state", "machine a-1 is in service"),
        ("quarantine a-1", "state", "machine a-1 is in service"),
    ],
)
def test_an_act_finds_its_provider(
    words: str, path: str, says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    api = Api(**{"get /v1/machines": (SHOWN,), f"post /v1/machines/metal/a-1/{path}": SHOWN})
    assert run(monkeypatch, api, "machines", *words.split(), "--reason", "a new disk") == 0
    ((_, body),) = api.asked
    assert (body["reason"], body["dry_run"]) == ("a new disk", "--dry-run" in words)
    assert says in capsys.readouterr().out


def test_the_key_of_the_service_is_shown(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    api = Api(**{"get /v1/machines/key": {"key": KEY}})
    assert run(monkeypatch, api, "machines", "key") == 0
    assert capsys.readouterr().out == f"{KEY}\n"


@pytest.mark.parametrize(
    ("command", "state"),
    [
        ("machine drain", "draining"),
        ("machine maintenance", "maintenance"),
        ("machine quarantine", "quarantined"),
        ("machine return", "in-service"),
        ("machines drain", "draining"),
        ("machines quarantine", "quarantined"),
    ],
)
def test_a_command_leads_to_a_state(
    command: str, state: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    api = Api(**{"post /v1/machines/lab/a-1/state": a_machine("lab", state)})
    more = ("a-1", "--provider", "lab", "--reason", "why", "--override", "in-use=seen")
    assert run(monkeypatch, api, *command.split(), *more) == 0
    wish = {"reason": "why", "overrides": {"in-use": "seen"}, "dry_run": False}
    assert api.asked == [("/v1/machines/lab/a-1/state", {"state": state, **wish})]
    assert capsys.readouterr().out.startswith("machine a-1 is ")
    assert run(monkeypatch, Api(), *command.split(), "a-1") == 2, "the reason cannot be left out"
