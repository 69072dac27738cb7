"""The import contracts of pyproject.toml refuse what they are there to refuse: one planted violation a contract."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

#: Contract id: file to plant, its content.
PLANTED = {
    "layers": ("pipeline/envs/planted.py", "import pipeline.stages\n"),
    "domain-layers": ("pipeline/domain/planted.py", ""),
    "workers-outermost": ("pipeline/api/planted.py", "import workers\n"),
    "one-composition-root": ("pipeline/stages/planted.py", "import pipeline.adapters.planted.one\n"),
    "adapters-know-ports-only": ("pipeline/adapters/planted/one.py", "import pipeline.settings\n"),
    "adapters-apart": ("pipeline/adapters/planted/two.py", "import pipeline.adapters.planted.one\n"),
    "adapter-kinds-apart": ("pipeline/adapters/planted_alone.py", "import pipeline.adapters.planted.one\n"),
    "pure-domain": ("pipeline/ports/planted.py", "import time\n"),
    "application-no-io": ("pipeline/envs/planted_too.py", "import subprocess\n"),
    "entry-points-no-sdk": ("pipeline/cli/planted.py", "import redis\n"),
}


def contracts() -> dict[str, str]:
    """Name of each contract by its id."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return {contract["id"]: contract["name"] for contract in settings["tool"]["importlinter"]["contracts"]}


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What import-linter says of a copy of the tree with all violations planted at once."""
    copy = tmp_path_factory.mktemp("planted")
    for package in ("pipeline", "workers"):
        shutil.copytree(ROOT / package, copy / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", copy)
    for name, content in PLANTED.values():
        path = copy / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)
    (copy / "pipeline/adapters/planted/__init__.py").write_text("")
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    result = subprocess.run(
        command, cwd=copy, env={"PYTHONPATH": str(copy), "COLUMNS": "200"}, capture_output=True, text=True, check=False
    )
    return result.stdout


def test_every_contract_has_a_planted_violation() -> None:
    assert PLANTED.keys() == contracts().keys()


@pytest.mark.parametrize("contract", PLANTED)
def test_refuses(contract: str, verdicts: str) -> None:
    assert f"{contracts()[contract]} BROKEN" in verdicts
