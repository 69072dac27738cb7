"""Writes all that the client reads into a local directory, which is then copied to the node."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pipeline.adapters.configurators.chef.cookbooks import check_run_list, collect
from pipeline.adapters.configurators.chef.layout import Layout, client_rb, dna, node_object, role
from pipeline.ports.configurators import ConvergeRequest


def stage(directory: Path, layout: Layout, request: ConvergeRequest, shipped: str) -> None:
    """Fill the directory: configuration, attributes, cookbooks, roles, and a node object for every node."""
    names = collect(request.source, request.spec.cookbooks, shipped, directory)
    check_run_list(request.run_list, names, request.spec.cookbooks)
    (directory / "nodes").mkdir()
    (directory / "client.rb").write_text(client_rb(layout, request.node.name))
    _write(directory / "dna.json", dna(request, _run_list(directory, request)))
    _write(directory / "node.json", node_object(request, request.node))
    for other in request.nodes:
        if other.name != request.node.name:
            _write(directory / "nodes" / f"{other.name}.json", node_object(request, other))


def _run_list(directory: Path, request: ConvergeRequest) -> tuple[str, ...]:
    """The role as a Chef role; a role of that name in the repository keeps its own meaning."""
    name = request.node.role
    roles = directory / "roles"
    roles.mkdir(exist_ok=True)
    if any((roles / f"{name}{ending}").exists() for ending in (".json", ".rb")):
        return request.run_list
    _write(roles / f"{name}.json", role(request))
    return (f"role[{name}]",)


def _write(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=1))
