"""Test reports as we keep them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class CaseStatus(StrEnum):
    """How a test case ended: `failed` says that the product is wrong, `error` that the test itself broke."""

    PASSED = "passed"
    FAILED = "failed"
    ERROR = "error"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class TestCase:
    """One test case; `message` is why it failed or was skipped, `time_s` is 0 when the report does not say."""

    __test__ = False  # not a test class, whatever its name

    suite: str
    classname: str
    name: str
    status: CaseStatus
    time_s: float = 0.0
    message: str = ""


@dataclass(frozen=True)
class TestReport:
    """The cases of one report, in its order."""

    __test__ = False

    cases: tuple[TestCase, ...] = ()

    def count(self, status: CaseStatus) -> int:
        """How many cases ended so."""
        return sum(case.status is status for case in self.cases)

    @property
    def executed(self) -> int:
        """How many cases judged something: all but the skipped ones."""
        return len(self.cases) - self.count(CaseStatus.SKIPPED)

    @property
    def bad(self) -> int:
        """How many cases failed or broke."""
        return self.count(CaseStatus.FAILED) + self.count(CaseStatus.ERROR)

    @property
    def summary(self) -> str:
        """`3 passed, 1 failed`, naming only what there is."""
        counts = ((self.count(status), status.value) for status in CaseStatus)
        return ", ".join(f"{count} {word}" for count, word in counts if count) or "no tests"
