"""Measures from inside the nodes of an environment what they were promised."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from pipeline.domain.errors import TransientError, UserError
from pipeline.domain.promises import DISK, NETWORK, TOLERANCE, Measured, promised
from pipeline.domain.qos import QosProfile
from pipeline.envs.qos_scripts import MEASURE_DISK, RECEIVE, SEND
from pipeline.ports.common import LimitExceeded, Limits
from pipeline.ports.transports import Connection, EnvironmentAccess, NodeAccess

#: One measurement takes four seconds and what a slow disk needs to lay its file out.
_LIMITS = Limits(total_s=180, silence_s=120)


def measure(
    connection: Connection,
    access: EnvironmentAccess,
    promises: Mapping[str, QosProfile],
    only: tuple[NodeAccess, ...],
    at_least: float = 1 - TOLERANCE,
) -> list[Measured]:
    """Measure the nodes `only`, one after the other, in the directions that their profiles bound.

    `promises` has the profile of every node. A network is measured with the peer that bounds it least; its own bound
    is the promise where it is tighter. `at_least` of a promise is enough. TransientError when a measurement could not
    be made, UserError when there is no peer.
    """
    found: list[Measured] = []
    for node in only:
        found += _disk(connection, node.name, promised(promises[node.name], DISK))
        for direction, promise in promised(promises[node.name], NETWORK).items():
            found.append(_network(connection, access, promises, node, direction, promise))
    return [replace(one, at_least=at_least) for one in found]


def _disk(connection: Connection, node: str, promises: Mapping[str, int]) -> list[Measured]:
    if not promises:
        return []
    rates = _run(connection, node, f"python3 - {' '.join(promises)}", MEASURE_DISK)
    return [Measured(node, name, promise, rates.get(name, 0.0)) for name, promise in promises.items()]


def _network(
    connection: Connection,
    access: EnvironmentAccess,
    promises: Mapping[str, QosProfile],
    node: NodeAccess,
    direction: str,
    promise: int,
) -> Measured:
    opposite = "network_out" if direction == "network_in" else "network_in"

    def bound(peer: NodeAccess) -> float:
        return promised(promises[peer.name], (opposite,)).get(opposite, float("inf"))

    peers = [peer for peer in access.nodes if peer.name != node.name]
    if not peers:
        raise UserError(f"{node.name} is alone in {access.environment_id}: measuring its network needs a second node")
    peer = max(peers, key=bound)
    sender, receiver = (peer, node) if direction == "network_in" else (node, peer)
    with ThreadPoolExecutor(1) as pool:
        received = pool.submit(_run, connection, receiver.name, "python3 -", RECEIVE)
        _run(connection, sender.name, f"python3 - {receiver.inside}", SEND)
    return Measured(node.name, direction, int(min(promise, bound(peer))), received.result().get("bits", 0.0))


def _run(connection: Connection, node: str, command: str, script: str) -> Mapping[str, float]:
    said: list[bytes] = []
    try:
        status = connection.run(node, command, limits=_LIMITS, output=said.append, stdin=script.encode())
    except LimitExceeded as error:
        raise TransientError(f"node {node} could not be measured: {error}; try again") from error
    text = b"".join(said).decode(errors="replace").strip()
    if status:
        raise TransientError(f"node {node} could not be measured; it said: {text[-300:]}; try again")
    return _rates(node, text)


def _rates(node: str, text: str) -> Mapping[str, float]:
    """What a node says it measured; a node may say anything."""
    try:
        rates = {str(name): float(rate) for name, rate in json.loads(text).items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise TransientError(
            f"node {node} could not be measured; it said: {text[-300:]}, where rates were expected; try again"
        ) from error
    if not all(map(math.isfinite, rates.values())):
        raise TransientError(f"node {node} could not be measured; it said: {text[-300:]}; try again")
    return rates
