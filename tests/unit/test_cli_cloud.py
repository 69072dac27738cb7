"""`greenroom cloud`: what is asked of the API, what a person reads, and the exit status."""

from __future__ import annotations

import json
from collections.abc import Iterator
from errno import ENOSPC
from pathlib import Path
from typing import Any

import pytest
import typer

from pipeline.cli.commands import cloud
from pipeline.cli.output import FAILED, OK, REFUSED, Complaint
from pipeline.settings import OpenStackSettings, ProviderSettings, Settings

SERVER = "server web-0 (id-1) of project shop"


class Api:
    """Answers what it was told of, one act after the other, and refuses all else."""

    def __init__(self, *acts: dict[str, Any]) -> None:
        self._acts = iter(acts)
        self._looks: Iterator[dict[str, Any]] = iter(())
        self.asked: list[dict[str, Any]] = []

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        assert path == "/v1/providers/lab/acts"
        self.asked.append(body)
        done = {"id": "act-1", "finished_at": 2.0, "outcome": "", "refused": "", "fault": "", "left": []}
        self._looks = iter([{"finished_at": None}, {**done, **next(self._acts)}])
        return {"id": "act-1"}

    def get(self, path: str) -> dict[str, Any]:
        assert path == "/v1/acts/act-1"
        return next(self._looks)


def ask(monkeypatch: pytest.MonkeyPatch, *acts: dict[str, Any]) -> Api:
    api = Api(*acts)
    monkeypatch.setattr("pipeline.cli.client.connect", lambda: api)
    for name in ("LOOK_S", "AGAIN_S"):
        monkeypatch.setattr(cloud, name, 0.0)
    return api


def test_a_delete_asks_for_it_with_its_reason(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    api = ask(monkeypatch, {"outcome": "flavor old is deleted"})
    cloud.delete(cloud.Deletable.FLAVOR, "old", reason="unused", provider="lab", override=["in-use=it is dead"])
    [body] = api.asked
    assert (body["verb"], body["kind"], body["name"], body["reason"]) == ("delete", "flavor", "old", "unused")
    assert (body["overrides"], body["dry_run"]) == ({"in-use": "it is dead"}, False)
    assert capsys.readouterr().out.endswith("flavor old is deleted\n")


def test_what_a_guard_refuses_has_its_own_exit_status(monkeypatch: pytest.MonkeyPatch) -> None:
    ask(monkeypatch, {"refused": "in-use", "fault": "refused by guard in-use"}, {"fault": "no answer"})
    for status in (REFUSED, FAILED):
        with pytest.raises(Complaint) as caught:
            cloud.may_restart("m1", reason="new kernel", provider="lab")
        assert caught.value.status == status


def test_a_machine_is_asked_again_until_nothing_is_on_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    api = ask(monkeypatch, {"left": [SERVER]}, {"left": [SERVER]}, {"outcome": "machine m1 is out of service"})
    with pytest.raises(typer.Exit) as ended:
        cloud.machine_out("m1", reason="new kernel", provider="lab", wait=60.0)
    assert (ended.value.exit_code, len(api.asked)) == (OK, 3)
    assert "out of service" in capsys.readouterr().out


def test_a_machine_that_is_not_empty_yet_is_exit_status_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ask(monkeypatch, {"left": [SERVER], "outcome": f"1 are on it: {SERVER}"})
    with pytest.raises(typer.Exit) as ended:
        cloud.machine_out("m1", reason="new kernel", provider="lab", json=True)
    assert ended.value.exit_code == FAILED
    assert json.loads(capsys.readouterr().out)["left"] == [SERVER]


def test_a_dry_run_is_never_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    api = ask(monkeypatch, {"left": [SERVER], "outcome": "it would take no more servers"})
    with pytest.raises(typer.Exit) as ended:
        cloud.machine_out("m1", reason="a look", provider="lab", dry_run=True)
    assert (ended.value.exit_code, api.asked[0]["dry_run"]) == (OK, True)


def test_servers_that_move_are_told_each_with_what_became_of_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    move = {"server": "id-1", "name": "web-0", "project": "p", "how": "live-migration", "to": "", "fault": ""}
    moves = [{**move, "state": "moved", "to": "m2"}, {**move, "server": "id-2", "state": "failed", "fault": "no host"}]
    api = ask(monkeypatch, {"left": [SERVER], "outcome": "1 moved, 1 failed", "moves": moves})
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(typer.Exit) as ended:
        cloud.machine_out("m1", reason="new kernel", provider="lab", policy=cloud.Policy.MIGRATE, at_once=4)
    assert (api.asked[0]["policy"], api.asked[0]["at_once"], ended.value.exit_code) == ("migrate", 4, FAILED)
    shown = capsys.readouterr().out
    assert all(word in shown for word in ("web-0 (id-1): moved to m2", "no host", "1 moved, 1 failed"))


class SetupApi:
    """Answers a setup that made a credential, or, where one `there` was already, has none to tell."""

    def __init__(self, *, there: bool = False) -> None:
        self.there = there
        self.asked: list[str] = []

    def post(self, path: str, _body: dict[str, Any] | None = None) -> dict[str, Any]:
        self.asked.append(path)
        if path == "/v1/setups/setup-1/credential":
            return {"name": "greenroom-ours-shop", "entry": {"auth_type": "v3applicationcredential"}}
        assert path == "/v1/providers/lab/setups"
        return {"id": "setup-1"}

    def get(self, path: str) -> dict[str, Any]:
        assert path == "/v1/setups/setup-1"
        named = {"id": "setup-1", "name": "greenroom-ours-shop", "provider": "lab", "project": "shop"}
        return {**named, "dry_run": False, "finished_at": 2.0, "fault": "", "steps": [], "has_secret": not self.there}


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> SetupApi:
    """The API of a deployment with a provider on OpenStack."""
    openstack = OpenStackSettings(cloud="ours", network="net")
    settings = Settings(
        home=tmp_path,
        default_provider="lab",
        providers={"lab": ProviderSettings(driver="openstack", openstack=openstack)},
    )
    api = SetupApi()
    monkeypatch.setattr("pipeline.cli.client.connect", lambda: api)
    monkeypatch.setattr("pipeline.cli.deployment.settings", lambda: settings)
    return api


@pytest.mark.parametrize(
    ("network", "words"),
    [
        ("", '`[providers.lab.openstack.projects] shop = "greenroom-ours-shop"`'),
        ("net", '`[providers.lab.openstack.projects] shop = "greenroom-ours-shop"`'),
        ("other", 'a provider of its own, with `cloud = "greenroom-ours-shop"` and `network = "other"`'),
    ],
)
@pytest.mark.usefixtures("lab")
def test_a_setup_tells_how_its_entry_is_used(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, network: str, words: str
) -> None:
    file = tmp_path / "clouds.yaml"
    cloud.setup("shop", reason="a new team", clouds_file=file, network=network)
    assert words in capsys.readouterr().out
    assert "greenroom-ours-shop" in file.read_text()


def test_a_secret_that_was_made_before_is_not_said_to_have_been_told(
    lab: SetupApi, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    lab.there = True
    cloud.setup("shop", reason="a new team", clouds_file=tmp_path / "clouds.yaml")
    assert "told once, when it is made; --renew makes another" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("clouds.yaml", "clouds: [one, two]\n", "`clouds` is no mapping"),
        ("clouds.yaml", "[]\n", "no mapping at its top"),
        ("clouds.yaml", "clouds: {\n", "cannot be read"),
        ("nowhere/clouds.yaml", "", "no directory"),
        ("/proc/self/clouds.yaml", "", "takes no new file"),
    ],
)
def test_where_no_entry_can_be_written_nothing_is_asked_for(
    lab: SetupApi, tmp_path: Path, file: str, content: str, words: str
) -> None:
    where = tmp_path / file
    if content:
        where.write_text(content)
    with pytest.raises(Complaint, match=words):
        cloud.setup("shop", reason="a new team", clouds_file=where)
    assert lab.asked == []


@pytest.mark.usefixtures("lab")
@pytest.mark.parametrize("before", ["", "clouds:\n", "# ours\nclouds:\n  other: {}  # theirs\n"])
def test_an_entry_stands_beside_what_is_in_the_file(tmp_path: Path, before: str) -> None:
    file = tmp_path / "clouds.yaml"
    file.write_text(before)
    cloud.setup("shop", reason="a new team", clouds_file=file)
    after = file.read_text()
    assert "greenroom-ours-shop" in after
    assert all(line in after for line in before.splitlines())
    assert file.stat().st_mode & 0o777 == 0o600


@pytest.mark.usefixtures("lab")
def test_a_secret_that_cannot_be_kept_is_told_to_be_lost(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def full(*_: object) -> None:
        raise OSError(ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(Complaint, match=r"No space left on device.*--renew"):
        cloud.setup("shop", reason="a new team", clouds_file=tmp_path / "clouds.yaml")
    assert list(tmp_path.iterdir()) == []


class LeftoversApi:
    """Answers what was seen before, and then what was seen now."""

    def __init__(self, now: dict[str, Any]) -> None:
        self._looks = iter([{"tried_at": 1.0}, {"tried_at": 2.0, "fault": "", "found": [], **now}])

    def post(self, path: str) -> dict[str, Any]:
        assert path == "/v1/providers/lab/leftovers"
        return {"tried_at": 1.0}

    def get(self, path: str) -> dict[str, Any]:
        assert path == "/v1/providers/lab/leftovers"
        return next(self._looks)


def seek(monkeypatch: pytest.MonkeyPatch, now: dict[str, Any], *, as_json: bool = False) -> None:
    monkeypatch.setattr("pipeline.cli.client.connect", lambda: LeftoversApi(now))
    monkeypatch.setattr(cloud, "LOOK_S", 0.0)
    cloud.leftovers("lab", json=as_json)


def test_leftovers_are_told_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    one = {"kind": "port", "id": "p-1", "name": "", "project": "p", "since": 0.0, "text": "loose", "action": "look"}
    monkeypatch.setenv("COLUMNS", "200")
    seek(monkeypatch, {"found": [one]})
    shown = capsys.readouterr().out
    assert all(word in shown for word in ("port", "p-1", "loose", "next: look"))
    seek(monkeypatch, {"found": [one]}, as_json=True)
    assert json.loads(capsys.readouterr().out)["found"] == [one]


def test_no_leftovers_and_no_answer_are_two_things(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seek(monkeypatch, {})
    assert "nothing hangs about at lab" in capsys.readouterr().out
    with pytest.raises(Complaint, match="no answer"):
        seek(monkeypatch, {"fault": "no answer"})


def test_what_was_left_is_taken_back_by_an_act(monkeypatch: pytest.MonkeyPatch) -> None:
    api = ask(monkeypatch, {"outcome": "done"})
    cloud.take_back("env-1", reason="a leftover", provider="lab")
    assert (api.asked[0]["verb"], api.asked[0]["kind"], api.asked[0]["name"]) == ("take-back", "environment", "env-1")


def test_a_machine_comes_back(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    api = ask(monkeypatch, {"outcome": "machine m1 is in service"})
    cloud.machine_in("m1", reason="done", provider="lab")
    assert api.asked[0]["verb"] == "put-back"
    assert capsys.readouterr().out.endswith("machine m1 is in service\n")
