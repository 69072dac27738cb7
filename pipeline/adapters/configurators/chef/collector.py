"""Reads the data collector's file: one JSON line an event, the last `run_converge` is the whole result.

Seen with Chef Infra Client 18.11: durations are milliseconds as text; a run that ends in a reboot writes two
`run_converge` lines; resources that were never reached are `unprocessed`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.ports.configurators import ResourceResult

STATUSES: Mapping[str, str] = {
    "updated": "updated",
    "up-to-date": "unchanged",
    "skipped": "skipped",
    "failed": "failed",
}
#: A compiled path is …/cache/cookbooks/NAME/recipes/FILE.rb:LINE; what follows `cookbooks/` is the repository's.
_PLACE = re.compile(r"/(cookbooks/[^\s:'`]+\.rb):(\d+)")
MAX_MESSAGE = 2000


@dataclass(frozen=True)
class Report:
    """What the client wrote; `failure` is one paragraph, empty when the run went well."""

    succeeded: bool
    resources: tuple[ResourceResult, ...]
    failure: str = ""


def read_report(content: bytes) -> Report | None:
    """The last converge in the file; None when there is none."""
    converges = [event for event in _events(content) if event.get("message_type") == "run_converge"]
    if not converges:
        return None
    event = converges[-1]
    resources = tuple(_resources(event))
    if event.get("status") == "success":
        return Report(succeeded=True, resources=resources)
    return Report(succeeded=False, resources=resources, failure=_failure(event)[:MAX_MESSAGE])


def _events(content: bytes) -> Iterator[dict[str, Any]]:
    """Whole events; the last line of a client that was killed may be half a one."""
    for line in content.splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict):
            yield event


def _resources(event: Mapping[str, Any]) -> Iterator[ResourceResult]:
    for resource in event.get("resources") or ():
        status = STATUSES.get(resource.get("status") or "")
        if status:
            yield ResourceResult(str(resource["type"]), str(resource["name"]), status, _seconds(resource))


def _seconds(resource: Mapping[str, Any]) -> float:
    return float(resource.get("duration") or 0) / 1000


def _failure(event: Mapping[str, Any]) -> str:
    error = event.get("error") or {}
    failed = _failed(event)
    message = str((failed or {}).get("error_message") or error.get("message", "the client gave no reason")).strip()
    parts = [_resource_name(failed), _place(error), f"{_class(failed, error)}: {message}", _hint(failed, error)]
    return ": ".join(part for part in parts if part)


def _failed(event: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The resource that ended the run; those with `ignore_failure` did not."""
    for resource in event.get("resources") or ():
        if resource.get("status") == "failed" and not resource.get("ignore_failure"):
            found: Mapping[str, Any] = resource
            return found
    return None


def _resource_name(failed: Mapping[str, Any] | None) -> str:
    return f"{failed['type']}[{failed['name']}]" if failed else ""


def _class(failed: Mapping[str, Any] | None, error: Mapping[str, Any]) -> str:
    cause = (failed or {}).get("error") or error
    return str(cause.get("class", "error"))


def _place(error: Mapping[str, Any]) -> str:
    """File and line in the cookbook, from wherever the client names them first."""
    texts = [*_sections(error), str(error.get("message", "")), *map(str, error.get("backtrace") or ())]
    match = next((found for text in texts if (found := _PLACE.search(text))), None)
    return f"{match[1]}:{match[2]}" if match else ""


def _hint(failed: Mapping[str, Any] | None, error: Mapping[str, Any]) -> str:
    """The client's own explanation of what is no resource's failure, such as a missing cookbook."""
    if failed:
        return ""
    description = error.get("description") or {}
    return " ".join([str(description.get("title", "")), *_sections(error)]).strip()


def _sections(error: Mapping[str, Any]) -> list[str]:
    sections = (error.get("description") or {}).get("sections") or ()
    return [f"{title} {text}" for section in sections if isinstance(section, dict) for title, text in section.items()]
