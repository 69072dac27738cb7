"""What a person names: a repository and a commit of it, a run, a node."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.cli.client import Client, segment
from pipeline.cli.output import REFUSED, USAGE, Complaint

#: Runs that an abbreviation is looked for in, newest first.
LOOKED_AT = 1000
_NODE = re.compile(r"(?P<role>[a-z0-9-]+?)(?:\[(?P<index>\d+)\])?")


def split_ref(text: str) -> tuple[str, str]:
    """`REPO[@REF]` as (repository, ref); the `@` of a login (`git@host:path`, `ssh://git@host/x`) is none of a ref."""
    scheme, separator, rest = text.rpartition("://")
    authority, slash, path = rest.partition("/") if separator else ("", "", rest)
    name, at, ref = path.rpartition("@")
    if not at or ":" in ref:
        return text, ""
    return scheme + separator + authority + slash + name, ref


def repository_url(text: str) -> str:
    """A path of this machine as the service will see it; everything else as it is."""
    path = Path(text).expanduser()
    return str(path.resolve()) if text and path.is_dir() else text


def project_of(client: Client, name: str, repository: str) -> str:
    """The project that was named, else the one that has this repository, else the only one."""
    if name:
        return name
    projects = client.get("/v1/projects")
    fitting = [one for one in projects if repository and one["repository"] == repository] or projects
    if len(fitting) == 1:
        return str(fitting[0]["name"])
    if not projects:
        raise Complaint("there is no project yet; `greenroom project add NAME` makes one", REFUSED)
    raise Complaint(f"which project? Say --project with one of {', '.join(one['name'] for one in fitting)}", USAGE)


def run_id(client: Client, text: str) -> str:
    """The id of `last`, of a whole id, or of a unique beginning or end of one."""
    if text == "last":
        return _newest(client)
    if client.find(f"/v1/runs/{segment(text)}") is not None:
        return text
    known = [str(run["id"]) for run in client.items("/v1/runs", LOOKED_AT)]
    return only(matching(text, known), text, "run", "greenroom runs")


def only(found: Sequence[str], text: str, what: str, lists: str) -> str:
    """What a word means, if it is one thing; else the command ends, and names what it may mean, or what lists all."""
    if len(found) == 1:
        return found[0]
    if found:
        raise Complaint(f"{text!r} may be {', '.join(found[:5])}: say more of it", REFUSED)
    raise Complaint(f"there is no {what} {text!r}; `{lists}` lists them", REFUSED)


def _newest(client: Client) -> str:
    newest = client.items("/v1/runs", 1)
    if not newest:
        raise Complaint("there is no run yet; a push begins one, or `greenroom run`", REFUSED)
    return str(newest[0]["id"])


def matching(text: str, ids: Sequence[str]) -> list[str]:
    """Ids that begin or end so, with or without their prefix."""
    return [id for id in ids if text and (id.startswith((text, f"run-{text}")) or id.endswith(text))]


def node_name(text: str, nodes: Sequence[dict[str, Any]]) -> str:
    """The node of `web`, `web[1]` or `web-1`; the first one when nothing is said."""
    names = [str(node["name"]) for node in nodes]
    if not names:
        raise Complaint("the environment has no nodes yet", REFUSED)
    match = _NODE.fullmatch(text)
    wanted = [text, f"{match['role']}-{match['index'] or 0}"] if match else [text]
    found = next((name for name in wanted if name in names), None) if text else names[0]
    if found is None:
        raise Complaint(f"there is no node {text!r}; there are {', '.join(names)}", REFUSED)
    return found
