"""What the cookbook database promises of a db node, before and after a deployment."""

from __future__ import annotations

from typing import Any


def test_the_data_belong_to_the_application_alone(host: Any) -> None:
    data = host.file("/var/lib/shop")
    assert data.is_directory
    assert (data.user, data.group, data.mode) == ("shop", "shop", 0o700)


def test_the_configuration(host: Any) -> None:
    lines = host.file("/etc/shop/db.conf").content_string.splitlines()
    assert lines[1:] == ["port = 7000", "data = /var/lib/shop", "max_keys = 10000"]


def test_the_application_may_write_its_log(host: Any) -> None:
    assert host.file("/var/log/shop").user == "shop"


def test_the_service_is_controlled_by_one_command(host: Any) -> None:
    assert host.file("/usr/local/sbin/shop-db").mode == 0o755
    assert host.run("/usr/local/sbin/shop-db bogus").rc == 2


def test_the_service_runs_once_it_is_deployed(host: Any) -> None:
    deployed = host.file("/srv/shop/current").exists
    assert host.run("/usr/local/sbin/shop-db status").succeeded == deployed
