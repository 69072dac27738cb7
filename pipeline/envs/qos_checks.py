"""Checks of promises on request: asked for over the API, measured by a worker, kept with the environment."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pipeline.domain.environments import Environment, EnvironmentState
from pipeline.domain.errors import GreenroomError, InvalidTransition
from pipeline.domain.promises import Measured
from pipeline.envs import jobs
from pipeline.envs.access import access_of
from pipeline.envs.books import QOS_CHECKS, Books, QosCheck
from pipeline.envs.providers import Provider
from pipeline.envs.qos import measure
from pipeline.ports.common import Clock, Ids
from pipeline.ports.secrets import Secrets
from pipeline.ports.stores import Event

#: Results are kept for so long, in seconds.
KEPT_S = 7 * 86400
#: Nodes can be logged in to.
STANDS = frozenset({EnvironmentState.READY, EnvironmentState.LEASED, EnvironmentState.HELD})


@dataclass(frozen=True)
class QosChecks:
    """Any number of processes at once."""

    books: Books
    providers: Callable[[str], Provider]
    secrets: Secrets
    clock: Clock
    ids: Ids

    def ask(self, environment_id: str) -> QosCheck:
        """Store the wish and the job that carries it out; InvalidTransition when its nodes do not stand."""
        self._standing(environment_id)
        check = QosCheck(self.ids.new("qos"), environment_id, self.clock.now())
        self.books.commit(QOS_CHECKS.put(check.id, check, 0, ttl_s=KEPT_S), jobs=[jobs.qos_check(check.id)])
        return check

    def carry_out(self, check_id: str) -> None:
        """Measure, and keep what came of it; nothing when that was done already."""
        loaded = self.books.qos_checks.get(check_id)
        if loaded.value.finished_at is not None:
            return
        found, fault = self._measured(loaded.value.environment)
        now = self.clock.now()
        done = QosCheck(check_id, loaded.value.environment, loaded.value.asked_at, now, tuple(found), fault)
        put = QOS_CHECKS.put(check_id, done, loaded.version, ttl_s=KEPT_S)
        data = {"check": check_id, "kept": done.kept, "fault": fault, "found": [str(one) for one in found]}
        self.books.commit(put, events=[Event(done.environment, "qos.checked", now, data)])

    def _measured(self, environment_id: str) -> tuple[list[Measured], str]:
        try:
            environment = self._standing(environment_id)
            access = access_of(environment, self.secrets)
            promises = {node.name: node.qos for node in environment.nodes}
            with self.providers(environment.provider).transport.connect(access) as connection:
                return measure(connection, access, promises, access.nodes), ""
        except GreenroomError as error:  # whoever asked reads it; another check may be asked for
            return [], str(error)

    def _standing(self, environment_id: str) -> Environment:
        environment = self.books.environments.get(environment_id).value
        if environment.state not in STANDS:
            raise InvalidTransition(
                f"environment {environment_id} is {environment.state}: its nodes cannot be measured"
            )
        return environment
