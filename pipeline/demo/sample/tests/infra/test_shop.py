"""The shop as it stands on its nodes; every test runs on each of them."""

from __future__ import annotations

from typing import Any

import pytest

SHOP = "http://127.0.0.1:8080"


@pytest.fixture
def role(host: Any) -> str:
    """`web` or `db`: nodes are called web-0, web-1, db-0."""
    name: str = host.check_output("hostname")
    return name.partition("-")[0]


@pytest.fixture
def web(host: Any, role: str) -> Any:
    """The node, when it is a web node."""
    if role != "web":
        pytest.skip("only web nodes answer HTTP")
    return host


def get(host: Any, path: str) -> str:
    page: str = host.check_output("curl -fsS --max-time 5 %s", SHOP + path)
    return page


def test_the_service_runs(host: Any, role: str) -> None:
    assert host.run(f"/usr/local/sbin/shop-{role} status").rc == 0


def test_it_does_not_run_as_root(host: Any, role: str) -> None:
    users = host.check_output("ps -eo user:20,args").splitlines()
    mine = [line for line in users if f"app/{role}.py" in line]
    assert mine
    assert all(line.startswith("shop ") for line in mine)


def test_it_listens(host: Any, role: str) -> None:
    assert host.socket(f"tcp://0.0.0.0:{8080 if role == 'web' else 7000}").is_listening


def test_data_are_private(host: Any, role: str) -> None:
    if role != "db":
        pytest.skip("only db nodes keep data")
    assert host.file("/var/lib/shop").mode == 0o700


def test_it_is_healthy(web: Any) -> None:
    assert get(web, "/health") == "ok"


def test_prices_have_two_decimals(web: Any) -> None:
    assert get(web, "/price/1905") == "19.05"


def test_visits_are_counted_in_the_database(web: Any) -> None:
    first, second = (int(get(web, "/").split("visits: ")[1].split()[0]) for _ in range(2))
    assert second > first


def test_it_runs_the_deployed_release(web: Any) -> None:
    release = web.check_output("basename $(readlink -f /srv/shop/current)")
    assert f"release: {release}" in get(web, "/")
