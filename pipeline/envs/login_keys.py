"""Who may log in to the nodes of an environment: set on all of them at once over kept connections, and read back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

from pipeline.domain.environments import Environment
from pipeline.domain.errors import TransientError
from pipeline.envs.access import access_of
from pipeline.envs.providers import Provider
from pipeline.ports.secrets import Secrets
from pipeline.ports.transports import Connection

#: Seconds that all nodes together may take: whoever asked for an environment waits for it.
SET_S = 5.0
#: And one node for what it is asked; after that it is asked once more over a new connection, if the old one is dead.
ASK_S = 2.0
#: Puts the input in place of all keys, whole or not at all; says the node's name and what stands there now. Every
#: process that it starts is a part of the time for which somebody waits.
SCRIPT = """\
umask 077; d=~root/.ssh; f=$d/authorized_keys; [ -d $d ] || mkdir $d || exit 1
cat > $f.$$ && mv -f $f.$$ $f || exit 1
[ ! -e ${f}2 ] || rm -f ${f}2 || exit 1
read -r n < /proc/sys/kernel/hostname; echo "$n"; exec cat $f"""


@dataclass(frozen=True)
class LoginKeys:
    """Any number of processes at once; the same keys may be set twice."""

    providers: Callable[[str], Provider]
    secrets: Secrets

    def answer(self, environment: Environment) -> None:
        """See that every node answers, over a connection that is kept from now on. Errors: as `replace`."""
        self._everywhere(environment, _says_true)

    def replace(self, environment: Environment, keys: Sequence[str]) -> None:
        """Let these log in beside Greenroom itself, and nobody else, and read that back on every node.

        Errors: InfraError names the node that did not take them, or that is not who it should be.
        """
        lines = "".join(f"{key}\n" for key in (environment.public_key, *keys))
        self._everywhere(environment, lambda connection, node: _set(connection, node, lines))

    def _everywhere(self, environment: Environment, act: Callable[[Connection, str], None]) -> None:
        """Do it on all nodes at once; what does not answer in time is left behind in its thread."""
        provider = self.providers(environment.provider)
        if not provider.driver.capabilities.login:
            return
        access = access_of(environment, self.secrets)
        names = [node.name for node in access.nodes]
        missing = [node.name for node in environment.nodes if node.name not in names]
        if missing:
            raise TransientError(
                f"node {missing[0]} of environment {environment.id} cannot be reached: it has no address"
            )
        pool = ThreadPoolExecutor(len(names))
        try:
            with provider.transport.connect(access) as connection:
                _wait({name: pool.submit(act, connection, name) for name in names})
        finally:
            pool.shutdown(wait=False)


def _wait(acts: Mapping[str, Future[None]]) -> None:
    wait(acts.values(), SET_S)
    for name, act in acts.items():
        if not act.done():
            raise TransientError(f"node {name} did not answer within {SET_S:g} s")
        act.result()


def _says_true(connection: Connection, node: str) -> None:
    status, _ = connection.ask(node, "true", timeout_s=ASK_S)
    if status != 0:
        raise TransientError(f"node {node} answers, but ends `true` with status {status}")


def _set(connection: Connection, node: str, lines: str) -> None:
    status, said = connection.ask(node, SCRIPT, timeout_s=ASK_S, stdin=lines.encode())
    name, _, keys = said.decode(errors="replace").partition("\n")
    if status != 0 or keys != lines:
        raise TransientError(f"node {node} did not take the keys (status {status}): {' '.join(keys.split())[-200:]}")
    if name != node:
        raise TransientError(f"node {node} is called {name[:80]!r}: it is not the node that it should be")
