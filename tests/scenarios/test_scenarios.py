"""Whole pipelines as data: one file a scenario."""

from __future__ import annotations

from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tests.scenarios.player import Player

CASES = sorted((Path(__file__).parent / "cases").glob("*.yml"))


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_scenario(path: Path, tmp_path: Path) -> None:
    case = YAML(typ="safe", pure=True).load(path.read_text())
    Player(case, str(tmp_path)).play()


def test_there_are_enough() -> None:
    assert len(CASES) >= 24
