"""Handing out: an environment that a warm pool keeps ready gets its requester's keys, and is his or nobody's.

The claim is one write of the environment, so two can never have the same one. Until the keys were read back from every
node it stands among those that are not confirmed; whoever finds it there does the same again, or gives it up.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.domain import pools
from pipeline.domain.environments import Environment
from pipeline.domain.errors import GreenroomError, InfraError
from pipeline.domain.pools import Pool
from pipeline.envs import events, jobs
from pipeline.envs.books import UNCONFIRMED, Loaded, pool_index
from pipeline.envs.gate import TICK, Asking
from pipeline.envs.login_keys import LoginKeys
from pipeline.envs.pools import Pools
from pipeline.ports.stores import Event, JobRequest
from pipeline.stages.context import Tools
from pipeline.stages.control import Control

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Handouts:
    """Any number of processes at once."""

    tools: Tools
    pools: Pools
    keys: LoginKeys
    control: Control

    def candidates(self, pool: Pool, made_of: str) -> Iterator[Loaded[Environment]]:
        """Those that may be claimed, beginning anywhere: many who ask at once should not all want the same one."""
        ids = list(self.tools.books.store.index(pool_index("ready", pool.name)))
        first = int(self.tools.ids.dice() * len(ids))
        for id in (*ids[first:], *ids[:first]):
            loaded = self.tools.books.environments.find(id)
            if loaded is not None and self._may_go(loaded.value, made_of):
                yield loaded

    def _may_go(self, environment: Environment, made_of: str) -> bool:
        out = self.pools.out_of_service([environment])
        return pools.may_be_handed_out(environment, made_of, out, self.tools.clock.now())

    def finish(self, environment_id: str) -> Environment | None:
        """Set the keys of whoever claimed it, on every node, and say so; None when that could not be done.

        Then it is nobody's, and is taken back. It may be called again, and by several at once.
        """
        environment = self.tools.books.environments.get(environment_id).value
        contract = environment.contract
        if contract is None or not pools.is_unconfirmed(environment):
            return _handed_out(environment)
        try:
            self.keys.replace(environment, contract.keys)
        except InfraError as error:
            log.warning("environment %s cannot be handed out: %s", environment_id, error)
            return self._settle(environment_id, f"its requester's keys could not be set: {error}")
        return self._settle(environment_id, "")

    def _settle(self, environment_id: str, fault: str) -> Environment | None:
        settled = self.tools.books.again(lambda: self._write(environment_id, fault))
        if settled is not None and settled.contract is None:
            self._stop(settled)
            return None
        return settled

    def _write(self, environment_id: str, fault: str) -> Environment | None:
        """Confirm it or give it up; what somebody else did meanwhile stands."""
        loaded, now = self.tools.books.environments.get(environment_id), self.tools.clock.now()
        environment = loaded.value
        if not pools.is_unconfirmed(environment) or environment.contract is None:
            return _handed_out(environment)
        after = pools.give_up(environment, fault, now) if fault else pools.confirm(environment, now)
        told = [_told(environment, fault, now), *events.of_environment(environment, after, now)]
        run = self.tools.books.runs.find(after.owner) if after.owner else None
        work = [jobs.wake(run.value)] if run is not None and not fault else []
        put = self.tools.books.environments.kind.put(after.id, after, loaded.version)
        self.tools.books.commit(put, events=told, jobs=work)
        return after

    def _stop(self, environment: Environment) -> None:
        """Its run has nothing to prepare any more; if this does not come to be, the run finds out by itself."""
        if not environment.owner:
            return
        try:
            self.control.cancel(environment.owner, Asking(TICK, environment.fault))
        except GreenroomError as error:
            log.info("run %s of environment %s goes on: %s", environment.owner, environment.id, error)

    def unconfirmed(self) -> list[JobRequest]:
        """Claims of which nobody said for too long what became of them."""
        due = self.tools.books.environments.due(UNCONFIRMED, self.tools.clock.now())
        return [jobs.finish_claim(one.value.id) for one in due]


def _handed_out(environment: Environment) -> Environment | None:
    """The environment, if it is somebody's by now."""
    return environment if environment.contract is not None and not environment.final else None


def _told(environment: Environment, fault: str, now: float) -> Event:
    pool = environment.warm.pool if environment.warm is not None else ""
    kind = "environment.not-handed-over" if fault else "environment.handed-over"
    return Event(environment.id, kind, now, {"environment": environment.id, "pool": pool, "fault": fault})
