"""What an operator lets projects set of their servers."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from fnmatch import fnmatchcase

from pipeline.domain.wiring import Custom

ALLOWANCE = re.compile(r"(?:metadata|user_data|(?:flavor|extra_specs)(?:=[^\s=]{1,255})?)")


def parse_allowance(text: str) -> str:
    """A field of `Custom`; a flavor or extra specs may have a pattern for their names, as `fnmatch` reads it."""
    if ALLOWANCE.fullmatch(text) is None:
        raise ValueError(
            "expected metadata, user_data, flavor or extra_specs, the last two perhaps with a pattern such as "
            f"flavor=m1.* or extra_specs=hw:*, got {text[:80]!r}"
        )
    return text


def not_allowed(custom: Custom, allowed: Collection[str]) -> str:
    """What of a server's settings no allowance covers, and which one would; empty when all is allowed."""
    for field, name in _settings(custom):
        if not any(_covers(allowance, field, name) for allowance in allowed):
            wanted = f"{field}={name}" if name else field
            what = f"`server.{field}` {name}".rstrip()
            return (
                f"{what} is not allowed there; leave it out, or let an operator add {wanted!r} to its setting `custom`"
            )
    return ""


def _settings(custom: Custom) -> Iterator[tuple[str, str]]:
    """Everything that is set, by its field, with its name where an allowance may be for some names only."""
    if custom.flavor:
        yield "flavor", custom.flavor
    if custom.metadata:
        yield "metadata", ""
    if custom.user_data:
        yield "user_data", ""
    for name in custom.extra_specs:
        yield "extra_specs", name


def _covers(allowance: str, field: str, name: str) -> bool:
    allowed, _, pattern = allowance.partition("=")
    return allowed == field and fnmatchcase(name, pattern or "*")
