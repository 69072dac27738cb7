"""The demo, as a person runs it: real pushes, real nodes, and nothing left."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from pipeline.adapters.drivers.local.image import images
from tests.plugins.local_nodes import IMAGE, image_state, why_not

NEEDED = ("redis-server", "git", "ssh", "bwrap")


def missing() -> str | None:
    """Why the demo cannot run on this machine; None when it can."""
    absent = [program for program in NEEDED if shutil.which(program) is None]
    if absent:
        return f"the demo needs {', '.join(absent)}: run make setup"
    return why_not() or (None if IMAGE in images(image_state()) else f"there is no image {IMAGE}: run make setup")


@pytest.mark.local
@pytest.mark.redis
@pytest.mark.timeout(400)
@pytest.mark.skipif(missing() is not None, reason=str(missing()))
def test_the_demo_shows_what_it_promises_and_leaves_nothing() -> None:
    with tempfile.TemporaryDirectory(prefix="gr-e2e-") as place:
        env = {**os.environ, "TMPDIR": place, "GREENROOM_HELPER_STATE": str(image_state()), "NO_COLOR": "1"}
        argv = [sys.executable, "-m", "pipeline.cli.main", "demo"]
        done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=360, check=False)
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        assert list(Path(place).iterdir()) == []
    verdicts = re.findall(r"(first|broken|fixed) push +(passed|failed)", done.stdout)
    assert verdicts == [("first", "passed"), ("broken", "failed"), ("fixed", "passed")]
    assert "\nweb-0\n19.5\n" in done.stdout
    assert re.search(r"Configured by (Chef|the script configurator: no Chef client could be had)\.", done.stdout)
    assert re.search(r"web-0 +rack-[abc] +rack-[abc]-1 *\n", done.stdout)
    assert "there is no zone rack-z; there are: rack-a, rack-b, rack-c" in done.stdout
    assert re.search(r"refused by guard in-use: take-out of machine local/rack-[abc]-1 into maintenance", done.stdout)
    assert len(re.findall(r"web-[01] .+ kept", done.stdout)) == 6
    assert "Nothing is left." in done.stdout
