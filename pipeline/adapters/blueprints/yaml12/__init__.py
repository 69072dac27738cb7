"""Reads `greenroom.yml`: YAML 1.2, the published schema, and what a schema cannot say.

YAML and JSON Schema libraries are imported at the first `read`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from pipeline.adapters.blueprints.yaml12.convert import blueprint
from pipeline.adapters.blueprints.yaml12.formats import FORMATS
from pipeline.adapters.blueprints.yaml12.rules import rule_findings
from pipeline.clients.yaml12.check import in_order, make_validator, schema_findings
from pipeline.clients.yaml12.tree import Bounds, Tree, Unreadable, load
from pipeline.domain.blueprint import Blueprint
from pipeline.domain.errors import Finding, InvalidBlueprint
from pipeline.domain.qos import PROFILES, QosProfile

BOUNDS = Bounds("a blueprint", size=256 * 1024, values=20_000)
_SCHEMA_FILE = Path(__file__).parent.parent / "greenroom.schema.json"


def load_schema() -> dict[str, Any]:
    schema: dict[str, Any] = json.loads(_SCHEMA_FILE.read_text(encoding="utf-8"))
    return schema


class YamlBlueprintReader:
    """See `ports.blueprints.BlueprintReader`; `profiles` are the QoS profiles that a blueprint may name."""

    def __init__(self, profiles: Mapping[str, QosProfile] = PROFILES) -> None:
        self._profiles = profiles

    def read(self, source: str, content: bytes) -> Blueprint:
        try:
            tree = load(content, BOUNDS)
        except Unreadable as error:
            raise InvalidBlueprint(source, (error.finding,)) from error
        findings = in_order(self._findings(tree))
        if findings:
            raise InvalidBlueprint(source, findings)
        return blueprint(tree.data, self._profiles)

    def schema(self) -> Mapping[str, Any]:
        """With the profiles that there are, which editors offer."""
        found = load_schema()
        qos = found["$defs"]["qos"]
        qos["examples"] = qos["properties"]["profile"]["examples"] = sorted(self._profiles)
        return found

    def _findings(self, tree: Tree) -> Iterator[Finding]:
        yield from tree.findings
        yield from schema_findings(self._validator, tree)
        yield from rule_findings(tree, self._profiles)

    @cached_property
    def _validator(self) -> Any:
        return make_validator(load_schema(), FORMATS)
