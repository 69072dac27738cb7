"""What a client's exit status and report mean together; neither says enough alone.

Exit statuses as the Chef client documents them in RFC 062, and as they were seen: 0 came even with a
configuration that did not exist, so a run without a report is never a success.
"""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.adapters.configurators.chef.collector import Report
from pipeline.domain.errors import PermanentError, StageFailed, TransientError

#: Exit statuses after which the client wants to be run again, and why.
AGAIN: Mapping[int, str] = {35: "a reboot now", 37: "a reboot", 213: "a new run after upgrading itself"}
#: The client could not ask for the licence to be accepted.
LICENCE = 172
#: A shell reports death by signal N as 128 + N.
SIGNALS = range(129, 193)


def check(node: str, status: int, report: Report | None, tail: str) -> None:
    """Raise what a run of the client amounts to; return when it converged. `tail`: its last words."""
    if report is not None and not report.succeeded:
        raise StageFailed(f"chef failed on node {node}: {report.failure}")
    if report is None:
        raise _unreported(node, status, tail)
    if status != 0:
        raise StageFailed(f"chef on node {node} converged, but left with exit status {status}: {tail}")


def _unreported(node: str, status: int, tail: str) -> Exception:
    if status == LICENCE:
        return PermanentError(
            f"the Chef client on node {node} wants a licence that cannot be accepted on its command line: "
            "install Chef 18 or Cinc instead"
        )
    if status in SIGNALS:
        return TransientError(f"chef on node {node} was ended by signal {status - 128} (out of memory?): {tail}")
    if status == 0:
        return PermanentError(f"chef on node {node} left with exit status 0 but wrote no result: {tail}")
    return PermanentError(f"chef on node {node} left with exit status {status} before it converged: {tail}")
