from pathlib import Path

import pytest

from tests.tools.summary import main, patterns

REPORT = """<?xml version="1.0"?><testsuites><testsuite>
<testcase classname="tests.unit.test_a" name="test_good"/>
<testcase classname="tests.unit.test_a" name="test_bad"><failure message="no"/></testcase>
<testcase classname="tests.unit.test_a" name="test_fixture"><error message="no"/></testcase>
<testcase classname="tests.unit.test_a" name="test_chef"><skipped message="no client">x.py:3: more</skipped></testcase>
<testcase classname="" name="tests.unit.test_b"><skipped>x.py:3: no runc</skipped></testcase>
</testsuite></testsuites>"""
GREEN = '<testsuite><testcase classname="a" name="b"/></testsuite>'


@pytest.fixture
def report(tmp_path: Path) -> Path:
    path = tmp_path / "report.xml"
    path.write_text(REPORT)
    return path


def test_counts_stand_alone_in_the_last_line(report: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(report)]) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "1 passed, 2 failed, 2 skipped"


def test_every_reason_to_skip_is_listed(report: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([str(report)])
    assert capsys.readouterr().out.splitlines()[:-1] == ["skipped    1  no client", "skipped    1  no runc"]


def test_a_reason_that_is_not_allowed_fails_and_names_its_tests(
    report: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report.write_text(REPORT.replace("<failure ", "<properties ").replace("<error ", "<properties "))
    allowed = tmp_path / "allowed"
    allowed.write_text("# remark\n\nno client\n")
    assert main(["--allow", str(allowed), str(report)]) == 1
    output = capsys.readouterr().out
    assert "not allowed to skip here: no runc\n    tests.unit.test_b\n" in output
    assert "not allowed to skip here: no client" not in output


def test_all_green_passes(report: Path) -> None:
    report.write_text(GREEN)
    assert main([str(report)]) == 0


def test_no_test_at_all_fails(report: Path) -> None:
    report.write_text("<testsuite/>")
    assert main([str(report)]) == 1


def test_several_reports_add_up(report: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    second = tmp_path / "second.xml"
    second.write_text(GREEN)
    main([str(report), str(second)])
    assert capsys.readouterr().out.splitlines()[-1] == "2 passed, 2 failed, 2 skipped"


def test_patterns_leave_out_remarks_and_empty_lines() -> None:
    assert patterns(["# why", "", "  a  ", "b"]) == ["a", "b"]
