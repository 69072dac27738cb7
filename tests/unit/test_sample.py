"""The sample application is what its own papers say."""

from __future__ import annotations

import os
from pathlib import Path

from pipeline.adapters.blueprints.yaml12 import YamlBlueprintReader

SAMPLE = Path(__file__).parents[2] / "pipeline" / "demo" / "sample"


def test_its_blueprint_is_valid_and_names_files_that_exist() -> None:
    blueprint = YamlBlueprintReader().read("greenroom.yml", (SAMPLE / "greenroom.yml").read_bytes())
    assert blueprint.environment.node_names == ("web-0", "web-1", "db-0")
    for role in blueprint.environment.roles:
        assert role.script is not None
        assert (SAMPLE / role.script).is_file()
    commands = [command for deploy in blueprint.deploy for command in deploy.run]
    assert all((SAMPLE / command.split()[0]).is_file() for command in commands)


def test_its_programs_can_be_run() -> None:
    programs = [*(SAMPLE / "bin").iterdir(), *(SAMPLE / "configure").iterdir()]
    assert programs
    assert [path.name for path in programs if not os.access(path, os.X_OK)] == []
