"""The local driver as a client: what it makes of the helper's answers, and of none."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from pipeline.adapters.drivers.local.driver import LocalDriver
from pipeline.domain.errors import CapacityError, InfraError, PermanentError, TransientError

Answering = Callable[[list[bytes]], "Peer"]


class Peer:
    """A helper that answers one request with given lines and notes what it was asked."""

    def __init__(self, path: Path, lines: list[bytes]) -> None:
        self.driver = LocalDriver(str(path), "ours")
        self.asked: list[object] = []
        self._lines = lines
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        with self._listener, suppress(OSError):
            client, _ = self._listener.accept()
            with client, client.makefile("rb") as lines:
                self.asked.append(json.loads(lines.readline()))
                for line in self._lines:
                    client.sendall(line)

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()


@pytest.fixture
def answering(tmp_path: Path) -> Iterator[Answering]:
    peers: list[Peer] = []

    def start(lines: list[bytes]) -> Peer:
        peers.append(Peer(tmp_path / "s", lines))
        return peers[-1]

    yield start
    for peer in peers:
        peer.close()


def test_a_value_is_given_back(answering: Answering) -> None:
    peer = answering([b'{"ok": ["debian-12"]}\n'])
    assert peer.driver.capabilities.images == ("debian-12",)
    assert peer.driver.capabilities.images == ("debian-12",)  # asked once
    assert peer.asked == [{"do": "images"}]


def test_progress_comes_before_the_end(answering: Answering) -> None:
    peer = answering([b'{"progress": "one"}\n{"prog', b'ress": "two"}\n', b'{"ok": "key"}\n'])
    lines: list[str] = []
    peer.driver.build_image("debian-12", lines.append)
    assert lines == ["one", "two"]
    assert peer.asked == [{"do": "build_image", "image": "debian-12"}]


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("capacity", CapacityError),
        ("transient", TransientError),
        ("permanent", PermanentError),
        ("bad-request", PermanentError),
        ("new-in-a-later-version", PermanentError),
    ],
)
def test_a_refusal_is_an_error_of_ours(answering: Answering, code: str, error: type[InfraError]) -> None:
    peer = answering([json.dumps({"error": code, "message": "no room for web-0"}).encode() + b"\n"])
    with pytest.raises(error, match="no room for web-0"):
        peer.driver.destroy("e", ["web-0"])
    assert peer.asked == [{"do": "destroy", "environment_id": "e", "nodes": ["web-0"]}]


def test_a_helper_that_dies_in_a_request_may_be_asked_again(answering: Answering) -> None:
    peer = answering([b'{"progress": "half"}\n'])
    with pytest.raises(TransientError, match="ended in the middle of a request"):
        peer.driver.clean()


def test_no_helper_says_how_to_start_it(tmp_path: Path) -> None:
    with pytest.raises(TransientError, match=r"start it with `greenroom up`.*--deployment ours"):
        LocalDriver(str(tmp_path / "none"), "ours").list()


def test_a_dead_helpers_socket_says_how_to_start_it(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "s"))
    with pytest.raises(TransientError, match="greenroom up"):
        LocalDriver(str(tmp_path / "s"), "ours").ping()
