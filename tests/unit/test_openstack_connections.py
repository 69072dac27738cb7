"""Connections to accounts of a cloud: each made once, when it is asked for, and given back."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from pipeline.adapters.drivers.openstack.clouds import Clouds
from pipeline.adapters.drivers.openstack.terms import Terms
from pipeline.clients.openstack import Account, Connections, connections

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
