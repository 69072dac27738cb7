"""Hands on registered machines, over SSH."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping, Sequence

from pipeline.adapters.drivers.static import scripts
from pipeline.domain.errors import InvalidTransition, PermanentError, TransientError
from pipeline.domain.registered import Lease, Registered, lease_of
from pipeline.ports.common import LimitExceeded, Limits, Secret
from pipeline.ports.machines import Marks
from pipeline.ports.transports import EnvironmentAccess, NodeAccess, Transport

#: Of everything but a reset.
SHORT = Limits(total_s=60, silence_s=60, output_bytes=64 * 1024)
#: Seconds for a login, and for a host key to be shown.
GREET_S, SHOW_S = 5.0, 10.0
#: Digits of a number that a machine remembers.
MOST_DIGITS = 15
#: Bytes of a reset's last words that are told.
LAST_WORDS = 400


class SshHands:
    """`MachineHands` through a transport, with one key pair for all machines of a deployment."""

    def __init__(self, deployment: str, transport: Transport, private_key: Secret, public_key: str) -> None:
        self._deployment = deployment
        self._transport = transport
        self._private_key = private_key
        self._public_key = public_key

    def key(self) -> str:
        return self._public_key

    def shown_host_key(self, address: str, port: int) -> str:
        return asyncio.run(_shown(address, port))

    def greet(self, machines: Sequence[Registered]) -> Mapping[str, str]:
        nodes = tuple(map(_node, machines))
        return self._transport.probe(EnvironmentAccess("machines", self._private_key, nodes), GREET_S)

    def look(self, machine: Registered) -> Marks:
        status, said = self._run(machine, scripts.LOOK, {}, SHORT)
        lines = said.splitlines()
        if status or len(lines) != 3:
            raise PermanentError(f"machine {machine.name} could not be read ({status}): {said.strip()[-LAST_WORDS:]}")
        return _marks(*lines)

    def hand_over(self, machine: Registered, keys: Sequence[str]) -> None:
        lease = lease_of(machine)
        lines = "".join(f"{key}\n" for key in keys)
        self._act(machine, scripts.HAND_OVER, {"KEYS": lines, "LEASE": _mark(lease), "NODE": lease.node})

    def mark(self, machine: Registered) -> None:
        self._act(machine, scripts.MARK, {"LEASE": _mark(lease_of(machine))})

    def take_back(self, machine: Registered) -> None:
        self._act(machine, scripts.TAKE_BACK)

    def forget(self, machine: Registered) -> None:
        self._act(machine, scripts.FORGET)
        self._transport.close(_kept(machine))

    def reset(self, machine: Registered) -> None:
        limits = Limits(machine.reset_s, machine.reset_s)
        try:
            status, said = self._run(machine, machine.reset, {}, limits)
        except LimitExceeded as error:
            raise PermanentError(f"`{machine.reset}` was ended: {error}") from error
        if status:
            words = " ".join(said.split())[-LAST_WORDS:]
            raise PermanentError(f"`{machine.reset}` ended with {status}{f': {words}' if words else ''}")

    def _act(self, machine: Registered, script: str, more: Mapping[str, str] | None = None) -> None:
        known = {
            "OWNER": self._deployment,
            "TURN": str(machine.turn),
            "LOGIN": machine.login.user,
            "SERVICE": self._public_key,
        }
        status, said = self._run(machine, script, {**known, **(more or {})}, SHORT)
        if status == scripts.LATE:
            raise InvalidTransition(f"machine {machine.name} heard of a later turn than {machine.turn}")
        if status:
            raise PermanentError(
                f"machine {machine.name} could not be changed ({status}): {said.strip()[-LAST_WORDS:]}"
            )

    def _run(self, machine: Registered, command: str, env: Mapping[str, str], limits: Limits) -> tuple[int, str]:
        said: list[bytes] = []
        access = EnvironmentAccess(_kept(machine), self._private_key, (_node(machine),))
        with self._transport.connect(access) as connection:
            try:
                status = connection.run(machine.name, command, limits=limits, output=said.append, env=env)
            except LimitExceeded as error:
                if limits is SHORT and error.which == "output":
                    raise PermanentError(f"machine {machine.name} says too much: {error}") from error
                if limits is SHORT:
                    raise TransientError(f"machine {machine.name} is too slow: {error}") from error
                raise
        return status, b"".join(said).decode(errors="replace")


def _kept(machine: Registered) -> str:
    """The name under which its connection is kept; short, for it is part of a socket's path."""
    return f"machine-{hashlib.sha256(machine.id.encode()).hexdigest()[:12]}"


def _node(machine: Registered) -> NodeAccess:
    login = machine.login
    return NodeAccess(machine.name, "machine", login.address, login.port, login.user, login.host_key)


def _mark(lease: Lease) -> str:
    return f"{lease.environment} {lease.node} {lease.ends_at:.0f}"


def _marks(owner: str, turn: str, lease: str) -> Marks:
    words = lease.split()
    environment, node, ends_at = words if len(words) == 3 else ("", "", "0")
    return Marks(owner.strip(), _number(turn), environment, node, float(_number(ends_at)))


def _number(text: str) -> int:
    """What we wrote; whoever was root there may have written anything."""
    return int(text) if text.isdecimal() and text.isascii() and len(text) <= MOST_DIGITS else 0


async def _shown(address: str, port: int) -> str:
    import asyncssh

    where = f"{address}:{port}"
    try:
        async with asyncio.timeout(SHOW_S):
            key = await asyncssh.get_server_host_key(address, port, config=None)
    except TimeoutError as error:
        raise TransientError(f"{where} did not show a host key within {SHOW_S:g} s") from error
    except (OSError, asyncssh.Error) as error:
        raise TransientError(f"{where} does not answer SSH: {error}") from error
    if key is None:
        raise TransientError(f"{where} showed no host key")
    algorithm, text, *_ = key.export_public_key("openssh").decode().split()
    return f"{algorithm} {text}"
