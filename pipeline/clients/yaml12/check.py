"""Checks against a schema, in words that tell what was expected where."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from pipeline.clients.yaml12.tree import Path, Tree
from pipeline.domain.errors import Finding

#: More mistakes than a person reads in one go.
MOST_FINDINGS = 100

_NOUNS = {
    "object": "a mapping",
    "array": "a list",
    "string": "a text",
    "integer": "a whole number",
    "boolean": "true or false",
    "null": "nothing",
}
_BOUNDS = {
    "minimum": "expected at least {bound}, got {got}",
    "maximum": "expected at most {bound}, got {got}",
    "exclusiveMinimum": "expected more than {bound}, got {got}",
    "minItems": "expected at least {bound} entries",
    "maxItems": "expected at most {bound} entries",
    "minProperties": "expected at least {bound} entry",
    "maxProperties": "expected at most {bound} entries",
    "minLength": "expected at least {bound} character",
    "maxLength": "expected at most {bound} characters",
}


def nearest(name: str, known: Iterable[str]) -> str:
    """`; did you mean X?`, or the known names when none is near."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    if close:
        return f"; did you mean {close[0]}?"
    return f"; known are {', '.join(names[:30])}" if names else ""


def make_validator(schema: Mapping[str, Any], formats: Mapping[str, Callable[[str], object]]) -> Any:
    """A validator of `schema`; `formats` judge texts by raising a ValueError that says what was expected."""
    from jsonschema import Draft202012Validator, FormatChecker

    checker = FormatChecker(formats=())
    for name, parse in formats.items():
        checker.checks(name, raises=ValueError)(_on_texts(parse))
    return Draft202012Validator(schema, format_checker=checker)


def schema_findings(validator: Any, tree: Tree) -> Iterator[Finding]:
    """All violations of the schema; what a format says goes before what its pattern says."""
    errors = list(validator.iter_errors(tree.data))
    spoken = {tuple(error.absolute_path) for error in errors if error.validator == "format"}
    for error in errors:
        if error.validator != "pattern" or tuple(error.absolute_path) not in spoken:
            yield from _explain(error, tree)


def _on_texts(parse: Callable[[str], object]) -> Callable[[object], bool]:
    def holds(value: object) -> bool:
        if isinstance(value, str):
            parse(value)
        return True

    return holds


def _explain(error: Any, tree: Tree) -> Iterator[Finding]:
    path: Path = tuple(error.absolute_path)
    if _is_faulty(tree, path, error.instance):
        return
    if error.validator in _SEVERAL:
        yield from _SEVERAL[error.validator](error, tree, path)
    elif error.parent is None and "propertyNames" in error.absolute_schema_path:
        yield tree.at_key((*path, error.instance), _one(error))
    else:
        yield tree.at_value(path, _one(error))


def _is_faulty(tree: Tree, path: Path, value: object) -> bool:
    """A value that could not be read was reported already; it is no null."""
    return value is None and any(tree.at_value(path, "").key == finding.key for finding in tree.findings)


def _unknown_keys(error: Any, tree: Tree, path: Path) -> Iterator[Finding]:
    known = error.schema.get("properties", {})
    for key in error.instance:
        if key not in known:
            yield tree.at_key((*path, key), f"unknown key{nearest(key, known)}")


def _missing_keys(error: Any, tree: Tree, path: Path) -> Iterator[Finding]:
    for key in error.validator_value:
        if key not in error.instance and f"'{key}'" in error.message:
            yield tree.at_value(path, f"expected the key `{key}`{_missing_hint(error.schema, key)}")


def _missing_beside(error: Any, tree: Tree, path: Path) -> Iterator[Finding]:
    for key, needed in error.validator_value.items():
        for missing in set(needed) - set(error.instance) if key in error.instance else ():
            yield tree.at_key(
                (*path, key), f"expected the key `{missing}` beside it{_missing_hint(error.schema, missing)}"
            )


def _missing_hint(schema: Mapping[str, Any], key: str) -> str:
    """Why the key may not be missing, as a `$comment` of the schema says, else what it is."""
    told = schema.get("properties", {}).get(key)
    hint = told.get("$comment", told.get("title")) if isinstance(told, Mapping) else None
    return f": {hint}" if hint else ""


def _one_of(error: Any, tree: Tree, path: Path) -> Iterator[Finding]:
    names = ", ".join(branch["required"][0] for branch in error.validator_value)
    yield tree.at_value(path, f"expected exactly one of {names}")


_SEVERAL: Mapping[str, Callable[[Any, Tree, Path], Iterator[Finding]]] = {
    "additionalProperties": _unknown_keys,
    "required": _missing_keys,
    "dependentRequired": _missing_beside,
    "oneOf": _one_of,
}


def _one(error: Any) -> str:
    kind = error.validator
    if kind in _BOUNDS:
        return _BOUNDS[kind].format(bound=error.validator_value, got=error.instance)
    if kind == "format":
        return str(error.cause)
    if kind in ("enum", "const"):
        return _choice(error)
    if kind == "not":
        return "this key has no meaning beside the others of this entry"
    if kind == "uniqueItems":
        return "expected every entry once"
    return f"expected {_title(error)}, got {_shown(error.instance)}"


def _choice(error: Any) -> str:
    choices = error.validator_value if error.validator == "enum" else [error.validator_value]
    expected = f"expected {' or '.join(str(choice) for choice in choices)}, got {_shown(error.instance)}"
    if isinstance(error.instance, str) and error.validator == "enum":
        close = difflib.get_close_matches(error.instance, choices, n=1)
        return f"{expected}; did you mean {close[0]}?" if close else expected
    return expected


def _title(error: Any) -> str:
    if "title" in error.schema:
        return str(error.schema["title"])
    kinds = error.validator_value if isinstance(error.validator_value, list) else [error.validator_value]
    return " or ".join(_NOUNS.get(str(kind), str(kind)) for kind in kinds)


def _shown(value: object) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return f"the truth value {str(value).lower()}"
    if isinstance(value, str):
        return repr(value[:80])
    if isinstance(value, dict):
        return "a mapping"
    return "a list" if isinstance(value, list) else f"the number {value}"


def in_order(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Each finding once, in the order of the file."""
    ordered = sorted(dict.fromkeys(findings), key=lambda finding: (finding.line, finding.column))
    rest = len(ordered) - MOST_FINDINGS
    if rest <= 0:
        return tuple(ordered)
    last = ordered[MOST_FINDINGS - 1]
    return (*ordered[:MOST_FINDINGS], Finding(last.line, last.column, "", f"and {rest} more mistakes"))
