"""Reading test reports."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from pipeline.domain.reports import TestReport


class ReportReader(Protocol):
    """Pure; any number of callers. The reports come from repositories and nodes, and are not trusted."""

    def read(self, source: str, pieces: Iterable[bytes]) -> TestReport:
        """Read a report piece by piece; `source` names it in messages.

        Errors: TooLarge (bytes, cases), UserError with the line when it is broken or no report at all.
        """
