"""YAML 1.2 text to plain data that remembers where every value stood.

The text comes from strangers: tags are refused, aliases are counted, depth and size are bounded.
Only the parser of ruamel.yaml is used; scalars are read by the core schema of YAML 1.2, so `on` is a text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.domain.errors import Finding

LIMIT_DEPTH = 32

Path = tuple[str | int, ...]

_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_BOOL = {word: value for value in (True, False) for word in (str(value), str(value).lower(), str(value).upper())}
_INT = re.compile(r"[-+]?\d+", re.ASCII)
_OCTAL = re.compile(r"0o[0-7]+")
_HEX = re.compile(r"0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.\d+|\d+(\.\d*)?)([eE][-+]?\d+)?", re.ASCII)
_NOT_A_NUMBER = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
#: What follows where a bracket or brace stands in a text, as in `on: web[0]` between braces.
_QUOTES = '; a text with brackets or braces in it needs quotes there, such as "web[0]"'
_LONGEST_NUMBER = 18
_LONGEST_MESSAGE = 500


@dataclass(frozen=True)
class Bounds:
    """What a file holds, in words, and the most that it may hold: bytes and values."""

    noun: str
    size: int
    values: int


class Unreadable(Exception):
    """The text is no YAML that can be taken; nothing more can be said about it than `finding`."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.message)
        self.finding = finding


@dataclass(frozen=True)
class Place:
    """Line and column, both from 1."""

    line: int
    column: int


@dataclass
class Node:
    """One value as it was parsed; `fault` says why it cannot be used."""

    place: Place
    value: Any = None
    fault: str = ""


@dataclass
class Tree:
    """Plain data, the place of every key and value in it, and what was wrong on the way."""

    data: Any = None
    keys: dict[Path, Place] = field(default_factory=dict)
    values: dict[Path, Place] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    def at_key(self, path: Path, message: str) -> Finding:
        return _finding(self.keys.get(path) or self._nearest(path), path, message)

    def at_value(self, path: Path, message: str) -> Finding:
        return _finding(self._nearest(path), path, message)

    def _nearest(self, path: Path) -> Place:
        while path and path not in self.values:
            path = path[:-1]
        return self.values.get(path, Place(1, 1))


def show(path: Path) -> str:
    """`deploy[0].to` of a path."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part[:80]}" for part in path)
    return text.removeprefix(".")


def load(content: bytes, bounds: Bounds) -> Tree:
    """Read one document; Unreadable when there is no tree to speak of."""
    text = _decode(content, bounds)
    tree = Tree()
    tree.data = _Expander(tree, bounds).expand(_Composer(text, bounds).document(), ())
    return tree


def _finding(place: Place, path: Path, message: str) -> Finding:
    shown = message if len(message) <= _LONGEST_MESSAGE else message[: _LONGEST_MESSAGE - 1] + "…"
    return Finding(place.line, place.column, show(path), shown)


def _decode(content: bytes, bounds: Bounds) -> str:
    if len(content) > bounds.size:
        raise Unreadable(Finding(1, 1, "", f"expected at most {bounds.size // 1024} KiB, got {len(content)} bytes"))
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start]
        column = error.start - (before.rfind(b"\n") + 1) + 1
        place = Finding(
            before.count(b"\n") + 1, column, "", f"expected UTF-8, got the byte 0x{content[error.start]:02x}"
        )
        raise Unreadable(place) from error


class _Composer:
    """Builds nodes out of the parser's events."""

    def __init__(self, text: str, bounds: Bounds) -> None:
        self._events = _events(text)
        self._bounds = bounds
        self._anchors: dict[str, Node] = {}
        self._count = 0

    def document(self) -> Node:
        node: Node | None = None
        for event in self._events:
            kind = type(event).__name__
            if kind == "DocumentStartEvent" and node is not None:
                raise Unreadable(_finding(_place(event), (), "expected one document, a second one starts here"))
            if kind == "DocumentStartEvent":
                _refuse_version(event)
                node = self._node(self._next(), 0)
        if node is None or (node.value == "" and node.fault == ""):
            raise Unreadable(Finding(1, 1, "", f"the file is empty; {self._bounds.noun} starts with `version: 1`"))
        return node

    def _next(self) -> Any:
        self._count += 1
        event = next(self._events)
        if self._count > self._bounds.values:
            raise Unreadable(_finding(_place(event), (), f"expected at most {self._bounds.values} values"))
        return event

    def _node(self, event: Any, depth: int) -> Node:
        if type(event).__name__ == "AliasEvent":
            return self._alias(event)
        if depth > LIMIT_DEPTH:
            raise Unreadable(_finding(_place(event), (), f"nested deeper than {LIMIT_DEPTH} levels"))
        node = Node(_place(event))
        node.value = self._value(event, depth)
        node.fault = f"tags such as {_tag(event)} are refused; write the value plainly" if event.tag else ""
        if event.anchor:
            self._anchors[event.anchor] = node
        return node

    def _alias(self, event: Any) -> Node:
        known = self._anchors.get(event.anchor)
        if known is None:
            return Node(_place(event), fault=f"*{event.anchor} names no anchor that was set before")
        return Node(_place(event), value=known.value, fault=known.fault)

    def _value(self, event: Any, depth: int) -> Any:
        kind = type(event).__name__
        if kind == "SequenceStartEvent":
            return self._items(depth)
        if kind == "MappingStartEvent":
            return self._pairs(depth)
        return _Scalar(event.value, plain=bool(event.implicit[0]))

    def _items(self, depth: int) -> list[Node]:
        items = []
        while type(event := self._next()).__name__ != "SequenceEndEvent":
            items.append(self._node(event, depth + 1))
        return items

    def _pairs(self, depth: int) -> tuple[tuple[Node, Node], ...]:
        pairs = []
        while type(event := self._next()).__name__ != "MappingEndEvent":
            key = self._node(event, depth + 1)
            pairs.append((key, self._node(self._next(), depth + 1)))
        return tuple(pairs)


class _Scalar(str):
    """A scalar's text; `plain` ones may mean a number, a truth or nothing."""

    __slots__ = ("plain",)
    plain: bool

    def __new__(cls, text: str, *, plain: bool) -> _Scalar:
        scalar = super().__new__(cls, text)
        scalar.plain = plain
        return scalar


class _Expander:
    """Turns nodes into plain data, aliases into copies."""

    def __init__(self, tree: Tree, bounds: Bounds) -> None:
        self._tree = tree
        self._most = bounds.values
        self._count = 0

    def expand(self, node: Node, path: Path) -> Any:
        self._count += 1
        if self._count > self._most or len(path) > LIMIT_DEPTH:
            raise Unreadable(_finding(node.place, path, f"aliases expand to more than {self._most} values"))
        self._tree.values[path] = node.place
        if node.fault:
            self._tree.findings.append(_finding(node.place, path, node.fault))
            return None
        return self._expand_value(node, path)

    def _expand_value(self, node: Node, path: Path) -> Any:
        if isinstance(node.value, list):
            return [self.expand(item, (*path, i)) for i, item in enumerate(node.value)]
        if isinstance(node.value, tuple):
            return self._expand_pairs(node.value, path)
        return self._checked_scalar(node, path)

    def _checked_scalar(self, node: Node, path: Path) -> Any:
        try:
            return _resolve(node.value)
        except ValueError as error:
            self._tree.findings.append(_finding(node.place, path, str(error)))
            return None

    def _expand_pairs(self, pairs: tuple[tuple[Node, Node], ...], path: Path) -> Mapping[str, Any]:
        mapping: dict[str, Any] = {}
        for key_node, value_node in pairs:
            key = self._key(key_node, path)
            if key is None:
                continue
            if key in mapping:
                first = self._tree.keys[*path, key]
                message = f"the key stands here twice, first in line {first.line}"
                self._tree.findings.append(_finding(key_node.place, (*path, key), message))
                continue
            self._tree.keys[*path, key] = key_node.place
            mapping[key] = self.expand(_placed(value_node, key_node), (*path, key))
        return mapping

    def _key(self, node: Node, path: Path) -> str | None:
        key = None if node.fault or not isinstance(node.value, _Scalar) else self._checked_scalar(node, path)
        if isinstance(key, str):
            return key
        written = f", got {str(node.value)[:40]!r}: put it in quotes" if isinstance(node.value, _Scalar) else ""
        message = node.fault or f"expected a text as key{written}"
        self._tree.findings.append(_finding(node.place, path, message))
        return None


def _placed(value: Node, key: Node) -> Node:
    """A value that is not written stands, to the parser, wherever the next thing does; say its key's place."""
    missing = isinstance(value.value, _Scalar) and value.value == "" and value.value.plain
    return Node(key.place, value.value, value.fault) if missing else value


def _resolve(scalar: _Scalar) -> Any:
    """What a scalar means in the core schema of YAML 1.2; ValueError for numbers that JSON does not have."""
    text = str(scalar)
    if not scalar.plain:
        return text
    if text in _NULL:
        return None
    if text in _BOOL:
        return _BOOL[text]
    if _NOT_A_NUMBER.fullmatch(text):
        raise ValueError(f"expected a finite number, got {text}")
    return _number(text)


def _number(text: str) -> Any:
    whole = _INT.fullmatch(text) or _OCTAL.fullmatch(text) or _HEX.fullmatch(text)
    if whole and len(text) > _LONGEST_NUMBER:
        raise ValueError(f"expected at most {_LONGEST_NUMBER} digits, or a text in quotes")
    if whole:
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
    if not _FLOAT.fullmatch(text):
        return text
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"expected a finite number, got {text[:40]}")
    return number


def _events(text: str) -> Iterator[Any]:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        yield from YAML(typ="safe", pure=True).parse(text)
    except MarkedYAMLError as error:
        raise Unreadable(_syntax(error)) from error
    except YAMLError as error:
        raise Unreadable(_control_character(text, getattr(error, "position", 0))) from error


def _syntax(error: Any) -> Finding:
    mark = error.problem_mark or error.context_mark
    place = Place(mark.line + 1, mark.column + 1) if mark else Place(1, 1)
    if "'\\t'" in str(error.problem):
        return _finding(place, (), "a tab stands where only spaces may: YAML is indented with spaces")
    context = f" {error.context}" if error.context else ""
    quotes = _QUOTES if "flow" in context and str(error.problem).endswith(("got '['", "got '{'")) else ""
    return _finding(place, (), f"this is no YAML: {error.problem}{context}{quotes}")


def _control_character(text: str, position: int) -> Finding:
    before = text[:position]
    character = f"U+{ord(text[position]):04X}" if position < len(text) else "a character"
    place = Place(before.count("\n") + 1, position - before.rfind("\n"))
    return _finding(place, (), f"YAML does not allow the character {character}")


def _refuse_version(event: Any) -> None:
    version = getattr(event, "version", None)
    if version and tuple(version)[:2] != (1, 2):
        raise Unreadable(_finding(_place(event), (), "the file is read as YAML 1.2; remove the %YAML line"))


def _place(event: Any) -> Place:
    return Place(event.start_mark.line + 1, event.start_mark.column + 1)


def _tag(event: Any) -> str:
    return "!!" + str(event.tag).removeprefix("tag:yaml.org,2002:") if "yaml.org" in str(event.tag) else str(event.tag)
