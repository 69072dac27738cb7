"""What a schema cannot say of where nodes stand and what they are promised. Takes data that may be wrong in any way."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from pipeline.clients.yaml12.check import nearest
from pipeline.clients.yaml12.loose import mapping, texts
from pipeline.clients.yaml12.tree import Path, Tree
from pipeline.domain.errors import Finding


def placement_findings(tree: Tree, roles: Mapping[str, Any], profiles: Collection[str]) -> Iterator[Finding]:
    """Roles and services to be near to that are none, rules that contradict each other, unknown profiles."""
    shared = mapping(mapping(tree.data).get("environment")).get("near")
    yield from _own_service(tree, ("environment", "near"), shared)
    for name, role in roles.items():
        if isinstance(role, Mapping):
            path: Path = ("environment", "roles", name)
            yield from _near(tree, path, name, roles)
            yield from _own_service(tree, (*path, "near"), role.get("near"))
            yield from _contradictions(tree, path, role)
            yield from _profile(tree, path, role, profiles)


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
    own = mapping(tree.data).get("service")
    if isinstance(own, str) and mapping(near).get("service") == own:
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
    for attribute, forbidden in mapping(role.get("forbid")).items():
        required = set(texts(mapping(role.get("require")).get(attribute)))
        for value in sorted(required.intersection(texts(forbidden))):
            line = tree.at_value((*path, "require", attribute), "").line
            message = f"forbids {attribute} {value}, which `require` in line {line} asks for; leave one of them out"
            yield tree.at_value((*path, "forbid", attribute), message)


def _profile(tree: Tree, path: Path, role: Mapping[str, Any], profiles: Collection[str]) -> Iterator[Finding]:
    qos = role.get("qos")
    place: Path = (*path, "qos") if isinstance(qos, str) else (*path, "qos", "profile")
    name = qos if isinstance(qos, str) else mapping(qos).get("profile")
    if isinstance(name, str) and name not in profiles:
        yield tree.at_value(place, f"no QoS profile {name[:80]}{nearest(name, profiles)}")
