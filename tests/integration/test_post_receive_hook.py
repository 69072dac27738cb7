"""The post-receive hook in a real bare repository, against a server that believes only what is signed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from pipeline.adapters.forges.plain import PlainForge
from pipeline.adapters.forges.post_receive import SETTINGS, install_hook
from pipeline.domain.errors import BadSignature, UserError
from pipeline.domain.triggers import Ignored, Trigger, TriggerKind
from pipeline.ports.common import Secret
from pipeline.ports.forges import Delivery, Received

SECRET = Secret("hook secret")


@dataclass
class Greenroom:
    """Stands in for the intake: checks with the real forge, answers as it is told."""

    url: str
    answers: list[tuple[int, Mapping[str, Any]]] = field(default_factory=list)
    deliveries: list[str] = field(default_factory=list)
    received: list[Received] = field(default_factory=list)


@contextmanager
def listening() -> Iterator[Greenroom]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            body = self.rfile.read(int(headers["content-length"]))
            code, answer = self.judge(Delivery(headers, body, time.time()))
            content = json.dumps(answer).encode()
            self.send_response(code)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def judge(self, delivery: Delivery) -> tuple[int, Mapping[str, Any]]:
            stand_in.deliveries.append(delivery.headers["x-greenroom-delivery"])
            if stand_in.answers:
                return stand_in.answers.pop(0)
            try:
                received = PlainForge().receive(delivery, SECRET)
            except BadSignature as error:
                return 401, {"title": "bad-signature", "detail": str(error)}
            stand_in.received.append(received)
            if isinstance(received.outcome, Ignored):
                return 202, {"ignored": received.outcome.reason}
            name = f"trg-{len(stand_in.received)}"
            return 202, {"trigger": name, "url": f"http://greenroom/v1/triggers/{name}", "duplicate": False}

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing on stderr."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        stand_in = Greenroom(f"http://127.0.0.1:{server.server_port}/v1/hooks/shop")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield stand_in
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def greenroom() -> Iterator[Greenroom]:
    with listening() as stand_in:
        yield stand_in


@dataclass
class Work:
    """A bare repository and a clone of it."""

    bare: Path
    clone: Path

    def git(self, *arguments: str) -> str:
        who = {f"GIT_{role}_{part}": "ada" for role in ("AUTHOR", "COMMITTER") for part in ("NAME", "EMAIL")}
        home = {"HOME": str(self.clone), "GIT_CONFIG_NOSYSTEM": "1", "PATH": os.environ["PATH"]}
        command = ["git", *arguments]
        done = subprocess.run(command, cwd=self.clone, env={**home, **who}, capture_output=True, text=True, check=True)
        return done.stdout.strip() + done.stderr.strip()

    def commit(self, message: str) -> str:
        self.git("commit", "--quiet", "--allow-empty", "-m", message)
        return self.git("rev-parse", "HEAD")

    def push(self, *refs: str) -> str:
        """What the pusher is told; CalledProcessError when the push fails."""
        return self.git("push", "--quiet", "origin", *(refs or ("main",)))


@pytest.fixture
def work(tmp_path: Path) -> Work:
    made = Work(tmp_path / "shop.git", tmp_path / "clone")
    made.clone.mkdir()
    made.git("init", "--quiet", "--initial-branch=main")
    made.git("init", "--bare", "--quiet", "--template=", str(made.bare))
    made.git("remote", "add", "origin", str(made.bare))
    return made


def install(work: Work, url: str) -> Path:
    return Path(install_hook(str(work.bare), url, SECRET))


def test_a_push_becomes_a_trigger(work: Work, greenroom: Greenroom) -> None:
    install(work, greenroom.url)
    first = work.commit("Sell\n\nmore")
    assert "remote: greenroom: run asked for refs/heads/main: http://greenroom/v1/triggers/trg-1" in work.push()
    second = work.commit("And more")
    work.push()
    triggers = [received.outcome for received in greenroom.received]
    assert [type(trigger) for trigger in triggers] == [Trigger, Trigger]
    assert triggers[0] == Trigger(
        TriggerKind.PUSH,
        "plain",
        str(work.bare),
        first,
        branch="main",
        actor="ada",
        message="Sell\n\nmore",
    )
    assert (triggers[1].sha, triggers[1].base) == (second, first)  # type: ignore[union-attr]  # checked above
    assert len(set(greenroom.deliveries)) == 2


def test_every_ref_of_a_push_is_announced(work: Work, greenroom: Greenroom) -> None:
    install(work, greenroom.url)
    sha = work.commit("x")
    work.git("tag", "-a", "-m", "the first", "v1")
    work.git("branch", "other")
    work.push("main", "other", "v1")
    told = [received.outcome for received in greenroom.received]
    assert {(one.branch or one.tag, one.sha) for one in told if isinstance(one, Trigger)} == {
        ("main", sha),
        ("other", sha),
        ("v1", sha),
    }
    assert "no run for refs/heads/other: the branch other was deleted" in work.push(":other")


def test_a_refusal_is_a_warning_and_the_push_stands(work: Work, greenroom: Greenroom) -> None:
    install_hook(str(work.bare), greenroom.url, Secret("another"))
    sha = work.commit("x")
    told = work.push()
    assert "remote: greenroom: warning: refs/heads/main was refused with 401: x-greenroom-signature does not" in told
    assert work.git("ls-remote", "origin", "main").startswith(sha)
    assert len(greenroom.deliveries) == 1


def test_a_passing_trouble_is_tried_again_with_the_same_id(work: Work, greenroom: Greenroom) -> None:
    install(work, greenroom.url)
    greenroom.answers.append((503, {}))
    work.commit("x")
    assert "triggers/trg-1" in work.push()
    assert len(greenroom.deliveries) == 2
    assert len(set(greenroom.deliveries)) == 1


def test_nobody_there_is_a_warning_and_the_push_stands(work: Work) -> None:
    install(work, "http://127.0.0.1:1/v1/hooks/shop")
    work.commit("x")
    assert "does not answer" in work.push()


def test_a_hook_without_settings_is_a_warning(work: Work, greenroom: Greenroom) -> None:
    install(work, greenroom.url)
    work.commit("x")
    for content in ("{", "[]", "{}"):
        (work.bare / SETTINGS).write_text(content)
        assert "run `greenroom hook install` again" in work.push(f"main:b{len(content)}{ord(content[0])}")
    assert greenroom.deliveries == []


def test_the_secret_lies_in_a_file_of_the_owner_alone(work: Work, greenroom: Greenroom) -> None:
    hook = install(work, greenroom.url)
    assert (work.bare / SETTINGS).stat().st_mode & 0o777 == 0o600
    assert SECRET.reveal() in (work.bare / SETTINGS).read_text()
    assert SECRET.reveal() not in hook.read_text()
    assert sorted(path.name for path in work.bare.iterdir() if path.name.startswith(".")) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can install for another user")
def test_what_root_installs_belongs_to_the_repositorys_owner(work: Work, greenroom: Greenroom) -> None:
    for path in [work.bare, *work.bare.rglob("*")]:
        os.chown(path, 12345, 12346)
    hook = install(work, greenroom.url)
    owners = {(path.stat().st_uid, path.stat().st_gid) for path in (hook, hook.parent, work.bare / SETTINGS)}
    assert owners == {(12345, 12346)}


def test_installing_again_renews(work: Work, greenroom: Greenroom) -> None:
    install_hook(str(work.bare), "http://127.0.0.1:1/", Secret("old"))
    hook = install(work, greenroom.url)
    assert not (hook.parent / "post-receive.d").exists()
    work.commit("x")
    assert "triggers/trg-1" in work.push()


def script(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_a_hook_that_was_there_runs_first(work: Work, greenroom: Greenroom, tmp_path: Path) -> None:
    script(work.bare / "hooks/post-receive", f"cat > {tmp_path}/seen; echo mine; exit 3")
    hook = install(work, greenroom.url)
    install(work, greenroom.url)
    sha = work.commit("x")
    told = work.push()
    assert told.index("remote: mine") < told.index("triggers/trg-1")
    assert (tmp_path / "seen").read_text() == f"{'0' * 40} {sha} refs/heads/main\n"
    assert [path.name for path in (hook.parent / "post-receive.d").iterdir()] == ["50-kept"]


def test_a_second_foreign_hook_is_not_overwritten(work: Work, greenroom: Greenroom) -> None:
    script(work.bare / "hooks/post-receive", "first")
    install(work, greenroom.url)
    (work.bare / "hooks/post-receive").unlink()
    script(work.bare / "hooks/post-receive", "second")
    with pytest.raises(UserError, match="move one of them away"):
        install(work, greenroom.url)
    assert "second" in (work.bare / "hooks/post-receive").read_text()


def test_only_bare_repositories_get_a_hook(work: Work, greenroom: Greenroom, tmp_path: Path) -> None:
    for place in (work.clone, work.clone / ".git", tmp_path, tmp_path / "nope"):
        with pytest.raises(UserError, match=r"no (bare|git) repository"):
            install_hook(str(place), greenroom.url, SECRET)


def test_a_shared_hooks_directory_is_left_alone(work: Work, greenroom: Greenroom, tmp_path: Path) -> None:
    work.git("--git-dir", str(work.bare), "config", "core.hooksPath", str(tmp_path / "shared"))
    with pytest.raises(UserError, match="which others share"):
        install(work, greenroom.url)
    assert not (work.bare / SETTINGS).exists()


@pytest.mark.parametrize("url", ["", "h", "ftp://h/x", "http://", "file:///x"])
def test_an_odd_address_is_refused(work: Work, url: str) -> None:
    with pytest.raises(UserError, match="no http or https address"):
        install(work, url)


def test_the_hook_needs_nothing_but_python(work: Work, greenroom: Greenroom) -> None:
    hook = install(work, greenroom.url)
    command = [sys.executable, "-I", "-S", str(hook)]
    done = subprocess.run(command, cwd=work.bare, input="", capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")
