"""Reads `greenroom.yml`: YAML 1.2, the published schema, and what a schema cannot say.

YAML and JSON Schema libraries are imported at the first `read`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any

from pipeline.adapters.blueprints.yaml12.check import load_schema, make_validator, schema_findings
from pipeline.adapters.blueprints.yaml12.convert import blueprint
from pipeline.adapters.blueprints.yaml12.rules import rule_findings
from pipeline.adapters.blueprints.yaml12.tree import Tree, Unreadable, load
from pipeline.domain.blueprint import Blueprint
from pipeline.domain.errors import Finding, InvalidBlueprint

#: More mistakes than a person reads in one go.
_MOST_FINDINGS = 100


class YamlBlueprintReader:
    """See `ports.blueprints.BlueprintReader`."""

    def read(self, source: str, content: bytes) -> Blueprint:
        try:
            tree = load(content)
        except Unreadable as error:
            raise InvalidBlueprint(source, (error.finding,)) from error
        findings = _in_order(self._findings(tree))
        if findings:
            raise InvalidBlueprint(source, findings)
        return blueprint(tree.data)

    def schema(self) -> Mapping[str, Any]:
        return load_schema()

    def _findings(self, tree: Tree) -> Iterator[Finding]:
        yield from tree.findings
        yield from schema_findings(self._validator, tree)
        yield from rule_findings(tree)

    @cached_property
    def _validator(self) -> Any:
        return make_validator(load_schema())


def _in_order(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Each finding once, in the order of the file."""
    ordered = sorted(dict.fromkeys(findings), key=lambda finding: (finding.line, finding.column))
    rest = len(ordered) - _MOST_FINDINGS
    if rest <= 0:
        return tuple(ordered)
    last = ordered[_MOST_FINDINGS - 1]
    return (*ordered[:_MOST_FINDINGS], Finding(last.line, last.column, "", f"and {rest} more mistakes"))
