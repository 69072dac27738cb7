"""Public keys of forge users: from where they may come, which are taken, and what is not waited for."""

from __future__ import annotations

import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from pipeline.adapters import user_keys as adapter
from pipeline.adapters.keys import SshKeys
from pipeline.adapters.routers.haproxy.certificates import certificate_in
from pipeline.adapters.user_keys import HttpsUserKeys
from pipeline.domain.errors import NotFound, TransientError, UserError
from pipeline.domain.user_keys import checked_forges, chosen, fingerprint, taken

HUB, LAB = "https://github.com", "https://lab.example:8443"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKl6Kyzd0nPwtcTXCFXYhLBSQLDsqN0QPrFOjsNBXLY9"
OTHER = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGvV2BqJAt0k4XFX5qfDEvIaIeUkAcvL0fqoHIYuAfKk"


@pytest.mark.parametrize(
    ("given", "forges"),
    [
        (["https://github.com/"], (HUB,)),
        (["HTTPS://GitHub.com", HUB, LAB], (HUB, LAB)),
        (["none"], ()),
        ([], ()),
    ],
)
def test_forges_are_addresses(given: list[str], forges: tuple[str, ...]) -> None:
    assert checked_forges(given) == forges


@pytest.mark.parametrize(
    "given",
    [
        "http://github.com",
        "github.com",
        "https://u:p@h",
        "https://h/path",
        "https://h?x=1",
        "https://",
        "ftp://h",
        HUB + "#",
    ],
)
def test_what_is_no_forge_is_refused(given: str) -> None:
    with pytest.raises(UserError, match="no forge to take keys from"):
        checked_forges([given])


def test_so_many_forges_are_a_mistake() -> None:
    with pytest.raises(UserError, match="10 forges at most"):
        checked_forges([f"https://h{number}.example" for number in range(11)])


def test_the_only_forge_needs_no_name() -> None:
    assert chosen("shop", [HUB], "ada") == (HUB, "ada")
    assert chosen("shop", [HUB, LAB], "lab.example:8443/ada") == (LAB, "ada")
    assert chosen("shop", [HUB, LAB], "GitHub.com/ada") == (HUB, "ada")


@pytest.mark.parametrize(
    ("allowed", "wish", "told"),
    [
        ([], "ada", "greenroom project set shop --keys-from"),
        ([HUB], "evil.example/ada", "takes no keys from evil.example; it does from github.com"),
        ([HUB, LAB], "ada", "which forge is ada at"),
        *(
            ([HUB], user, "names no user")
            for user in ("", "..", "a b", "a?b", "ada.", "-ada", "a" * 70, "github.com/", "é")
        ),
        ([HUB], "github.com/../ada", "takes no keys from"),
        ([HUB], "https://github.com/ada", "takes no keys from"),
    ],
)
def test_what_is_not_allowed_is_not_asked(allowed: list[str], wish: str, told: str) -> None:
    with pytest.raises(UserError, match=told):
        chosen("shop", allowed, wish)


def test_only_valid_keys_are_taken_and_each_says_whose_it_is() -> None:
    text = f"{KEY}\nssh-dss AAAAB3NzaC1kc3M=\n\nnonsense\n{OTHER} ada@laptop\n{KEY}\n<html>"
    assert taken(HUB, "ada", text) == (f"{KEY} ada@github.com", f"{OTHER} ada@github.com")


@pytest.mark.parametrize("text", ["", "\n", "<html></html>", "ssh-dss AAAAB3NzaC1kc3M="])
def test_a_user_without_a_key_is_told_so(text: str) -> None:
    with pytest.raises(UserError, match=r"ada has no public key at https://github\.com"):
        taken(HUB, "ada", text)


def test_more_keys_than_an_environment_takes_are_refused() -> None:
    keys = "\n".join(SshKeys().ed25519("")[1] for _ in range(21))
    with pytest.raises(UserError, match="20 at most"):
        taken(HUB, "ada", keys)


def test_a_fingerprint_is_openssh_s(tmp_path: Path) -> None:
    public = SshKeys().ed25519("ada")[1]
    (tmp_path / "key.pub").write_text(public)
    command = ["ssh-keygen", "-lf", str(tmp_path / "key.pub")]
    told = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout
    assert fingerprint(public) == told.split()[1]


@contextmanager
def forge(tmp_path: Path, answer: Any) -> Iterator[tuple[str, ssl.SSLContext]]:
    """A forge over TLS; its address, and whom to trust. `answer` gets the handler."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self)

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing on stderr."""

    certificate = certificate_in(tmp_path, "test.example", time.time())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        trust = ssl.create_default_context(cafile=tmp_path / "ca.pem")
        trust.check_hostname = False
        try:
            yield f"https://127.0.0.1:{server.server_port}", trust
        finally:
            server.shutdown()
            thread.join()


def says(handler: BaseHTTPRequestHandler, code: int, body: bytes, **headers: str) -> None:
    handler.send_response(code)
    for name, value in {**headers, "content-length": str(len(body))}.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(body)


def test_keys_come_over_tls_from_whoever_proves_who_they_are(tmp_path: Path) -> None:
    asked = []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        asked.append((handler.path, handler.headers.get("authorization")))
        says(handler, 200, KEY.encode())

    with forge(tmp_path, answer) as (address, trust):
        assert HttpsUserKeys(trust).of(address, "ada") == KEY
        with pytest.raises(TransientError):
            HttpsUserKeys().of(address, "ada")  # nobody vouches for it
    assert asked == [("/ada.keys", None)]


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (404, NotFound),
        (302, UserError),
        (403, UserError),
        (204, UserError),
        (429, TransientError),
        (503, TransientError),
    ],
)
def test_another_answer_is_no_key(tmp_path: Path, code: int, error: type[Exception]) -> None:
    with (
        forge(tmp_path, lambda handler: says(handler, code, b"", location="https://127.0.0.1:1/")) as (address, trust),
        pytest.raises(error),
    ):
        HttpsUserKeys(trust).of(address, "ada")


def test_what_is_too_long_is_not_read_to_its_end(tmp_path: Path) -> None:
    sent = []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        try:
            for _ in range(10_000):
                handler.wfile.write(b"x" * 8192)
                sent.append(8192)
        except OSError:
            pass

    with forge(tmp_path, answer) as (address, trust), pytest.raises(UserError, match="longer than 65536 bytes"):
        HttpsUserKeys(trust).of(address, "ada")
    assert sum(sent) < 40 * 1024 * 1024


def test_a_slow_one_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapter, "WHOLE_S", 0.3)
    over = threading.Event()

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        try:
            while not over.wait(0.05):
                handler.wfile.write(b"x" * 100)
        except OSError:
            pass

    with forge(tmp_path, answer) as (address, trust):
        try:
            with pytest.raises(TransientError, match="longer than"):
                HttpsUserKeys(trust).of(address, "ada")
        finally:
            over.set()


@pytest.mark.parametrize("address", ["http://127.0.0.1:1", "https://127.0.0.1:1"])
def test_without_tls_or_an_answer_there_are_no_keys(address: str) -> None:
    with pytest.raises((UserError, TransientError)):
        HttpsUserKeys().of(address, "ada")
