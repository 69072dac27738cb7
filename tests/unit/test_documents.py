"""What the documents say of settings, commands, options, routes and blueprints is so."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from pipeline.adapters.blueprints.yaml12 import YamlBlueprintReader
from pipeline.api.app import create
from pipeline.bootstrap import build
from pipeline.settings import ProviderSettings, Settings

ROOT = Path(__file__).parents[2]
OPERATING = (ROOT / "docs/guides/operating.md").read_text()
COMMAND_LINE = (ROOT / "docs/guides/cli.md").read_text()
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
BLUEPRINTS = [
    pytest.param(text, id=f"{path.name}-{number}")
    for path in DOCUMENTS
    for number, (kind, text) in enumerate(BLOCK.findall(path.read_text()))
    if kind == "yaml" and text.startswith("version:")
]


def table(text: str, head: str) -> Mapping[str, str]:
    """First to second column of the table whose first head is `head`."""
    _, _, after = text.partition(f"\n| {head} |")
    rows = after.partition("\n\n")[0].splitlines()[2:]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    return {cell[0].strip("`"): cell[1] for cell in cells}


def defaults(model: type[BaseModel]) -> Iterator[tuple[str, str]]:
    """Each setting whose default can be read off, as TOML would write it."""
    for name, field in model.model_fields.items():
        value: Any = field.default
        if isinstance(value, bool):
            yield name, f"`{str(value).lower()}`"
        elif isinstance(value, int | float):
            yield name, f"`{value:g}`"
        elif isinstance(value, str | Path) and str(value) and name != "deployment_id":
            yield name, f"`{value}`"


@pytest.mark.parametrize(("head", "model"), [("setting", Settings), ("of a provider", ProviderSettings)])
def test_every_setting_is_told_with_its_default(head: str, model: type[BaseModel]) -> None:
    told = table(OPERATING, head)
    assert told.keys() == model.model_fields.keys()
    assert {name: told[name] for name, _ in defaults(model)} == dict(defaults(model))


def commands(command: object, name: str = "greenroom") -> Iterator[tuple[str, TyperCommand]]:
    """All commands by the words that call them."""
    if isinstance(command, TyperGroup) and command.invoke_without_command:
        yield name, TyperCommand(name, callback=command.callback, params=command.params)
    if isinstance(command, TyperGroup):
        for word, below in command.commands.items():
            yield from commands(below, f"{name} {word}")
    elif isinstance(command, TyperCommand):
        yield name, command


@pytest.fixture(scope="module")
def known() -> Mapping[str, TyperCommand]:
    return dict(commands(get_command(importlib.import_module("pipeline.cli.main").app)))


def test_the_guide_names_every_command(known: Mapping[str, TyperCommand]) -> None:
    assert [name for name in known if not re.search(rf"^{name}\b", COMMAND_LINE, re.MULTILINE)] == []


def test_the_guide_names_every_option(known: Mapping[str, TyperCommand]) -> None:
    told = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", COMMAND_LINE))
    options = {
        name: [param.opts for param in command.params if param.opts[0].startswith("-")]
        for name, command in known.items()
    }
    assert {
        name: missing for name, all_ in options.items() if (missing := [one for one in all_ if not told & set(one)])
    } == {}


def named_options() -> Iterator[tuple[str, str, str]]:
    """File, command line and option of each `greenroom … --option` in a document."""
    for path in DOCUMENTS:
        for line in re.findall(r"(?:^|`)(greenroom [^`#\n]*)", path.read_text(), re.MULTILINE):
            ours = line.partition(" -- ")[0]
            yield from ((path.name, ours, option) for option in re.findall(r"(?<= )--?[a-z][a-z-]*", ours))


def test_documents_name_only_options_that_exist(known: Mapping[str, TyperCommand]) -> None:
    wrong = []
    found = list(named_options())
    for file, line, option in found:
        command = max((name for name in known if f"{line} ".startswith(f"{name} ")), key=len, default="")
        options = [word for option in known[command].params for word in option.opts] if command else []
        if option not in {*options, "--help", "-h"}:
            wrong.append((file, line, option))
    assert found
    assert wrong == []


@pytest.mark.parametrize("text", BLUEPRINTS)
def test_blueprints_in_documents_are_good(text: str) -> None:
    assert YamlBlueprintReader().read("greenroom.yml", text.encode()).service


@pytest.fixture
def paths(tmp_path: Path) -> Mapping[str, Any]:
    """The routes, as OpenAPI describes them."""
    described: Mapping[str, Any] = create(build(Settings(home=tmp_path))).openapi()["paths"]
    return described


def test_the_guide_to_the_api_tells_every_route(paths: Mapping[str, Any]) -> None:
    routes = [f"{method.upper()} {path}" for path, methods in paths.items() for method in methods]
    assert list(table((ROOT / "docs/guides/api.md").read_text(), "route")) == routes


def test_the_list_of_decisions_has_every_record() -> None:
    records = sorted((ROOT / "docs/adr").glob("0*.md"))
    rows = re.findall(r"^\| (\d+) \| \[(.*)\]\((.*)\) \|$", (ROOT / "docs/adr/README.md").read_text(), re.MULTILINE)
    assert [f"# {number}. {title}" for number, title, _ in rows] == [one.read_text().splitlines()[0] for one in records]
    assert [name for _, _, name in rows] == [one.name for one in records]


def test_the_guide_to_the_api_calls_only_routes_that_exist(paths: Mapping[str, Any]) -> None:
    patterns = [re.compile(re.sub(r"\{name\}$", ".+", path).replace("{id}", "[^/]+") + "$") for path in paths]
    patterns += [re.compile(re.sub(r"\{\w+\}", "[^/]+", path) + "$") for path in paths]
    text = (ROOT / "docs/guides/api.md").read_text()
    called = [path.split("?")[0] for path in re.findall(r"\$api(/[^\s\"]+)", text)]
    called = [path for path in called if path != "/openapi.json"]
    assert called
    assert [path for path in called if not any(pattern.match(path) for pattern in patterns)] == []


#: What the walk by curl shows whole.
WALKED = ("environments", "commands", "templates", "pools", "stagings", "schedules", "placements")


def walked() -> Iterator[tuple[str, str]]:
    """Method and path of each call in the walk by curl."""
    for line in (ROOT / "docs/guides/walk.md").read_text().splitlines():
        for call in line.split("curl ")[1:]:
            path = re.search(r"\$URL(/[^\s\"|?]+)", call)
            method = re.search(r"-X (\w+)", call)
            if path is not None:
                yield method[1] if method else "POST" if "--json" in call else "GET", path[1]


def test_the_walk_by_curl_calls_every_route_around_environments(paths: Mapping[str, Any]) -> None:
    calls = list(walked())
    left = []
    for path, methods in paths.items():
        pattern = re.compile(re.sub(r"\{\w+\}", "[^/]+", path))
        for method, told in methods.items():
            twin = str(told["summary"]).lower().startswith("the same")
            if path.startswith(tuple(f"/v1/{part}" for part in WALKED)) and not twin:
                found = any(one == method.upper() and pattern.fullmatch(called) for one, called in calls)
                left += [] if found else [f"{method.upper()} {path}"]
    assert left == []
