"""House rules that no other tool checks."""

from __future__ import annotations

import ast
import importlib
import os
import re
import subprocess
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import vagrant
from ruamel.yaml import YAML
from typer.core import TyperGroup
from typer.main import get_command

ROOT = Path(__file__).parents[2]
LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)")
#: Home directories and checkouts of one person's machine; the place of a path in an example is /srv or /var.
PERSONAL_PATH = re.compile(r"(?<![\w.~})-])/(home|Users|root|work)/[\w.]")
UNEXPLAINED = re.compile(r"# (noqa|type: ignore)(\[[^]]*\]|: ?[A-Z0-9, ]+)?\s*$")
#: Class names that use a word which the glossary calls wrong.
WRONG_WORDS = re.compile(
    r"(Tenant|Vcs|Phase|(?<!Open)Stack|Instance|Box|Provisioner|Balancer|Garbage|ConnectionManager)(?=[A-Z]|$)"
)
LOCK = "uv.lock"
#: Tests that bear one of these are collected by scripts/test-openstack alone.
CLOUD_MARKS = frozenset({"openstack", "hypervisor", "machines"})


def tree() -> list[str]:
    """Names of all files that are, or would be, committed."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listing = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return sorted({name for name in listing.split("\0") if name and (ROOT / name).is_file()})


FILES = tree()
TEXTS = [name for name in FILES if name != LOCK and b"\0" not in (ROOT / name).read_bytes()]
#: What other systems sent stays as it came.
OURS = [name for name in TEXTS if not name.startswith("tests/data/")]
PYTHON = [name for name in FILES if name.endswith(".py")]
DOCS = [name for name in FILES if name.endswith(".md")]


def text(name: str) -> str:
    return (ROOT / name).read_text()


def lines(names: list[str]) -> Iterator[tuple[str, str]]:
    """`file:line` and the line, of all these files."""
    for name in names:
        for number, line in enumerate(text(name).splitlines(), 1):
            yield f"{name}:{number}", line


def test_the_vagrant_folder_does_not_hide_python_vagrant() -> None:
    assert hasattr(vagrant, "Vagrant")
    assert not (ROOT / "vagrant/__init__.py").exists()


def test_text_files_are_tidy() -> None:
    assert [place for place, line in lines(OURS) if line != line.rstrip()] == []
    assert [name for name in OURS if text(name) and not re.search(r"[^\n]\n\Z", text(name))] == []
    assert [place for place, line in lines(OURS) if re.match(r"(<{7}|>{7}|\|{7}) ", line)] == []


def test_no_large_files() -> None:
    assert [name for name in FILES if name != LOCK and (ROOT / name).stat().st_size > 300_000] == []


def test_what_is_executable_names_its_interpreter() -> None:
    assert [name for name in TEXTS if os.access(ROOT / name, os.X_OK) and not text(name).startswith("#!")] == []


def test_programs_without_a_suffix_are_executable() -> None:
    # The mode of a cookbook's file is set by its recipe.
    own = [name for name in TEXTS if not name.startswith("chef-cookbooks/")]
    programs = [name for name in own if text(name).startswith("#!") and not Path(name).suffix]
    assert [name for name in programs if not os.access(ROOT / name, os.X_OK)] == []


def test_no_path_of_one_machine() -> None:
    assert [place for place, line in lines(OURS) if PERSONAL_PATH.search(line)] == []


def test_toml_and_yaml_can_be_read() -> None:
    for name in FILES:
        if name.endswith(".toml"):
            tomllib.loads(text(name))
        elif name.endswith((".yml", ".yaml")) and not name.startswith("tests/"):
            YAML(typ="safe", pure=True).load(text(name))


def test_exceptions_from_the_rules_are_explained() -> None:
    assert [place for place, line in lines(PYTHON) if UNEXPLAINED.search(line)] == []


def job_requests() -> Iterator[tuple[str, ast.Call]]:
    """Place and call of each `JobRequest(...)` in `pipeline`."""
    for name in PYTHON:
        if name.startswith("pipeline/"):
            for node in ast.walk(ast.parse(text(name))):
                if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("JobRequest"):
                    yield f"{name}:{node.lineno}", node


def requested_task(call: ast.Call) -> str | None:
    """The task's name where it is written out; None for jobs of the tick's own queue, which is no queue of RQ."""
    named = {keyword.arg or "": keyword.value for keyword in call.keywords}
    positional = dict(zip(("id", "queue", "task", "args"), call.args, strict=False))
    fields = named | positional
    match fields.get("task"):
        case ast.Constant(value=str(task)) if ast.unparse(fields["queue"]) != "TICK_QUEUE":
            return task
    return None


def test_every_task_that_is_asked_for_exists() -> None:
    tasks = importlib.import_module("workers.tasks")
    requested = [(place, task) for place, call in job_requests() if (task := requested_task(call))]
    assert requested
    assert [found for found in requested if not callable(getattr(tasks, found[1], None))] == []


def cloud_marks(source: str) -> list[int]:
    """Lines of `mark.openstack` and the like, wherever in a test file they stand."""
    return [
        node.lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Attribute)
        and node.attr in CLOUD_MARKS
        and ast.unparse(node.value).rpartition(".")[2] == "mark"
    ]


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("@pytest.mark.openstack\ndef test_it(): ...", [1]),
        ("pytestmark = [\n    pytest.mark.redis,\n    pytest.mark.hypervisor,\n]", [3]),
        ("from pytest import mark, param\nALL = [param(1, marks=mark.machines())]", [2]),
        ("# pytest.mark.openstack\nwanted.openstack = cloud.machines", []),
    ],
)
def test_marks_of_the_cloud_are_seen(source: str, found: list[int]) -> None:
    assert cloud_marks(source) == found


def test_tests_with_the_cloud_stand_where_they_are_collected() -> None:
    """scripts/test-openstack names these places, and reads no other for its marks."""
    told = re.search(r"^places=\((.*)\)$", text("scripts/test-openstack"), re.MULTILINE)
    assert told is not None
    places = tuple(f"{place}/" for place in told[1].split())
    marked = [
        f"{name}:{line}"
        for name in PYTHON
        if name.startswith("tests/") and "mark." in text(name)
        for line in cloud_marks(text(name))
    ]
    assert {place.rpartition("/")[0] + "/" for place in marked} >= set(places)
    elsewhere = [place for place in marked if not place.startswith(places)]
    assert elsewhere == [], f"move these tests to {' or '.join(places)}, or nobody runs them"


def test_an_option_that_two_commands_have_is_written_once() -> None:
    written = Counter(
        ast.unparse(node)
        for name in PYTHON
        if name.startswith("pipeline/cli/")
        for node in ast.walk(ast.parse(text(name)))
        if isinstance(node, ast.Subscript) and ast.unparse(node.value) == "Annotated"
    )
    assert written
    assert [option for option, times in written.items() if times > 1] == [], "give it a name in pipeline/cli/commands"


def test_class_names_use_the_glossary() -> None:
    classes = [
        (name, node.name)
        for name in PYTHON
        for node in ast.walk(ast.parse(text(name)))
        if isinstance(node, ast.ClassDef)
    ]
    assert [found for found in classes if WRONG_WORDS.search(found[1])] == []


@pytest.mark.parametrize("name", DOCS)
def test_links_in_documents_lead_somewhere(name: str) -> None:
    targets = LINK.findall(text(name))
    assert [target for target in targets if not (ROOT / name).parent.joinpath(target).exists()] == []


def test_documents_name_only_targets_that_make_knows() -> None:
    known = set(re.findall(r"^([a-z]+):", text("Makefile"), re.MULTILINE))
    named = {(place, target) for place, line in lines(DOCS) for target in re.findall(r"`make ([a-z]+)`", line)}
    assert named
    assert {found for found in named if found[1] not in known} == set()


def named_commands() -> Iterator[tuple[str, list[str]]]:
    """Place and words of each `greenroom …` that a document shows as a command."""
    for place, line in lines(DOCS):
        for words in re.findall(r"(?:^|`)greenroom ((?:[a-z]+(?:-[a-z]+)* ?)+)", line):
            yield place, words.split()


def is_command(root: object, words: list[str]) -> bool:
    """Whether the words begin with the name of a command, and of its subcommand if it has some."""
    command: object = root
    for word in words:
        if not isinstance(command, TyperGroup):
            break
        command = command.commands.get(word)
    return command is not None and (not isinstance(command, TyperGroup) or command.invoke_without_command)


def test_documents_name_only_commands_that_exist() -> None:
    main = importlib.import_module("pipeline.cli.main")
    root = get_command(main.app)
    named = list(named_commands())
    assert named
    assert [found for found in named if not is_command(root, found[1])] == []
