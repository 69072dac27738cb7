"""Reading a greenroom.yml."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from pipeline.domain.blueprint import Blueprint


class BlueprintReader(Protocol):
    """Pure; any number of callers."""

    def read(self, source: str, content: bytes) -> Blueprint:
        """Check and convert; `source` names the file in messages. InvalidBlueprint with every mistake found."""

    def schema(self) -> Mapping[str, Any]:
        """The published JSON Schema (draft 2020-12)."""
