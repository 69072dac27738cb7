"""Posts commit statuses to the forges' APIs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.clients.forge_api import call
from pipeline.domain.texts import cut
from pipeline.ports.common import Secret

#: What all forges take; longer texts are refused by some.
DESCRIPTION_LIMIT = 140


def shortened(description: str) -> str:
    """A description that every forge takes."""
    return cut(description, DESCRIPTION_LIMIT)


def post_status(
    url: str, body: Mapping[str, Any], token: Secret, headers: Mapping[str, str], *, done_already: str = ""
) -> None:
    """Post once; errors and `done_already` are those of `call`."""
    call("POST", url, body, token, headers, done_already=done_already)
