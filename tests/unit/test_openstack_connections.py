"""Connections to accounts of a cloud: each made once, when it is asked for, and given back."""

from __future__ import annotations

from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import pytest

from pipeline.adapters.drivers.openstack import driver as driver_
from pipeline.adapters.drivers.openstack.cloud import Cloud
from pipeline.adapters.drivers.openstack.clouds import Clouds
from pipeline.adapters.drivers.openstack.driver import OpenStackDriver
from pipeline.adapters.drivers.openstack.terms import Terms
from pipeline.clients.openstack import Account, Connections, Mark, connections
from pipeline.domain.errors import PermanentError

OURS, THEIRS = Account("ours"), Account("theirs")


class Posing:
    """Stands for a connection."""

    def __init__(self, account: Account) -> None:
        self.account = account
        self.closed = 0

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Posing]:
    """The connections that were made."""
    all_: list[Posing] = []

    def connect(account: Account) -> Any:
        all_.append(Posing(account))
        return all_[-1]

    monkeypatch.setattr(connections, "connect", connect)
    return all_


def test_an_account_is_connected_to_once_and_what_is_kept_with_it_stays(made: list[Posing]) -> None:
    views = Connections(lambda connection: [connection])
    assert made == []
    with ThreadPoolExecutor(8) as pool:
        seen = list(pool.map(views.of, [OURS, THEIRS] * 8))
    assert sorted(one.account.cloud for one in made) == ["ours", "theirs"]
    assert all(one is seen[number % 2] for number, one in enumerate(seen))


def test_all_are_given_back_and_whoever_asks_later_is_connected_anew(made: list[Posing]) -> None:
    views = Connections(lambda connection: connection)
    for account in (OURS, THEIRS):
        views.of(account)
    views.close()
    views.close()
    assert [one.closed for one in made] == [1, 1]
    views.of(OURS)
    assert [one.closed for one in made] == [1, 1, 0]


def test_projects_that_share_an_account_share_what_is_known_of_its_cloud(made: list[Posing]) -> None:
    clouds = Clouds(OURS, {"shop": THEIRS, "forum": THEIRS}, Terms(network="inside"))
    assert clouds.of("shop") is clouds.of("forum")
    assert clouds.of("blog") is not clouds.of("shop")
    assert clouds.all() == [clouds.of("blog"), clouds.of("shop")]
    assert len(made) == 2


@pytest.mark.parametrize(("has", "dead"), [("ours", "theirs"), ("theirs", "ours")])
def test_an_account_that_is_not_known_any_more_does_not_keep_what_another_has(
    has: str, dead: str, made: list[Posing], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    removed: list[tuple[str, str]] = []

    def remove(cloud: Cloud, mark: Mark, _nodes: Collection[str] | None) -> bool:
        account = cast("Posing", cloud.connection).account.cloud
        if account == dead:
            raise PermanentError(f"logging in as cloud {dead}: 401")
        removed.append((account, mark.environment_id))
        return (account, mark.environment_id) == (has, "env-1")

    monkeypatch.setattr(driver_, "remove", remove)
    driver = OpenStackDriver("ours", OURS, {"shop": THEIRS}, Terms(network="inside"), tmp_path)
    driver.destroy("env-1")
    with pytest.raises(PermanentError, match=f"logging in as cloud {dead}"):
        driver.destroy("env-2")  # which the account that is dead may have
    assert removed == [(has, "env-1"), (has, "env-2")]
    assert len(made) == 2
