"""How the mistakes of a file are told: as FILE:LINE:COLUMN, which editors jump to, or as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.cli.output import Output

if TYPE_CHECKING:
    from pipeline.domain.errors import InvalidFile


def tell_findings(out: Output, path: Path, error: InvalidFile) -> None:
    if out.as_json:
        out.data({"file": str(path), "findings": [vars(finding) for finding in error.findings]})
        return
    for finding in error.findings:
        key = f" {finding.key}:" if finding.key else ""
        out.say(f"{path}:{finding.line}:{finding.column}:{key} {finding.message}")
