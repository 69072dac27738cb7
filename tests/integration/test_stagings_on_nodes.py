"""A staging as a release manager sees it: real nodes behind the HAProxy of `greenroom up`, deployed by commits."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import groupby
from shutil import which
from typing import Any

import httpx
import pytest

from pipeline.cli.demo.place import free_ports
from tests.plugins.local_nodes import why_not
from tests.tools.deployed import PROJECT, Deployed, running
from tests.tools.deployment import wait_for

DOMAIN = "staging.test"
BLUEPRINT = """\
version: 1
service: served
on: {push: {branches: [main], staging: front}}
environment:
  image: debian-12
  roles:
    web: {count: 2, size: tiny}
configure: {with: script}
deploy:
  - {role: web, to: /srv/served, run: ["bin/serve"], ready: {http: ":8000/health"}}
test: [{run: "grep -q . word", on: web}]
"""
#: Answers with the word of its commit, and with 500 to everything but the health check where the word is `bad`.
SERVER = """\
#!/usr/bin/env python3
import http.server, pathlib, sys
word = pathlib.Path("word").read_text().strip()
class Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        body = word.encode()
        self.send_response(500 if word == "bad" and self.path != "/health" else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer(("", 8000), Answer).serve_forever()
"""
SERVE = "#!/bin/sh\nsetsid ./server </dev/null >/dev/null 2>&1 &\n"
PATIENCE_S = 90.0
PROGRAMS = "/usr/sbin:/usr/bin:/usr/local/sbin"

pytestmark = [
    pytest.mark.local,
    pytest.mark.redis,
    pytest.mark.timeout(400),
    pytest.mark.skipif(why_not() is not None, reason=str(why_not())),
    pytest.mark.skipif(which("haproxy", path=PROGRAMS) is None, reason="haproxy is missing: run make setup"),
]


class Front:
    """What visitors of the staging get."""

    def __init__(self, up: Deployed, port: int) -> None:
        self.up = up
        self._client = httpx.Client(base_url=f"http://127.0.0.1:{port}", headers={"host": f"front.{DOMAIN}"}, timeout=5)

    def answers(self, count: int = 10) -> Counter[tuple[int, str]]:
        got = [self._client.get("/") for _ in range(count)]
        return Counter((one.status_code, one.text if one.status_code == 200 else "") for one in got)

    def close(self) -> None:
        self._client.close()

    @property
    def now(self) -> Mapping[str, Any]:
        return dict(self.up.json("staging", "show", "front"))

    def deploy(self, word: str) -> str:
        """The commit in the idle slot that says a word, tested."""
        sha = self.up.commit(files(word), word)
        self.up("staging", "deploy", "front", word, "--wait")
        assert self.now[self.now["idle"]]["sha"] == sha
        return sha


def files(word: str) -> dict[str, str]:
    return {"greenroom.yml": BLUEPRINT, "server": SERVER, "bin/serve": SERVE, "word": f"{word}\n"}


@pytest.fixture(scope="module")
def front() -> Iterator[Front]:
    (port,) = free_ports(1)
    router = {"base_domain": DOMAIN, "router": {"bind": f"127.0.0.1:{port}"}}
    with running(more=router) as up:
        up.add_project()
        up(
            "staging", "set", "front", "--project", PROJECT, "--role", "web", "--port", "8000", "--health", "/health",
            "--check", "web=curl -fsS http://127.0.0.1:8000/health", "--watch", "4s", "--drain", "2s", "--keep", "5m",
        )  # fmt: skip
        one = Front(up, port)
        yield one
        one.close()
        up("staging", "rm", "front", "--override", "traffic=the test is over")


def test_versions_take_turns_and_a_bad_one_goes_back(front: Front) -> None:
    front.deploy("one")
    assert front.answers(1) == {(404, ""): 1}
    front.up("staging", "promote", "front", "--wait")
    assert front.answers() == {(200, "one"): 10}

    front.deploy("two")
    assert front.answers() == {(200, "one"): 10}
    front.up("staging", "promote", "front", "--wait")
    assert front.answers() == {(200, "two"): 10}

    front.up("staging", "rollback", "front", "--reason", "one was nicer", "--wait")
    assert front.answers() == {(200, "one"): 10}

    front.deploy("bad")
    front.up("staging", "promote", "front")
    wait_for(lambda: front.answers(1) == {(500, ""): 1}, "an answer of the bad version", PATIENCE_S)
    wait_for(lambda: front.answers() == {(200, "one"): 10}, "the way back", PATIENCE_S)
    told = [entry["what"] for entry in front.up.json("staging", "history", "front")]
    assert told[-1] == "went back"


class Visitor(threading.Thread):
    """Asks all the time; `said` has every answer, and every failure, in order."""

    def __init__(self, front: Front) -> None:
        super().__init__(daemon=True)
        self.said: list[str] = []
        self._front = front
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.is_set():
            try:
                ((status, word),) = self._front.answers(1)
                self.said.append(word if status == 200 else str(status))
            except httpx.TransportError as error:
                self.said.append(repr(error))
            time.sleep(0.01)

    def end(self) -> list[str]:
        self._over.set()
        self.join(10)
        return [word for word, _ in groupby(self.said)]


@pytest.mark.parametrize("seed", range(3))
def test_a_promotion_outlives_kills_of_all_that_carries_it_out(front: Front, seed: int) -> None:
    """Whoever switches, checks or watches dies at any moment: nobody is cut, and it ends as it should."""
    dice = random.Random(seed)
    before = front.now["live"]
    front.deploy(f"mortal-{seed}")
    said = front.answers(1)
    visitor = Visitor(front)
    visitor.start()
    front.up("staging", "promote", "front")
    for _ in range(6):
        time.sleep(dice.uniform(0.1, 1.0))
        mortal = {name: pid for name, pid in front.up.pids().items() if pid and name.startswith(("tick", "work"))}
        for name in dice.sample(sorted(mortal), min(2, len(mortal))):
            with contextlib.suppress(ProcessLookupError):
                os.kill(mortal[name], signal.SIGKILL)
    wait_for(lambda: front.now["live"] != before and front.now["activity"] == "idle", "its end", PATIENCE_S)
    words = visitor.end()
    assert words == [*(word for _, word in said), f"mortal-{seed}"]


def test_a_push_to_the_branch_is_deployed_and_waits_for_its_promotion(front: Front) -> None:
    before = front.answers()
    front.up("hook", "install", str(front.up.repository), "--project", PROJECT)
    sha = front.up.commit(files("pushed"))

    def waits() -> bool:
        slot = front.now[front.now["idle"]]
        return (slot["sha"], slot["state"]) == (sha, "passed")

    wait_for(waits, "the commit in the idle slot", PATIENCE_S)
    assert front.answers() == before
    front.up("staging", "promote", "front", "--wait")
    assert front.answers() == {(200, "pushed"): 10}


def test_a_version_whose_tests_fail_is_told_and_never_promoted(front: Front) -> None:
    front.up.commit(files(""), "empty")
    with pytest.raises(AssertionError, match="failed"):
        front.up("staging", "deploy", "front", "empty", "--wait")
    with pytest.raises(AssertionError, match="deploy"):
        front.up("staging", "promote", "front")
