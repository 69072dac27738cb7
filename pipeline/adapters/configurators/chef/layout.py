"""What the client reads on the node, as Test Kitchen lays it out: everything under one directory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipeline.ports.configurators import ConvergeRequest
from pipeline.ports.transports import NodeAccess

#: Directories that a Chef repository may bring and the client is told about.
REPOSITORY_DIRECTORIES = ("cookbooks", "roles", "data_bags", "environments")


@dataclass(frozen=True)
class Layout:
    """Paths on the node."""

    directory: str

    @property
    def package(self) -> str:
        """Where a client's package lies while it is installed."""
        return f"{self.directory}/package"

    @property
    def client_rb(self) -> str:
        return f"{self.directory}/client.rb"

    @property
    def dna(self) -> str:
        return f"{self.directory}/dna.json"

    @property
    def result(self) -> str:
        return f"{self.directory}/result.jsonl"


def client_rb(layout: Layout, node: str) -> str:
    """The client's configuration; the collector's file holds the results for machines."""
    at = layout.directory
    settings = [
        f"node_name {_ruby(node)}",
        f"chef_repo_path {_ruby(at)}",
        f"cookbook_path [{_ruby(f'{at}/cookbooks')}]",
        f"role_path {_ruby(f'{at}/roles')}",
        f"data_bag_path {_ruby(f'{at}/data_bags')}",
        f"environment_path {_ruby(f'{at}/environments')}",
        f"node_path {_ruby(f'{at}/nodes')}",
        f"file_cache_path {_ruby(f'{at}/cache')}",
        f"file_backup_path {_ruby(f'{at}/cache/backup')}",
        f"data_collector.output_locations({{files: [{_ruby(layout.result)}]}})",
    ]
    return "\n".join(settings) + "\n"


def dna(request: ConvergeRequest, run_list: tuple[str, ...]) -> dict[str, Any]:
    """Attributes and run list; `node['greenroom']` tells recipes where they are and who else is there."""
    return {**request.attributes, "greenroom": _surroundings(request), "run_list": list(run_list)}


def role(request: ConvergeRequest) -> dict[str, Any]:
    """The role as a Chef role, so that `node.role?` and `search(:node, 'role:…')` know it."""
    return {
        "name": request.node.role,
        "chef_type": "role",
        "json_class": "Chef::Role",
        "run_list": list(request.run_list),
    }


def node_object(request: ConvergeRequest, node: NodeAccess) -> dict[str, Any]:
    """One node of the environment as recipes find it by searching."""
    return {
        "name": node.name,
        "chef_type": "node",
        "json_class": "Chef::Node",
        "chef_environment": "_default",
        "normal": {"greenroom": {"service": request.service, "role": node.role, "node": node.name}},
        "automatic": {
            "ipaddress": node.inside,
            "hostname": node.name,
            "fqdn": node.name,
            "roles": [node.role],
        },
        "run_list": [f"role[{node.role}]"],
    }


def _surroundings(request: ConvergeRequest) -> dict[str, Any]:
    return {
        "service": request.service,
        "role": request.node.role,
        "node": request.node.name,
        "environment": request.environment_id,
        "nodes": [{"name": one.name, "role": one.role, "address": one.inside} for one in request.nodes],
    }


def _ruby(text: str) -> str:
    """Quote for Ruby without interpolation."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
