"""What a driver is asked for: the nodes of an environment, with the keys that they get; and what it shows of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace

from pipeline.domain.environments import Environment, Node, NodeState
from pipeline.domain.rules import Spread
from pipeline.ports.drivers import EnvironmentRequest, NodeRequest, NodeStatus, NodeView
from pipeline.ports.secrets import KeyMaker, Secrets

#: These have a place, or had one that is theirs still.
PLACED = frozenset(NodeState) - {NodeState.DESTROYING, NodeState.GONE}


@dataclass(frozen=True)
class Orders:
    """Any number of processes at once."""

    secrets: Secrets
    keys: KeyMaker
    deployment: str

    def with_keys(self, environment: Environment) -> Environment:
        """With keys of its own and of its nodes.

        Those that it has it keeps, also when it is built once more: a call of the driver that was begun for the
        earlier build, and ends late, makes nodes with them.
        """
        sealed, public = self._pair(environment.sealed_key, environment.id)
        nodes = [self.with_host_key(node) for node in environment.nodes]
        return replace(environment, public_key=public, sealed_key=sealed).with_nodes(nodes)

    def with_host_key(self, node: Node) -> Node:
        """With the host key that it has, or a new one."""
        sealed, public = self._pair(node.sealed_host_key, node.name)
        return replace(node, host_public_key=public, sealed_host_key=sealed)

    def _pair(self, sealed: str, name: str) -> tuple[str, str]:
        if sealed:
            return sealed, self.keys.public_of(self.secrets.open(sealed), name)
        private, public = self.keys.ed25519(name)
        return self.secrets.seal(private), public

    def of(self, environment: Environment, nodes: Iterable[Node]) -> EnvironmentRequest:
        """The request for some nodes of an environment; those that are there already are left alone."""
        return EnvironmentRequest(
            deployment=self.deployment,
            environment_id=environment.id,
            service=environment.service,
            authorized_key=environment.public_key,
            login_keys=environment.contract.keys if environment.contract is not None else (),
            ends_at=environment.taken_back_at,
            nodes=tuple(self._node(node, per_machine(environment, node.role)) for node in nodes),
            project=environment.project,
            networks=environment.networks,
            owner=environment.owner,
        )

    def _node(self, node: Node, share: int | None) -> NodeRequest:
        return NodeRequest(
            name=node.name,
            role=node.role,
            image=node.image,
            resources=node.resources,
            qos=node.qos,
            host_key=self.secrets.open(node.sealed_host_key),
            host_public_key=node.host_public_key,
            machine=node.machine,
            zone=node.zone,
            wiring=node.wiring,
            custom=node.custom,
            per_machine=share,
        )


def per_machine(environment: Environment, role: str) -> int | None:
    """How many nodes of a role placement lets stand on one machine; 0 where it knew no machines, None: any number."""
    rules = environment.rules.roles.get(role)
    if rules is None or rules.spread is not Spread.MACHINE:
        return None
    standing = Counter(node.machine for node in environment.of_role(role) if node.state in PLACED)
    return 0 if "" in standing else max(standing.values(), default=0)


def seen_as(node: Node, view: NodeView | None) -> Node:
    """The node as the driver sees it now; not seen at all means that the driver has not shown it yet."""
    if view is None or node.state is not NodeState.BUILDING:
        return node
    if view.status is NodeStatus.ERROR:
        return replace(node, fault=view.fault or "the provider reports an error without saying which")
    if view.status is NodeStatus.ACTIVE:
        return replace(
            node.to(NodeState.ACTIVE),
            fault="",
            address=view.address,
            inside_address=view.inside_address,
            addresses=view.addresses,
            port=view.port,
            host_public_key=view.host_public_key or node.host_public_key,
            driver_id=view.driver_id,
        )
    return node
