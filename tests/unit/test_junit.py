"""JUnit reports of several writers, and of writers that mean harm."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.adapters.reports import junit
from pipeline.adapters.reports.junit import JUnitReader
from pipeline.domain.errors import TooLarge, UserError
from pipeline.domain.reports import CaseStatus, TestCase, TestReport

PYTEST = b"""<?xml version="1.0" encoding="utf-8"?>
<testsuites name="pytest tests"><testsuite name="pytest" errors="1" failures="1" skipped="1" tests="4" time="1.2">
<testcase classname="tests.test_a" name="test_good[ssh://web-0]" time="0.5"><system-out>noise</system-out></testcase>
<testcase classname="tests.test_a" name="test_bad" time="0.1"><failure message="assert 1 == 2">line 1
line 2</failure></testcase>
<testcase classname="tests.test_a" name="test_broken" time="0.1"><error message="setup failed"/></testcase>
<testcase classname="tests.test_a" name="test_later"><skipped type="pytest.skip" message="not yet"/></testcase>
</testsuite></testsuites>"""


def read(content: bytes, size: int = 7) -> TestReport:
    return JUnitReader().read("report.xml", (content[i : i + size] for i in range(0, len(content), size)))


def suite(cases: str) -> bytes:
    return f"<testsuite name='s'>{cases}</testsuite>".encode()


def test_all_outcomes_are_told_apart() -> None:
    report = read(PYTEST)
    assert report.cases == (
        TestCase("pytest", "tests.test_a", "test_good[ssh://web-0]", CaseStatus.PASSED, 0.5, ""),
        TestCase("pytest", "tests.test_a", "test_bad", CaseStatus.FAILED, 0.1, "assert 1 == 2\nline 1\nline 2"),
        TestCase("pytest", "tests.test_a", "test_broken", CaseStatus.ERROR, 0.1, "setup failed"),
        TestCase("pytest", "tests.test_a", "test_later", CaseStatus.SKIPPED, 0.0, "not yet"),
    )
    assert (report.executed, report.bad) == (3, 2)
    assert report.summary == "1 passed, 1 failed, 1 error, 1 skipped"


def test_a_single_suite_may_be_the_root() -> None:
    assert [case.name for case in read(suite("<testcase name='a'/>")).cases] == ["a"]


def test_suites_may_be_nested() -> None:
    report = read(suite("<testsuite name='inner'><testcase name='a'/></testsuite><testcase name='b'/>"))
    assert [(case.suite, case.name) for case in report.cases] == [("inner", "a"), ("s", "b")]


def test_a_failure_stays_one_when_the_teardown_breaks_too() -> None:
    report = read(suite("<testcase name='a'><failure message='wrong'/><error message='teardown'/></testcase>"))
    assert (report.cases[0].status, report.cases[0].message) == (CaseStatus.FAILED, "wrong\nteardown")


def test_an_error_of_a_suite_is_not_taken_for_a_cases() -> None:
    report = read(suite("<error message='no case'/><testcase name='a'/>"))
    assert [(case.status, case.message) for case in report.cases] == [(CaseStatus.PASSED, "")]


@pytest.mark.parametrize(
    ("text", "seconds"), [("1.5", 1.5), ("1,234.5", 1234.5), ("", 0), ("soon", 0), ("nan", 0), ("-1", 0)]
)
def test_odd_times_are_no_error(text: str, seconds: float) -> None:
    assert read(suite(f"<testcase name='a' time='{text}'/>")).cases[0].time_s == seconds


def test_no_cases_are_no_tests() -> None:
    report = read(b"<testsuites/>")
    assert (report.executed, report.summary) == (0, "no tests")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "line 1, column 1"),
        (b"not XML", "line 1, column 1"),
        (b"<testsuites>\n<testcase>\n</testsuites>", "line 3, column 3: no JUnit report: mismatched tag"),
        (b"<testsuites>", "no element found|unclosed token"),
        (b"<html><testcase name='a'/></html>", "root element is <html>"),
        (b"<?xml version='1.0' encoding='no-such'?><testsuites/>", "unknown encoding"),
        (b"\xff\xfe\x00", "report.xml"),
    ],
)
def test_a_broken_report_is_the_users_error(content: bytes, message: str) -> None:
    with pytest.raises(UserError, match=message) as raised:
        read(content, 5)
    assert str(raised.value).startswith("report.xml")


@pytest.mark.parametrize(
    "declaration",
    [
        '<!DOCTYPE t [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>',
        '<!DOCTYPE t [<!ENTITY a SYSTEM "file:///etc/passwd">]>',
        '<!DOCTYPE t SYSTEM "http://127.0.0.1/t.dtd">',
    ],
)
def test_entities_and_document_types_are_refused(declaration: str) -> None:
    with pytest.raises(UserError, match="may not declare"):
        read(f"{declaration}<testsuites><testcase name='a'/></testsuites>".encode())


def test_a_report_of_a_gigabyte_is_given_up_early() -> None:
    asked = 0

    def endless() -> Iterator[bytes]:
        nonlocal asked
        yield b"<testsuite>"
        while True:
            asked += 1
            yield b"<testcase name='a'/>" * 50

    with pytest.raises(TooLarge):
        JUnitReader().read("report.xml", endless())
    assert asked <= junit.MAX_CASES // 50 + 1


def test_bytes_are_bounded() -> None:
    with pytest.raises(TooLarge, match=str(junit.MAX_BYTES)):
        read(suite("<system-out>" + "x" * junit.MAX_BYTES + "</system-out>"), 1 << 16)


def test_long_texts_are_cut() -> None:
    case = read(suite(f"<testcase name='{'n' * 5000}'><failure>{'x' * 200_000}</failure></testcase>"), 1 << 16).cases[0]
    assert (len(case.name), len(case.message)) == (junit.MAX_NAME, junit.MAX_MESSAGE)


@given(st.binary(max_size=300), st.integers(1, 50))
def test_anything_is_read_or_refused(content: bytes, size: int) -> None:
    try:
        report = read(b"<testsuite>" + content, size)
    except UserError:
        return
    assert isinstance(report, TestReport)
