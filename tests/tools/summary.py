"""Sum up JUnit reports of pytest: what was skipped and why, and as the last line the count."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from defusedxml import ElementTree

#: pytest puts the place before the reason: `/path/test_x.py:12: no client`.
PLACE = re.compile(r"^\S+\.py:\d+: ")


@dataclass
class Summary:
    """Counts of test cases; an error in a fixture counts as failed. `skipped` maps a reason to the tests it names."""

    passed: int = 0
    failed: int = 0
    skipped: dict[str, list[str]] = field(default_factory=dict)

    @property
    def closing_line(self) -> str:
        skipped = sum(len(names) for names in self.skipped.values())
        return f"{self.passed} passed, {self.failed} failed, {skipped} skipped"

    def read(self, report: Path) -> None:
        """Add one report."""
        for case in ElementTree.parse(report).iter("testcase"):
            name = f"{case.get('classname') or ''}::{case.get('name')}".removeprefix("::")
            skip = case.find("skipped")
            if case.find("failure") is not None or case.find("error") is not None:
                self.failed += 1
            elif skip is not None:
                self.skipped.setdefault(_reason(skip.get("message"), skip.text), []).append(name)
            else:
                self.passed += 1

    def refused(self, allowed: Sequence[str]) -> list[str]:
        """Reasons that match none of these regular expressions."""
        return [reason for reason in self.skipped if not any(re.search(pattern, reason) for pattern in allowed)]


def _reason(message: str | None, text: str | None) -> str:
    return message or PLACE.sub("", text or "") or "no reason given"


def patterns(lines: Iterable[str]) -> list[str]:
    """The regular expressions in a list of allowed reasons: one a line, `#` starts a remark."""
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def render(summary: Summary, refused: Sequence[str]) -> list[str]:
    """Lines for a person, the count last."""
    lines = [f"skipped {len(names):4}  {reason}" for reason, names in sorted(summary.skipped.items())]
    for reason in refused:
        lines.append(f"not allowed to skip here: {reason}")
        lines.extend(f"    {name}" for name in summary.skipped[reason])
    return [*lines, summary.closing_line]


def main(arguments: Sequence[str]) -> int:
    """Exit status: 1 when a test failed, none ran, or one was skipped for a reason that is not allowed."""
    parser = argparse.ArgumentParser(prog="python -m tests.tools.summary", description=__doc__)
    parser.add_argument(
        "--allow", type=Path, help="file of regular expressions: reasons for which a test may be skipped"
    )
    parser.add_argument("reports", nargs="+", type=Path)
    options = parser.parse_args(arguments)
    summary = Summary()
    for report in options.reports:
        summary.read(report)
    refused = summary.refused(patterns(options.allow.read_text().splitlines())) if options.allow else []
    sys.stdout.write("\n".join(render(summary, refused)) + "\n")
    return 1 if summary.failed or refused or not summary.passed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
