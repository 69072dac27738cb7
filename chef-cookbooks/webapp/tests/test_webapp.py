"""What the cookbook webapp promises of a web node, before and after a deployment."""

from __future__ import annotations

from typing import Any

import pytest


def settings(host: Any) -> dict[str, str]:
    lines = host.file("/etc/shop/web.conf").content_string.splitlines()
    pairs = [line.split(" = ") for line in lines if not line.startswith("#")]
    return dict(pairs)


def test_the_application_has_its_own_user(host: Any) -> None:
    assert host.user("shop").group == "shop"
    assert host.user("shop").shell == "/usr/sbin/nologin"


@pytest.mark.parametrize(("path", "owner"), [("/srv/shop", "root"), ("/etc/shop", "root"), ("/var/log/shop", "shop")])
def test_directories(host: Any, path: str, owner: str) -> None:
    assert host.file(path).is_directory
    assert host.file(path).user == owner


def test_it_listens_where_the_blueprint_says(host: Any) -> None:
    assert settings(host)["port"] == "8080"


def test_it_knows_the_database(host: Any) -> None:
    """The address of the node db-0, as the environment's node data have it."""
    known = host.file("/etc/greenroom/node.json").content_string
    assert f'"{settings(host)["database_host"]}"' in known
    assert settings(host)["database_port"] == "7000"


def test_the_service_is_controlled_by_one_command(host: Any) -> None:
    assert host.file("/usr/local/sbin/shop-web").mode == 0o755
    assert host.run("/usr/local/sbin/shop-web bogus").rc == 2


def test_the_service_runs_once_it_is_deployed(host: Any) -> None:
    deployed = host.file("/srv/shop/current").exists
    assert host.run("/usr/local/sbin/shop-web status").succeeded == deployed
