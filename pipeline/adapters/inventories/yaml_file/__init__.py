"""Reads `inventory.yml`: the machines of a provider, as an operator declares them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

from pipeline.adapters.inventories.yaml_file import convert
from pipeline.adapters.inventories.yaml_file.formats import FORMATS
from pipeline.adapters.inventories.yaml_file.names import contradiction_findings, name_findings, twice
from pipeline.clients.yaml12.check import in_order, make_validator, schema_findings
from pipeline.clients.yaml12.tree import Bounds, Tree, Unreadable, load
from pipeline.domain.errors import Finding, InvalidInventory, UserError
from pipeline.domain.inventory import Inventory, checked
from pipeline.domain.rules import OperatorRule

#: Ranges say a large inventory in few lines; 5,000 machines line by line fit, too.
BOUNDS = Bounds("an inventory", size=4 * 1024 * 1024, values=200_000)
_SCHEMA_FILE = Path(__file__).parent / "inventory.schema.json"


def content_of(path: Path) -> bytes:
    """What the file holds, no more than an inventory may; UserError says why it cannot be read."""
    try:
        if path.exists() and not path.is_file():
            raise UserError(f"{path} cannot be read: it is {'a directory' if path.is_dir() else 'no regular file'}")
        with path.open("rb") as file:
            return file.read(BOUNDS.size + 1)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error


def parse(source: str, content: bytes) -> Inventory:
    """The inventory that `content` declares; `source` names the file in messages."""
    tree = _tree(source, content)
    _refuse(source, _findings(tree))
    inventory = convert.inventory(tree.data)
    _refuse(source, contradiction_findings(tree, inventory))
    return checked(inventory)


def read_rules(source: str, text: str, whose: str) -> tuple[OperatorRule, ...]:
    """The rules of a text that has nothing else, in the words of an inventory's; InvalidInventory as `parse`.

    `whose` they are, a person reads in refusals: `project shop`.
    """
    tree = _tree(source, text.encode())
    _refuse(source, chain(tree.findings, schema_findings(_rules_validator(), tree), twice(tree, "rules", "rule")))
    return tuple(convert.rule(one, whose) for one in tree.data["rules"])


def _tree(source: str, content: bytes) -> Tree:
    try:
        return load(content, BOUNDS)
    except Unreadable as error:
        raise InvalidInventory(source, (error.finding,)) from error


def schema() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(_SCHEMA_FILE.read_text(encoding="utf-8"))
    return found


def _findings(tree: Tree) -> Iterator[Finding]:
    yield from tree.findings
    yield from schema_findings(_validator(), tree)
    yield from name_findings(tree)


def _refuse(source: str, found: Iterable[Finding]) -> None:
    findings = in_order(found)
    if findings:
        raise InvalidInventory(source, findings)


@cache
def _validator() -> Any:
    return make_validator(schema(), FORMATS)


@cache
def _rules_validator() -> Any:
    """Of a file with `version` and `rules` alone."""
    whole = schema()
    known = {name: whole["properties"][name] for name in ("version", "rules")}
    return make_validator({**whole, "title": "a file of rules", "properties": known, "required": list(known)}, FORMATS)
