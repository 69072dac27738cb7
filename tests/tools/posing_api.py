"""An API that poses for the command line: it gives the same answers always, and tells what it was asked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from pipeline.cli import client as module
from pipeline.cli.client import Client
from pipeline.cli.main import app

#: Method, path with its question, and body of each call.
Calls = list[tuple[str, str, Any]]


def answering(monkeypatch: pytest.MonkeyPatch, answers: Mapping[tuple[str, str], Any]) -> Calls:
    """Let commands ask it; `answers` by method and path. What they asked so far."""
    calls: Calls = []

    def answer(request: httpx.Request) -> httpx.Response:
        path = request.url.raw_path.decode()
        calls.append((request.method, path, json.loads(request.content or b"null")))
        return httpx.Response(200, json=answers[request.method, path.partition("?")[0]])

    client = Client("http://service", "secret", httpx.MockTransport(answer))
    monkeypatch.setattr(module, "connect", lambda: client)
    return calls


def said(*arguments: str) -> str:
    """What a command that goes well writes to standard output."""
    done = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout
