"""What a schema cannot say: names that must exist, sums, doubles. Takes data that may be wrong in any way."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from pipeline.adapters.blueprints.yaml12.formats import parse_selector
from pipeline.adapters.blueprints.yaml12.placement import placement_findings
from pipeline.adapters.blueprints.yaml12.wiring import node_count, wiring_findings
from pipeline.clients.yaml12.check import nearest
from pipeline.clients.yaml12.loose import mapping, mappings, sequence
from pipeline.clients.yaml12.tree import Path, Tree
from pipeline.domain.errors import Finding

#: More nodes than this in one environment is a mistake, not a wish.
LIMIT_NODES = 200


def rule_findings(tree: Tree, profiles: Collection[str]) -> Iterator[Finding]:
    """All violations beyond the schema; `profiles` are the names of QoS profiles."""
    roles = mapping(mapping(mapping(tree.data).get("environment")).get("roles"))
    yield from _too_many_nodes(tree, roles)
    yield from placement_findings(tree, roles, profiles)
    yield from wiring_findings(tree, roles)
    yield from _deployments(tree, roles)
    yield from _tests(tree, roles)
    for i, artifact in mappings(tree.data, "artifacts"):
        yield from _selected(tree, ("artifacts", i, "on"), artifact.get("on"), roles)


def _too_many_nodes(tree: Tree, roles: Mapping[str, Any]) -> Iterator[Finding]:
    total = sum(node_count(role) for role in roles.values())
    if total > LIMIT_NODES:
        message = f"expected at most {LIMIT_NODES} nodes in an environment, got {total}"
        yield tree.at_value(("environment", "roles"), message)


def _deployments(tree: Tree, roles: Mapping[str, Any]) -> Iterator[Finding]:
    seen: dict[tuple[str, str], int] = {}
    for i, deployment in mappings(tree.data, "deploy"):
        role, to = deployment.get("role"), deployment.get("to")
        yield from _known_role(tree, ("deploy", i, "role"), role, roles)
        if isinstance(role, str) and isinstance(to, str) and seen.setdefault((role, to.rstrip("/")), i) != i:
            yield tree.at_value(("deploy", i, "to"), f"role {role} gets {to} twice")


def _tests(tree: Tree, roles: Mapping[str, Any]) -> Iterator[Finding]:
    for i, test in mappings(tree.data, "test"):
        yield from _known_role(tree, ("test", i, "qos"), test.get("qos"), roles)
        yield from _selected(tree, ("test", i, "on"), test.get("on"), roles)
        for j, role in enumerate(sequence(test.get("roles"))):
            yield from _known_role(tree, ("test", i, "roles", j), role, roles)


def _known_role(tree: Tree, path: Path, role: object, roles: Mapping[str, Any]) -> Iterator[Finding]:
    if isinstance(role, str) and role not in roles:
        yield tree.at_value(path, f"no role {role[:80]} in environment.roles{nearest(role, roles)}")


def _selected(tree: Tree, path: Path, selector: object, roles: Mapping[str, Any]) -> Iterator[Finding]:
    parsed = _parsed(selector)
    if parsed is None or parsed == ("all", None):
        return
    role, index = parsed
    if role not in roles:
        yield tree.at_value(path, f"no role {role[:80]} in environment.roles{nearest(role, [*roles, 'all'])}")
    elif index is not None and index >= node_count(roles[role]):
        yield tree.at_value(
            path, f"role {role} has {node_count(roles[role])} nodes, counted from 0; got {role}[{index}]"
        )


def _parsed(selector: object) -> tuple[str, int | None] | None:
    if not isinstance(selector, str):
        return None
    try:
        return parse_selector(selector)
    except ValueError:
        return None  # the schema's format says so
