"""Nothing bypasses the gate: one place tells drivers to destroy, and one lets an environment begin its end."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
#: The only module that may do either.
THE_PLACE = "pipeline/envs/removals.py"
#: Drivers themselves, one of which watches over another; and the domain, which makes states but reaches nothing.
APART = ("pipeline/adapters/", "pipeline/domain/", "pipeline/envs/calls.py")
#: What only the domain may write.
END_STATES = ("DESTROYING", "WITHDRAWN")


def sources() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted([*ROOT.glob("pipeline/**/*.py"), *ROOT.glob("workers/**/*.py")]):
        name = path.relative_to(ROOT).as_posix()
        if not name.startswith(APART):
            yield name, ast.parse(path.read_text())


def imported(tree: ast.Module) -> set[str]:
    """Names of modules, whose attributes are functions of ours and no methods of a driver."""
    found = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    return {alias.asname or alias.name for node in found for alias in node.names}


def destroys(tree: ast.Module) -> list[int]:
    """Lines that touch `<anything>.destroy`, called or passed on; a field of that name is read through."""
    modules = imported(tree)
    attributes = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    fields = {id(node.value) for node in attributes}
    named = [node for node in attributes if node.attr == "destroy" and id(node) not in fields]
    return [node.lineno for node in named if ast.unparse(node.value) not in modules]


def begins(tree: ast.Module) -> list[int]:
    """Lines that use `begin_destroying`, or move an environment to its end by hand."""
    used = [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id == "begin_destroying"]
    used += [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Attribute) and is_begin(node)]
    return used + [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Call) and moves_to_its_end(node)]


def is_begin(node: ast.Attribute) -> bool:
    return node.attr == "begin_destroying"


def moves_to_its_end(call: ast.Call) -> bool:
    to = isinstance(call.func, ast.Attribute) and call.func.attr == "to"
    states = [ast.unparse(word).rpartition(".")[2] for word in call.args]
    named = [ast.unparse(word.value).rpartition(".")[2] for word in call.keywords if word.arg == "state"]
    return any(state in END_STATES for state in [*(states if to else []), *named])


def test_drivers_are_told_to_destroy_in_one_place() -> None:
    found = {name: lines for name, tree in sources() if (lines := destroys(tree))}
    assert list(found) == [THE_PLACE]
    assert len(found[THE_PLACE]) == 1


def test_environments_begin_their_end_in_one_place() -> None:
    found = {name: lines for name, tree in sources() if (lines := begins(tree))}
    assert list(found) == [THE_PLACE]
    assert len(found[THE_PLACE]) == 1


def test_that_place_asks_the_gate() -> None:
    tree = ast.parse((ROOT / THE_PLACE).read_text())
    functions = {node.name: ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    assert "self._gate.judge(" in next(text for text in functions.values() if "begin_destroying(" in text)
    callers = {name for name, text in functions.items() if "self._destroy(" in text}
    assert callers == {"carry_out", "carry_out_nodes", "at_once"}
    assert functions["at_once"].index("self._gate.pass_(") < functions["at_once"].index("self._destroy(")
    assert "is not EnvironmentState.DESTROYING" in functions["carry_out"]
    assert "not in {NodeState.DESTROYING, NodeState.LOST}" in functions["carry_out_nodes"]


def test_cleaning_a_machine_asks_the_gate() -> None:
    calls = {
        f"{name}: {function.name}": ast.unparse(function)
        for name, tree in sources()
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef) and ".clean()" in ast.unparse(function)
    }
    assert list(calls) == ["pipeline/bootstrap.py: clean_nodes"]
    text = calls["pipeline/bootstrap.py: clean_nodes"]
    assert text.index("self.gate.pass_(") < text.index(".clean()")


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("provider.driver.destroy(id)", [1]),
        ("act = self._driver.destroy", [1]),
        ("until = plan.destroy.hold_on_failure_s", []),
        ("from pipeline.stages import destroy\ndestroy.start(stage)", []),
        ("from pipeline.cli.commands import nodes\nCOMMANDS = (nodes.destroy,)", []),
    ],
)
def test_a_way_around_is_found(text: str, lines: list[int]) -> None:
    assert destroys(ast.parse(text)) == lines


@pytest.mark.parametrize(
    "text",
    [
        "going = begin_destroying(one, now, why)",
        "going = environments.begin_destroying(one, now, why)",
        "going = one.to(E.DESTROYING, now)",
        "going = one.to(state=EnvironmentState.WITHDRAWN, now=now)",
        "going = replace(one, state=E.DESTROYING)",
    ],
)
def test_an_end_that_passed_no_gate_is_found(text: str) -> None:
    assert begins(ast.parse(text)) == [1]
