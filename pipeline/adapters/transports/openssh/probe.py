"""Asking many nodes at once whether they can be logged in to."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pipeline.domain.errors import PermanentError
from pipeline.ports.transports import EnvironmentAccess, NodeAccess

if TYPE_CHECKING:
    import asyncssh

#: Seconds between two tries of a node, and the most that one try may take.
_PAUSE_S = 0.05
_TRY_S = 5.0
#: Logins at the same time; each costs some milliseconds of processor time for its key exchange.
_AT_ONCE = 32


async def probe(access: EnvironmentAccess, timeout_s: float) -> Mapping[str, str]:
    """Names of the nodes that could not be logged in to within the time, and why."""
    key = _private_key(access)
    gate = asyncio.Semaphore(_AT_ONCE)
    reasons = await asyncio.gather(*(_until_answered(node, key, gate, timeout_s) for node in access.nodes))
    return {node.name: reason for node, reason in zip(access.nodes, reasons, strict=True) if reason is not None}


def _private_key(access: EnvironmentAccess) -> asyncssh.SSHKey:
    import asyncssh

    try:
        return asyncssh.import_private_key(access.private_key.reveal())
    except asyncssh.KeyImportError as error:
        raise PermanentError(f"the key of environment {access.environment_id} cannot be read") from error


async def _until_answered(
    node: NodeAccess, key: asyncssh.SSHKey, gate: asyncio.Semaphore, timeout_s: float
) -> str | None:
    """None after a login, else the last reason; only a wrong host key ends the tries early."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    while True:
        async with gate:
            final, reason = await _try(node, key, max(0.1, min(_TRY_S, deadline - loop.time())))
        if reason is None or final or loop.time() + _PAUSE_S >= deadline:
            return reason
        await asyncio.sleep(_PAUSE_S)


async def _try(node: NodeAccess, key: asyncssh.SSHKey, timeout_s: float) -> tuple[bool, str | None]:
    import asyncssh

    try:
        async with asyncio.timeout(timeout_s):
            await _login(node, key)
    except TimeoutError:
        return False, f"{node.address}:{node.port} did not answer within {timeout_s:.1f} s"
    except asyncssh.HostKeyNotVerifiable as error:
        return True, f"{node.address}:{node.port} has another host key than the one it was given: {error}"
    except (OSError, asyncssh.Error) as error:
        return False, f"{node.address}:{node.port}: {error}"
    return False, None


async def _login(node: NodeAccess, key: asyncssh.SSHKey) -> None:
    import asyncssh

    believed = [asyncssh.import_public_key(node.host_public_key)]
    connection = await asyncssh.connect(
        node.address,
        node.port,
        username=node.user,
        client_keys=[key],
        known_hosts=(believed, [], []),
        agent_path=None,
        config=None,
        preferred_auth="publickey",
    )
    connection.close()
    await connection.wait_closed()
