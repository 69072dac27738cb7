"""What a schema cannot say of where nodes stand and what they are promised. Takes data that may be wrong in any way."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.adapters.blueprints.yaml12.check import nearest
from pipeline.adapters.blueprints.yaml12.tree import Path, Tree
from pipeline.domain.errors import Finding
from pipeline.domain.qos import PROFILES


def placement_findings(tree: Tree, roles: Mapping[str, Any]) -> Iterator[Finding]:
    """Roles and services to be near to that are none, rules that contradict each other, unknown profiles."""
    shared = _mapping(_mapping(tree.data).get("environment")).get("near")
    yield from _own_service(tree, ("environment", "near"), shared)
    for name, role in roles.items():
        if isinstance(role, Mapping):
            path: Path = ("environment", "roles", name)
            yield from _near(tree, path, name, roles)
            yield from _own_service(tree, (*path, "near"), role.get("near"))
            yield from _contradictions(tree, path, role)
            yield from _profile(tree, path, role)


def _near(tree: Tree, path: Path, name: str, roles: Mapping[str, Any]) -> Iterator[Finding]:
    near = _nearness(roles, name)
    if near is None:
        return
    place = (*path, "near")
    if near == name:
        yield tree.at_value(place, f"role {name} cannot be near itself; name another role, or leave `near` out")
    elif near not in roles:
        yield tree.at_value(place, f"no role {near[:80]} in environment.roles{nearest(near, roles)}")
    elif (circle := _circle(roles, name)) and name == min(circle):
        chain = " near ".join((*circle, name))
        yield tree.at_value(place, f"the roles are near each other in a circle ({chain}); leave one `near` out")


def _own_service(tree: Tree, path: Path, near: object) -> Iterator[Finding]:
    """The first environment of a service cannot wait for another one of it."""
    own = _mapping(tree.data).get("service")
    if isinstance(own, str) and _mapping(near).get("service") == own:
        yield tree.at_value((*path, "service"), f"service {own} cannot be near itself; name another service")


def _circle(roles: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """The roles from `name` back to itself; empty when it is in no circle."""
    seen = [name]
    while (following := _nearness(roles, seen[-1])) is not None and following not in seen:
        seen.append(following)
    return tuple(seen) if following == name else ()


def _nearness(roles: Mapping[str, Any], name: str) -> str | None:
    role = roles.get(name)
    near = role.get("near") if isinstance(role, Mapping) else None
    return near if isinstance(near, str) else None


def _contradictions(tree: Tree, path: Path, role: Mapping[str, Any]) -> Iterator[Finding]:
    for attribute, forbidden in _mapping(role.get("forbid")).items():
        required = _names(_mapping(role.get("require")).get(attribute))
        for value in sorted(required & _names(forbidden)):
            line = tree.at_value((*path, "require", attribute), "").line
            message = f"forbids {attribute} {value}, which `require` in line {line} asks for; leave one of them out"
            yield tree.at_value((*path, "forbid", attribute), message)


def _profile(tree: Tree, path: Path, role: Mapping[str, Any]) -> Iterator[Finding]:
    qos = role.get("qos")
    place: Path = (*path, "qos") if isinstance(qos, str) else (*path, "qos", "profile")
    name = qos if isinstance(qos, str) else _mapping(qos).get("profile")
    if isinstance(name, str) and name not in PROFILES:
        yield tree.at_value(place, f"no QoS profile {name[:80]}{nearest(name, PROFILES)}")


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _names(value: object) -> set[str]:
    """A name, or a list of them."""
    values = value if isinstance(value, list) else [value]
    return {one for one in values if isinstance(one, str)}
