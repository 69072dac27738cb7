"""A pytest plugin that lets a test module choose its nodes: `testinfra_hosts = ["web", "db-0"]`, roles or names."""

from __future__ import annotations

import json
import os

import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Set which hosts testinfra takes for this module: the chosen ones that are judged here, else all of them."""
    nodes: dict[str, list[str]] = json.loads(os.environ["GREENROOM_NODES"])
    wanted = getattr(metafunc.module, "testinfra_hosts", list(nodes))
    unknown = [name for name in wanted if name not in nodes and all(name not in names for names in nodes.values())]
    if unknown:
        raise pytest.UsageError(f"testinfra_hosts: no role or node is called {', '.join(unknown)}")
    chosen = [name for role, names in nodes.items() for name in names if role in wanted or name in wanted]
    metafunc.config.option.hosts = ",".join(f"ssh://{name}" for name in chosen)
