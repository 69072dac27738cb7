"""Children and their limits."""

from __future__ import annotations

import pytest

from pipeline.clients.processes import Child
from pipeline.ports.common import LimitExceeded, Limits

LIMITS = Limits(total_s=30, silence_s=30, output_bytes=10)
ENV = {"PATH": "/usr/bin:/bin"}


def test_new_limits_count_the_output_from_its_first_byte() -> None:
    """Else what overtakes the report of a command's start would be free, and a cut file would look whole."""
    with Child(["sh", "-c", "printf 123456; read go; printf 789012"], env=ENV, feed=[b""], hold_input=True) as child:
        stream = child.stream(LIMITS)
        assert next(stream)[1] == b"123456"
        child.limit(LIMITS)
        child.say_last(b"go\n")
        with pytest.raises(LimitExceeded, match="more than 10 bytes"):
            list(stream)
