"""The address of an environment or a staging: told, and opened in a browser."""

from __future__ import annotations

import webbrowser
from typing import Any

from pipeline.cli.output import FAILED, Complaint, Output


def tell(found: dict[str, Any], shown_by: str, *, browser: bool, json: bool) -> None:
    """The URL, and what else has to be known; `shown_by` is the command that shows what answers there."""
    out = Output(json)
    if json:
        out.data(found)
    else:
        out.show(found["url"])
    if found["ip"]:
        out.say(f"{found['host']} has the address {found['ip']}: a DNS record has to name it")
    if not found["targets"]:
        out.say(f"{found['host']} leads to no node now; `{shown_by}`")
    elif not found["up"]:
        out.say(f"none of its {found['targets']} nodes that get requests answers yet; `{shown_by}`")
    if browser and not webbrowser.open(found["url"]):
        raise Complaint(f"no browser can be opened here; go to {found['url']}", FAILED)
