"""JUnit XML, read as a stream and within bounds."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING
from xml.etree.ElementTree import ParseError

from pipeline.domain.errors import TooLarge, UserError
from pipeline.domain.reports import CaseStatus, TestCase, TestReport

if TYPE_CHECKING:
    from defusedxml.ElementTree import DefusedXMLParser

#: Bounds of one report: bytes, cases, characters kept of one case's message, and of a name.
MAX_BYTES = 10 * 1024 * 1024
MAX_CASES = 50_000
MAX_MESSAGE = 64 * 1024
MAX_NAME = 1024

_OUTCOMES = {"failure": CaseStatus.FAILED, "error": CaseStatus.ERROR, "skipped": CaseStatus.SKIPPED}
_ROOTS = ("testsuites", "testsuite")


class JUnitReader:
    """A `ReportReader`."""

    def read(self, source: str, pieces: Iterable[bytes]) -> TestReport:
        from defusedxml.common import DefusedXmlException

        collector = _Collector(source)
        try:
            _feed(source, _parser(collector), pieces)
        except DefusedXmlException as error:
            raise UserError(f"{source}: a report may not declare entities or document types ({error})") from error
        except ParseError as error:
            line, column = error.position
            raise UserError(f"{source}, line {line}, column {column + 1}: no JUnit report: {error.msg}") from error
        except (LookupError, ValueError) as error:
            raise UserError(f"{source}: no JUnit report: {error}") from error
        return TestReport(tuple(collector.cases))


def _feed(source: str, parser: DefusedXMLParser, pieces: Iterable[bytes]) -> None:
    left = MAX_BYTES
    for piece in pieces:
        left -= len(piece)
        if left < 0:
            raise TooLarge(f"{source} is larger than {MAX_BYTES} bytes: split the report")
        parser.feed(piece)
    parser.close()


def _parser(collector: _Collector) -> DefusedXMLParser:
    from defusedxml.ElementTree import DefusedXMLParser

    return DefusedXMLParser(target=collector, forbid_dtd=True, forbid_entities=True, forbid_external=True)


class _Collector:
    """Builds cases from parser events; no tree is kept."""

    def __init__(self, source: str) -> None:
        self.cases: list[TestCase] = []
        self._source = source
        self._depth = 0
        self._suites: list[str] = []
        self._case: dict[str, str] | None = None
        self._status = CaseStatus.PASSED
        self._message: list[str] = []
        self._room = 0
        self._in_outcome = False

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        if self._depth == 0 and tag not in _ROOTS:
            raise UserError(f"{self._source}: the root element is <{tag[:80]}>, expected <testsuites> or <testsuite>")
        self._depth += 1
        if tag == "testsuite":
            self._suites.append(attributes.get("name", ""))
        elif tag == "testcase":
            self._begin(attributes)
        elif self._case is not None and tag in _OUTCOMES:
            self._outcome(_OUTCOMES[tag], attributes)

    def data(self, text: str) -> None:
        if self._in_outcome:
            self._say(text)

    def end(self, tag: str) -> None:
        self._depth -= 1
        if tag == "testsuite":
            self._suites.pop()
        elif tag == "testcase":
            self._finish()
        elif tag in _OUTCOMES:
            self._in_outcome = False

    def close(self) -> None:
        """Nothing is kept for the end."""

    def _begin(self, case: dict[str, str]) -> None:
        if len(self.cases) >= MAX_CASES:
            raise TooLarge(f"{self._source} has more than {MAX_CASES} test cases: split the report")
        self._case, self._status, self._message, self._room = case, CaseStatus.PASSED, [], MAX_MESSAGE

    def _outcome(self, status: CaseStatus, attributes: dict[str, str]) -> None:
        self._in_outcome = True
        if self._status is not CaseStatus.FAILED:  # a failure with an error in the teardown stays a failure
            self._status = status
        if message := attributes.get("message"):
            self._say(message + "\n")

    def _say(self, text: str) -> None:
        self._message.append(text[: self._room])
        self._room -= len(self._message[-1])

    def _finish(self) -> None:
        case = self._case
        if case is None:
            return
        self.cases.append(
            TestCase(
                suite=(self._suites[-1] if self._suites else "")[:MAX_NAME],
                classname=case.get("classname", "")[:MAX_NAME],
                name=case.get("name", "")[:MAX_NAME],
                status=self._status,
                time_s=_seconds(case.get("time", "")),
                message="".join(self._message).strip(),
            )
        )
        self._case, self._in_outcome = None, False


def _seconds(text: str) -> float:
    """`1.5`, also `1,234.5` as some writers have it; 0 when it is no number."""
    try:
        value = float(text.replace(",", ""))
    except ValueError:
        return 0.0
    return value if 0.0 <= value < 1e9 else 0.0
