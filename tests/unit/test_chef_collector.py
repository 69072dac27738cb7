"""Reading results of the client, and judging them: lines as Chef Infra Client 18.11 wrote them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pipeline.adapters.configurators.chef.collector import Report, read_report
from pipeline.adapters.configurators.chef.verdict import check
from pipeline.domain.errors import GreenroomError, PermanentError, StageFailed, TransientError
from pipeline.ports.configurators import ResourceResult

GOOD = Report(succeeded=True, resources=())
BAD = Report(succeeded=False, resources=(), failure="linux_user[gr]: no")


def lines(*events: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(event).encode() + b"\n" for event in events)


def converge(**more: Any) -> dict[str, Any]:
    return {"message_type": "run_converge", "status": "success", "resources": [], **more}


def resource(status: str, **more: Any) -> dict[str, Any]:
    return {"type": "file", "name": "/etc/motd", "status": status, "duration": "16", "ignore_failure": False, **more}


def report(**more: Any) -> Report:
    found = read_report(lines({"message_type": "run_start"}, converge(**more)))
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("status", "expected"),
    [("updated", "updated"), ("up-to-date", "unchanged"), ("skipped", "skipped"), ("failed", "failed")],
)
def test_statuses_of_resources(status: str, expected: str) -> None:
    assert report(resources=[resource(status)]).resources == (ResourceResult("file", "/etc/motd", expected, 0.016),)


@pytest.mark.parametrize("status", ["unprocessed", "", None])
def test_resources_that_were_not_reached_are_left_out(status: str | None) -> None:
    assert report(resources=[resource("updated") | {"status": status, "duration": ""}]).resources == ()


@pytest.mark.parametrize("content", [b"", lines({"message_type": "run_start"}), b'{"message_type": "run_conv', b"[]\n"])
def test_without_a_whole_converge_there_is_no_report(content: bytes) -> None:
    assert read_report(content) is None


def test_the_last_converge_counts() -> None:
    """A reboot in the middle writes a good line and then a bad one."""
    error = {"class": "Chef::Exceptions::Reboot", "message": "Rebooting server", "description": {}}
    found = read_report(lines(converge(), converge(status="failure", error=error)))
    assert found is not None
    assert not found.succeeded
    assert found.failure == "Chef::Exceptions::Reboot: Rebooting server"


def test_a_failed_resource_is_named_with_its_line() -> None:
    error = {
        "class": "Chef::Exceptions::MissingLibrary",
        "message": "linux_user[gr] (a::default line 2) had an error: …",
        "description": {
            "title": "Error executing action `create` on resource 'linux_user[gr]'",
            "sections": [
                {"Resource Declaration:": "# In /t/cache/cookbooks/a/recipes/default.rb\n\n  2: user 'gr' do"},
                {"Compiled Resource:": "# Declared in /t/cache/cookbooks/a/recipes/default.rb:2:in `from_file'"},
            ],
        },
    }
    ignored = resource("failed", name="/optional", ignore_failure=True, error_message="never mind")
    failed = {"type": "linux_user", "name": "gr", "error": error, "error_message": "You must have ruby-shadow"}
    found = report(status="failure", error=error, resources=[ignored, resource("failed", **failed)])
    assert found.failure == (
        "linux_user[gr]: cookbooks/a/recipes/default.rb:2: Chef::Exceptions::MissingLibrary: You must have ruby-shadow"
    )


def test_a_recipe_that_does_not_compile_is_named_with_its_line() -> None:
    message = "/t/cache/cookbooks/a/recipes/default.rb:3: syntax error, unexpected local variable"
    found = report(status="failure", error={"class": "SyntaxError", "message": message, "description": {}})
    assert found.failure == f"cookbooks/a/recipes/default.rb:3: SyntaxError: {message}"


def test_a_missing_cookbook_is_explained() -> None:
    description = {
        "title": "Error Resolving Cookbooks for Run List:",
        "sections": [{"Missing Cookbooks:": "No such cookbook: zz"}],
    }
    error = {"class": "Net::HTTPClientException", "message": '412 "Precondition Failed"', "description": description}
    assert report(status="failure", error=error).failure.endswith("Missing Cookbooks: No such cookbook: zz")


def test_messages_have_an_end() -> None:
    assert len(report(status="failure", error={"class": "E", "message": "x" * 100_000}).failure) == 2000


def test_a_good_run_is_good() -> None:
    check("web-0", 0, GOOD, "")


@pytest.mark.parametrize(
    ("status", "found", "error", "words"),
    [
        (1, BAD, StageFailed, r"linux_user\[gr\]: no"),
        (0, BAD, StageFailed, "no"),
        (1, GOOD, StageFailed, "converged, but left with exit status 1: last words"),
        (0, None, PermanentError, "wrote no result"),
        (1, None, PermanentError, "exit status 1 before it converged: last words"),
        (172, None, PermanentError, "licence"),
        (137, None, TransientError, "signal 9"),
    ],
)
def test_neither_status_nor_report_is_enough(
    status: int, found: Report | None, error: type[GreenroomError], words: str
) -> None:
    with pytest.raises(error, match=words) as raised:
        check("web-0", status, found, "last words")
    assert "web-0" in str(raised.value)
