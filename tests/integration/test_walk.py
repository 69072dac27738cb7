"""The walk through the API: its commands, as they are printed, against a whole deployment with real nodes."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from shutil import which

import pytest

from pipeline.cli.demo.place import free_ports
from tests.plugins.local_nodes import why_not
from tests.tools.deployed import LOCAL, Deployed, running

WALK = Path(__file__).parents[2] / "docs/guides/walk.md"
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
PROGRAMS = "/usr/sbin:/usr/bin:/usr/local/sbin"
NEEDED = [name for name in ("haproxy", "curl", "jq", "git", "ssh") if which(name, path=PROGRAMS) is None]
WALK_S = 300.0
#: Printed after each block, on both streams.
MARK = "-- end of block"

pytestmark = [
    pytest.mark.local,
    pytest.mark.redis,
    pytest.mark.timeout(500),
    pytest.mark.skipif(why_not() is not None, reason=str(why_not())),
    pytest.mark.skipif(bool(NEEDED), reason=f"{NEEDED} are missing: run make setup"),
]


@dataclass(frozen=True)
class Step:
    """Commands, and what the document says that they print; None when it says nothing."""

    commands: str
    printed: str | None


def steps() -> Iterator[Step]:
    blocks = BLOCK.findall(WALK.read_text())
    for at, (kind, text) in enumerate(blocks):
        after = blocks[at + 1] if at + 1 < len(blocks) else ("sh", "")
        if kind == "sh":
            yield Step(text, None if after[0] == "sh" else after[1])


SETTINGS, *STEPS = steps()


def test_only_two_variables_are_to_be_set_first() -> None:
    assert re.findall(r"^export (\w+)=", SETTINGS.commands, re.MULTILINE) == ["URL", "TOKEN"]
    assert len(SETTINGS.commands.splitlines()) == 2


@pytest.fixture(scope="module")
def up() -> Iterator[Deployed]:
    (port,) = free_ports(1)
    router = {"base_domain": "walk.test", "router": {"bind": f"127.0.0.1:{port}"}}
    with running(provider={**LOCAL, "max_nodes": 20}, more=router) as one:
        yield one


def test_every_command_works_as_printed(up: Deployed, tmp_path: Path) -> None:
    script = "\n".join(f"{step.commands}\necho '{MARK}'" for step in STEPS)
    url = json.loads((up.home / "run/up.json").read_text())["api"]
    said = _paste(script, tmp_path, {"URL": url, "TOKEN": (up.home / "token").read_text().strip()})
    outputs = said.split(f"{MARK}\n")
    wrong = [_told(step, output) for step, output in zip(STEPS, outputs, strict=False) if not _fits(step, output)]
    if len(outputs) <= len(STEPS):
        wrong.append(f"these commands failed:\n{STEPS[len(outputs) - 1].commands}\n{outputs[-1]}\n{up.said()}")
    assert wrong == [], "\n".join(wrong)


def _paste(script: str, place: Path, variables: Mapping[str, str]) -> str:
    """All that a bash prints that ends at the first command which fails."""
    env = {"PATH": os.environ["PATH"], "HOME": str(place), "LC_ALL": "C.UTF-8", **variables}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-s"],
        input=script,
        cwd=place,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=WALK_S,
        check=False,
    )
    return done.stdout


def _fits(step: Step, output: str) -> bool:
    """Whether the output is as it is printed, where `…` stands for anything."""
    if step.printed is None:
        return True
    pattern = ".*".join(re.escape(part) for part in step.printed.strip().split("…"))
    return re.fullmatch(pattern, output.strip(), re.DOTALL) is not None


def _told(step: Step, output: str) -> str:
    return f"{step.commands}\nsaid\n{output}\nand not\n{step.printed}"
