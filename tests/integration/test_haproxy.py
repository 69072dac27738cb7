"""Requests through a real HAProxy: hosts, its own names, TLS, visitors that stay, what is cut."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from pipeline.adapters.routers.haproxy import certificate_in
from pipeline.domain.errors import PermanentError
from pipeline.domain.traffic import Backend, Target
from tests.bench.promote import end, load_on
from tests.plugins.haproxy import Haproxy, Origin, eventually, free_port, origin
from tests.tools.served import served

HOST = "shop.test.example"


@pytest.fixture
def blue() -> Iterator[Origin]:
    with origin("blue") as server:
        yield server


@pytest.fixture
def green() -> Iterator[Origin]:
    with origin("green") as server:
        yield server


def _ask(haproxy: Haproxy, host: str, client: httpx.Client | None = None) -> httpx.Response:
    url = f"http://127.0.0.1:{haproxy.port}/"
    if client is not None:
        return client.get(url, headers={"Host": host})
    with httpx.Client(trust_env=False) as fresh:
        return fresh.get(url, headers={"Host": host})


def _register(haproxy: Haproxy, environment: str, *origins: Origin, sticky: bool = False) -> None:
    targets = tuple(one.target for one in origins)
    haproxy.router.register(Backend(environment, targets, f"{environment}.test.example", sticky=sticky))
    assert eventually(lambda: haproxy.router.reading(environment).up == len(origins))


def test_a_kept_connection_follows_the_switch(haproxy: Haproxy, blue: Origin, green: Origin) -> None:
    _register(haproxy, "env-1", blue)
    _register(haproxy, "env-2", green)
    haproxy.router.switch(HOST, "env-1")
    with httpx.Client(trust_env=False) as client:
        assert _ask(haproxy, HOST, client).text == "blue"
        haproxy.router.switch(HOST, "env-2")
        assert _ask(haproxy, HOST.upper() + ":80", client).text == "green"


def test_every_environment_has_its_own_name_and_nobody_else_has_one(haproxy: Haproxy, blue: Origin) -> None:
    _register(haproxy, "env-1", blue)
    assert _ask(haproxy, "env-1.test.example").text == "blue"
    assert _ask(haproxy, "env-2.test.example").status_code == 404
    haproxy.router.forget("env-1")
    assert _ask(haproxy, "env-1.test.example").status_code == 404


def test_answers_and_errors_are_counted(haproxy: Haproxy, blue: Origin) -> None:
    _register(haproxy, "env-1", blue)
    assert _ask(haproxy, "env-1.test.example").status_code == 200
    blue.status = 500
    assert _ask(haproxy, "env-1.test.example").status_code == 500
    reading = haproxy.router.reading("env-1")
    assert (reading.answers, reading.errors) == (2, 1)


def test_a_visitor_stays_only_where_that_was_asked(haproxy: Haproxy, blue: Origin, green: Origin) -> None:
    _register(haproxy, "env-1", blue, green, sticky=True)
    with httpx.Client(trust_env=False) as client:
        first = _ask(haproxy, "env-1.test.example", client)
        words = {_ask(haproxy, "env-1.test.example", client).text for _ in range(6)}
    assert words == {first.text}
    _register(haproxy, "env-1", blue, green)
    answers = [_ask(haproxy, "env-1.test.example") for _ in range(6)]
    assert {answer.text for answer in answers} == {"blue", "green"}
    assert not any("set-cookie" in answer.headers for answer in answers)


def test_an_open_connection_is_counted_until_it_is_cut(haproxy: Haproxy, blue: Origin) -> None:
    """As a WebSocket is: both sides keep it open for as long as they like."""
    _register(haproxy, "env-1", blue)
    words = "GET / HTTP/1.1\r\nHost: env-1.test.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    words += "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    with socket.create_connection(("127.0.0.1", haproxy.port), 10) as client:
        client.sendall(words.encode())
        assert client.recv(4096).startswith(b"HTTP/1.1 101")
        assert haproxy.router.reading("env-1").sessions == 1
        haproxy.router.cut("env-1")
        assert client.recv(10) == b""
    assert eventually(lambda: haproxy.router.reading("env-1").sessions == 0)


def test_who_comes_gets_nothing_before_he_was_seen_to_answer(haproxy: Haproxy, blue: Origin) -> None:
    _register(haproxy, "env-1", blue)
    silent = [Target("127.0.0.1", free_port()) for _ in range(2)]
    for _ in range(10):
        haproxy.router.register(Backend("env-1", (blue.target, *silent), "env-1.test.example"))
        assert haproxy.router.reading("env-1").up == 1
        assert {_ask(haproxy, "env-1.test.example").status_code for _ in range(4)} == {200}
        haproxy.router.register(Backend("env-1", (blue.target,), "env-1.test.example"))


def test_a_role_grows_and_shrinks_under_load(tmp_path: Path, haproxy: Haproxy) -> None:
    with served(haproxy.router, tmp_path, free_port(), drain_s=4.0) as slot, load_on(haproxy.port, 250) as load:
        slot.run(1)
        slot.scale(3)
        slot.run(1)
        slot.scale(1)
        slot.run(1)
        lines = end(load)
    answered = {line.slot for line in lines if line.kind.startswith("/")}
    assert [line for line in lines if line.failed] == []
    assert answered == {"web-0", "web-1", "web-2"}


def test_tls_with_the_certificate_of_a_local_authority(haproxy: Haproxy, blue: Origin, tmp_path: Path) -> None:
    haproxy.stop()
    haproxy.tls_port = free_port()
    haproxy.certificate = certificate_in(tmp_path, "test.example", time.time())
    assert certificate_in(tmp_path, "test.example", time.time()) == haproxy.certificate
    haproxy.start()
    _register(haproxy, "env-1", blue)
    trust = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
    with httpx.Client(trust_env=False, verify=trust) as client:
        url, extensions = f"https://127.0.0.1:{haproxy.tls_port}/", {"sni_hostname": "env-1.test.example"}
        answer = client.get(url, headers={"Host": "env-1.test.example"}, extensions=extensions)
    assert answer.text == "blue"


def test_a_configuration_that_it_does_not_take_is_told(haproxy: Haproxy, tmp_path: Path) -> None:
    haproxy.stop()
    haproxy.tls_port, haproxy.certificate = free_port(), tmp_path / "missing.pem"
    with pytest.raises(PermanentError, match=r"missing\.pem"):
        haproxy.router.prepare()
