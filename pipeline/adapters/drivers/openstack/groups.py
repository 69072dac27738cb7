"""Security groups of an environment: closed but for its own nodes, logins, and what roles open."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from pipeline.adapters.drivers.openstack.cloud import Cloud
from pipeline.clients.openstack import Mark, described, ends_at_of, told
from pipeline.domain.wiring import Opening
from pipeline.ports.drivers import EnvironmentRequest, NodeRequest

Rule = dict[str, Any]
ROLE = "greenroom-role-"
#: What makes one rule another; Neutron refuses a second one that is the same in all of these.
_KEYS = (
    "security_group_id", "ethertype", "protocol", "port_range_min", "port_range_max", "remote_ip_prefix",
    "remote_group_id",
)  # fmt: skip


def group_of_role(role: str) -> str:
    """The name of the group with what a role opens."""
    return f"{ROLE}{role}"


def existing(cloud: Cloud, mark: Mark) -> list[Any]:
    """The environment's groups; without one nothing of it exists, since the first is made first and goes last."""
    return cloud.described(cloud.connection.network.security_groups, "security groups", mark)


def environments(clouds: Iterable[Cloud], deployment: str) -> dict[str, float]:
    """Environments of which there is a security group, and when their leases end, which the group of a role omits."""
    ends: dict[str, float] = {}
    for environment_id, ends_at in (one for cloud in clouds for one in _marked(cloud, deployment)):
        ends[environment_id] = max(ends_at, ends.get(environment_id, 0.0))
    return ends


def _marked(cloud: Cloud, deployment: str) -> Iterator[tuple[str, float]]:
    """Whose each security group is, and the end that it tells; 0: none."""
    with told("listing security groups"):
        found = list(cloud.connection.network.security_groups(fields=["id", "name", "description"]))
    for one in found:
        mark = described(one.description)
        if mark is not None and mark.deployment == deployment:
            yield mark.environment_id, ends_at_of(one.name)


def ensure(cloud: Cloud, mark: Mark, request: EnvironmentRequest, found: Sequence[Any]) -> Mapping[str, str]:
    """Make what is missing of the groups and their rules; ids by name, the environment's own group under ``""``."""
    own = mark.group_name(request.ends_at)
    opened = {group_of_role(node.role): node.wiring.openings for node in request.nodes if node.wiring.openings}
    by_name = {one.name if one.name.startswith(ROLE) else "": one for one in found}
    missing = [name for name in ("", *opened) if name not in by_name]
    by_name |= dict(zip(missing, _create(cloud, mark, own, missing), strict=True))
    ids = {name: str(one["id"]) for name, one in by_name.items()}
    wanted = [*_own_rules(ids[""], cloud.terms.ssh_from), *_opened_rules(ids, opened)]
    there = {_key(rule) for one in by_name.values() for rule in one["security_group_rules"]}
    lacking = [rule for rule in wanted if _key(rule) not in there]
    for id in ids.values():  # Neutron takes the rules of one group at a time
        _add(cloud, mark, [rule for rule in lacking if rule["security_group_id"] == id])
    return ids


def mark_end(cloud: Cloud, mark: Mark, ends_at: float) -> None:
    """Let the name of the environment's own group tell another end, if there is one in this account."""
    from openstack.exceptions import NotFoundException

    name = mark.group_name(ends_at)
    for one in existing(cloud, mark):
        if not one.name.startswith(ROLE) and one.name != name:
            with told(f"marking environment {mark.environment_id}"), suppress(NotFoundException):
                cloud.connection.network.update_security_group(one.id, name=name)


def _add(cloud: Cloud, mark: Mark, rules: list[Rule]) -> None:
    if rules:
        with told(f"opening ports of environment {mark.environment_id}"):
            list(cloud.connection.network.create_security_group_rules(rules))


def of_node(ids: Mapping[str, str], node: NodeRequest) -> list[str]:
    """The groups that a node's ports are in."""
    return [ids[""], *([ids[group_of_role(node.role)]] if node.wiring.openings else [])]


def _create(cloud: Cloud, mark: Mark, own: str, names: Sequence[str]) -> list[Any]:
    """In one call, the environment's own group first."""
    if not names:
        return []
    body = [{"name": name or own, "description": mark.description, "stateful": True} for name in names]
    from openstack import exceptions

    with told(f"creating security groups of environment {mark.environment_id}"):
        answer = cloud.connection.network.post("/security-groups", json={"security_groups": body})
        exceptions.raise_from_response(answer)
        made: list[Any] = answer.json()["security_groups"]
    by_name = {group["name"]: group for group in made}
    return [by_name[name or own] for name in names]


def _own_rules(id: str, ssh_from: Sequence[str]) -> Iterator[Rule]:
    for ethertype in ("IPv4", "IPv6"):
        yield _rule(id, ethertype, remote_group_id=id)
    for source in ssh_from:
        yield _rule(id, _family(source), "tcp", 22, 22, remote_ip_prefix=source)


def _opened_rules(ids: Mapping[str, str], opened: Mapping[str, Sequence[Opening]]) -> Iterator[Rule]:
    for name, openings in opened.items():
        for one in openings:
            ports = (None, None) if one.protocol == "icmp" else (one.first, one.last)
            yield _rule(ids[name], _family(one.source), one.protocol, *ports, remote_ip_prefix=one.source)


def _rule(
    id: str,
    ethertype: str,
    protocol: str | None = None,
    first: int | None = None,
    last: int | None = None,
    **remote: str,
) -> Rule:
    rule = {"security_group_id": id, "direction": "ingress", "ethertype": ethertype, **remote}
    told_of = {"protocol": protocol, "port_range_min": first, "port_range_max": last}
    return {**rule, **{name: value for name, value in told_of.items() if value is not None}}


def _family(cidr: str) -> str:
    return "IPv6" if ":" in cidr else "IPv4"


def _key(rule: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(rule.get(name) for name in _KEYS)
