"""What routes, by the settings: URLs as visitors say them, and mistakes that are told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from pipeline.bootstrap import Application
from pipeline.cli.demo.place import free_ports
from pipeline.cli.deployment import check_ports
from pipeline.cli.health import _programs
from pipeline.domain.errors import TransientError
from pipeline.settings import OpenStackSettings, ProviderSettings, RouterSettings, Settings
from workers.programs import Program, programs

CLOUD = OpenStackSettings(cloud="shop", network="shop-net", external_network="public")
FLOATING = RouterSettings(kind="floating_ip", provider="cloud")


def settings(home: Path, router: RouterSettings = FLOATING, **changed: Any) -> Settings:
    provider = ProviderSettings(driver="openstack", openstack=CLOUD.model_copy(update=changed), workers=1)
    return Settings(
        home=home,
        default_provider="cloud",
        providers={"cloud": provider, "here": ProviderSettings(driver="memory", workers=1)},
        base_domain="test.example",
        router=router,
    )


@pytest.mark.parametrize(
    ("bind", "tls_bind", "url"),
    [
        ("127.0.0.1:8680", "", "http://a.test:8680/"),
        ("0.0.0.0:80", "", "http://a.test/"),
        ("0.0.0.0:80", "0.0.0.0:443", "https://a.test/"),
        ("0.0.0.0:80", "[::]:8443", "https://a.test:8443/"),
    ],
)
def test_a_url_is_as_a_browser_takes_it(bind: str, tls_bind: str, url: str) -> None:
    assert RouterSettings(bind=bind, tls_bind=tls_bind).url_of("a.test", 8080) == url


@pytest.mark.parametrize(
    ("port", "url"), [(8080, "http://a.test:8080/"), (80, "http://a.test/"), (443, "https://a.test/")]
)
def test_behind_a_floating_address_nodes_answer_at_their_own_port(port: int, url: str) -> None:
    assert FLOATING.url_of("a.test", port) == url


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"kind": "floating_ip"}, "needs `provider`"),
        ({"provider": "cloud"}, "belong to kind"),
        ({"addresses": {"a.test": "203.0.113.7"}}, "belong to kind"),
        ({**FLOATING.model_dump(), "addresses": {"a.test": "here"}}, "here"),
        ({**FLOATING.model_dump(), "addresses": {"a b": "203.0.113.7"}}, "is no host name"),
        ({**FLOATING.model_dump(), "addresses": {"a.test": "203.0.113.7", "b.test": "203.0.113.7"}}, "two hosts"),
        ({"kind": "balancer"}, "haproxy"),
    ],
)
def test_what_does_not_fit_together_is_told(wrong: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        RouterSettings(**wrong)


def test_the_provider_must_have_addresses_to_give(tmp_path: Path) -> None:
    assert settings(tmp_path).routing_cloud() == CLOUD
    for name in ("here", "nowhere"):
        with pytest.raises(ValidationError, match=f"'{name}' is no provider on OpenStack"):
            settings(tmp_path, FLOATING.model_copy(update={"provider": name}))
    with pytest.raises(ValidationError, match="provider cloud needs `external_network`"):
        settings(tmp_path, external_network="")
    with pytest.raises(ValidationError, match="a port has one at most"):
        settings(tmp_path, floating=True)


def test_whoever_looks_after_addresses_needs_no_haproxy_and_no_port(tmp_path: Path) -> None:
    told = settings(tmp_path, FLOATING.model_copy(update={"bind": "nowhere"}))
    api, hooks = (f"127.0.0.1:{port}" for port in free_ports(2))  # others may listen at the usual ones
    check_ports(told.model_copy(update={"api_bind": api, "hooks_bind": hooks}))
    assert "haproxy" not in {one["name"] for one in _programs(told)}
    assert "haproxy" in {one["name"] for one in _programs(settings(tmp_path, RouterSettings()))}


def router_program(told: Settings) -> Program:
    return next(one for one in programs(told) if one.name == "router")


def test_the_router_is_ready_once_it_looked(tmp_path: Path) -> None:
    told = settings(tmp_path)
    ready = router_program(told).ready
    assert ready is not None
    assert not ready()
    told.router_dir.mkdir(parents=True)
    (told.router_dir / "looked").touch()
    assert ready()


def test_one_router_is_built_of_the_settings(tmp_path: Path) -> None:
    floating = Application(settings(tmp_path, FLOATING.model_copy(update={"addresses": {"a.test": "203.0.113.7"}})))
    assert (floating.haproxy, [one.name for one in floating.routers]) == (None, ["floating-ip"])
    haproxy = Application(settings(tmp_path, RouterSettings()))
    assert (haproxy.floating, [one.name for one in haproxy.routers]) == (None, ["haproxy"])
    nothing = Application(settings(tmp_path).model_copy(update={"base_domain": ""}))
    assert (nothing.router, nothing.routers) == (None, ())


class Keeping:
    """Stands for a router; the cloud is silent at first, and its process is ended later."""

    def __init__(self) -> None:
        self.looks = 0

    def keep(self) -> None:
        self.looks += 1
        if self.looks == 1:
            raise TransientError("the cloud does not answer")
        if self.looks == 3:
            raise SystemExit


def test_addresses_are_looked_after_again_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    app, keeping, slept = Application(settings(tmp_path)), Keeping(), list[float]()
    monkeypatch.setattr(app, "floating", keeping)
    monkeypatch.setattr(app.clock, "sleep", slept.append)
    with pytest.raises(SystemExit):
        app.run_router()
    assert (keeping.looks, slept) == (3, [2.0, 2.0])
    assert "looked after later: the cloud does not answer" in caplog.text
