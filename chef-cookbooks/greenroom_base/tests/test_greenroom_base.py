"""What the cookbook greenroom_base promises of every node."""

from __future__ import annotations

import json
from typing import Any

import pytest


def test_the_user_cannot_log_in(host: Any) -> None:
    user = host.user("greenroom")
    assert user.exists
    assert user.group == "greenroom"
    assert user.shell == "/usr/sbin/nologin"


@pytest.mark.parametrize("path", ["/etc/greenroom", "/var/lib/greenroom", "/usr/local/lib/greenroom"])
def test_directories_belong_to_root(host: Any, path: str) -> None:
    directory = host.file(path)
    assert directory.is_directory
    assert directory.user == "root"
    assert directory.mode == 0o755


def test_the_node_knows_itself_and_the_others(host: Any) -> None:
    known = json.loads(host.file("/etc/greenroom/node.json").content_string)
    assert known["node"] == host.check_output("hostname")
    assert known["node"] in [node["name"] for node in known["nodes"]]


def test_the_timezone_is_utc(host: Any) -> None:
    assert host.file("/etc/timezone").content_string == "Etc/UTC\n"


def test_motd_says_that_the_node_is_thrown_away(host: Any) -> None:
    motd = host.file("/etc/motd").content_string
    assert host.check_output("hostname") in motd
    assert "thrown away" in motd


def test_the_supervisor_can_be_run(host: Any) -> None:
    assert host.file("/usr/local/lib/greenroom/supervise").mode == 0o755
