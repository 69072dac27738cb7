"""What a person may name on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from pipeline.cli import login, targets
from pipeline.cli.commands.runs import split_command
from pipeline.cli.output import Complaint

if TYPE_CHECKING:
    from pipeline.cli.client import Client

NODES = [{"name": "web-0"}, {"name": "web-1"}, {"name": "db-0"}, {"name": "ha-proxy-0"}]


@pytest.mark.parametrize(
    ("text", "repository", "ref"),
    [
        ("", "", ""),
        ("@main", "", "main"),
        ("/srv/shop.git", "/srv/shop.git", ""),
        ("/srv/shop.git@feature/x", "/srv/shop.git", "feature/x"),
        ("git@forge.example:team/shop.git", "git@forge.example:team/shop.git", ""),
        ("git@forge.example:team/shop.git@v1", "git@forge.example:team/shop.git", "v1"),
        ("ssh://git@forge.example/shop", "ssh://git@forge.example/shop", ""),
        ("ssh://git@forge.example:22/shop@v1", "ssh://git@forge.example:22/shop", "v1"),
        ("https://forge.example/shop.git@1a2b3c4", "https://forge.example/shop.git", "1a2b3c4"),
    ],
)
def test_a_ref_is_told_from_a_login(text: str, repository: str, ref: str) -> None:
    assert targets.split_ref(text) == (repository, ref)


class Empty:
    """An API that has nothing."""

    def items(self, _path: str, _limit: int) -> list[dict[str, str]]:
        return []


def test_who_has_no_run_yet_is_told_how_one_begins() -> None:
    with pytest.raises(Complaint, match="there is no run yet; a push begins one, or `greenroom run`"):
        targets.run_id(cast("Client", Empty()), "last")


def test_a_directory_is_named_as_the_service_sees_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shop.git").mkdir()
    monkeypatch.chdir(tmp_path)
    assert targets.repository_url("shop.git") == str(tmp_path / "shop.git")
    assert targets.repository_url("https://forge.example/shop.git") == "https://forge.example/shop.git"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("run-aa", ["run-aab1", "run-aac2"]),
        ("aab", ["run-aab1"]),
        ("c2", ["run-aac2"]),
        ("zz", []),
        ("", []),
    ],
)
def test_runs_are_found_by_their_beginning_or_end(text: str, found: list[str]) -> None:
    assert targets.matching(text, ["run-aab1", "run-aac2"]) == found


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("", "web-0"),
        ("web", "web-0"),
        ("web[1]", "web-1"),
        ("web-1", "web-1"),
        ("db", "db-0"),
        ("ha-proxy[0]", "ha-proxy-0"),
    ],
)
def test_a_node_is_named_by_role_and_index(text: str, name: str) -> None:
    assert targets.node_name(text, NODES) == name


@pytest.mark.parametrize("text", ["web[2]", "web[", "cache", "-oProxyCommand=x"])
def test_an_unknown_node_is_refused_with_those_that_are_there(text: str) -> None:
    with pytest.raises(Complaint, match="web-0, web-1, db-0"):
        targets.node_name(text, NODES)


def test_what_stands_after_two_dashes_is_the_command() -> None:
    assert split_command([]) == ("", [])
    assert split_command(["web[1]"]) == ("web[1]", [])
    assert split_command(["--", "ls", "--", "-l"]) == ("", ["ls", "--", "-l"])
    assert split_command(["web", "--", "ls"]) == ("web", ["ls"])


@pytest.mark.parametrize(("words", "hint"), [(["web", "ls", "-l"], "-- ls -l"), (["web", "--"], "no command")])
def test_a_command_without_its_dashes_is_refused(words: list[str], hint: str) -> None:
    with pytest.raises(Complaint, match=hint) as refused:
        split_command(words)
    assert refused.value.status == 2


def test_words_reach_the_node_as_they_were_given() -> None:
    assert login.remote([]) == []
    assert login.remote(["uptime; hostname"]) == ["--", "uptime; hostname"]
    assert login.remote(["sh", "-c", "echo 'a  b'"]) == ["--", """sh -c 'echo '"'"'a  b'"'"''"""]
