"""Intake: a delivery is believed, taken once, and stored before it is answered."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.domain.errors import NotFound, UserError, VersionConflict
from pipeline.domain.intake import TriggerRecord
from pipeline.domain.triggers import Ignored, Trigger
from pipeline.envs import jobs
from pipeline.envs.books import PROJECTS, TRIGGERS
from pipeline.ports.common import Clock, Ids, Secret
from pipeline.ports.forges import Delivery, Forge, Received
from pipeline.ports.secrets import Secrets
from pipeline.ports.stores import AsyncStore, Commit, JobRequest, Put

#: A delivery id is remembered so long; no forge delivers again after 30 days.
DELIVERY_TTL_S = 30 * 86_400
#: A changed hook secret counts after at most so many seconds.
SECRET_CACHE_S = 2.0
#: A trigger whose job was lost is planned again after so many seconds.
PLAN_GRACE_S = 5.0


@dataclass(frozen=True)
class Taken:
    """The answer to a delivery: `trigger_id` when it may start a run, else why it does not."""

    trigger_id: str = ""
    ignored: str = ""
    duplicate: bool = False


class Intake:
    """Takes deliveries, in one event loop, with one write each."""

    def __init__(self, store: AsyncStore, forges: Sequence[Forge], secrets: Secrets, clock: Clock, ids: Ids) -> None:
        self._store = store
        self._forges = forges
        self._secrets = secrets
        self._clock = clock
        self._ids = ids
        self._known: dict[str, tuple[float, Secret]] = {}

    async def take(self, project: str, headers: Mapping[str, str], body: bytes) -> Taken:
        """Check and store one delivery.

        Errors: NotFound (project), BadSignature, UserError (no forge's headers, broken content); then nothing was
        stored.
        """
        delivery = Delivery(headers, body, self._clock.now())
        secret = await self._secret(project)
        forge = next((forge for forge in self._forges if forge.recognises(delivery)), None)
        if forge is None:
            names = ", ".join(forge.name for forge in self._forges)
            raise UserError(f"the request has the headers of no forge that is known here ({names})")
        return await self._store_once(project, forge.name, forge.receive(delivery, secret), delivery.now)

    async def _secret(self, project: str) -> Secret:
        read_at, secret = self._known.get(project, (0.0, Secret("")))
        if self._clock.now() - read_at < SECRET_CACHE_S:
            return secret
        document = await self._store.get(PROJECTS.name, project)
        if document is None:
            self._known.pop(project, None)
            raise NotFound(f"there is no project {project!r}; add it with `greenroom project add {project}`")
        secret = self._secrets.open(PROJECTS.value(document).sealed_hook_secret)
        self._known[project] = (self._clock.now(), secret)
        return secret

    async def _store_once(self, project: str, forge: str, received: Received, now: float) -> Taken:
        digest = hashlib.sha256(received.delivery_id.encode()).hexdigest()[:40]
        key = f"{project}_{forge}_{digest}"
        taken, commit = self._commit(project, received, now, key)
        try:
            await self._store.commit(commit)
        except VersionConflict:
            return await self._earlier(key)
        return taken

    def _commit(self, project: str, received: Received, now: float, key: str) -> tuple[Taken, Commit]:
        outcome = received.outcome
        if isinstance(outcome, Ignored):
            note = Put("delivery", key, 0, {"trigger": "", "ignored": outcome.reason}, ttl_s=DELIVERY_TTL_S)
            return Taken(ignored=outcome.reason), Commit((note,), jobs=_end_lane(project, outcome, key, now))
        record = self._record(project, outcome, received.delivery_id, now)
        note = Put("delivery", key, 0, {"trigger": record.id, "ignored": ""}, ttl_s=DELIVERY_TTL_S)
        writes = (note, TRIGGERS.put(record.id, record, 0))
        return Taken(trigger_id=record.id), Commit(writes, jobs=(jobs.plan(record.id, 0),))

    def _record(self, project: str, trigger: Trigger, delivery_id: str, now: float) -> TriggerRecord:
        id, due = self._ids.new("trg"), now + PLAN_GRACE_S
        return TriggerRecord(id, project, trigger, delivery_id, received_at=now, due_at=due)

    async def _earlier(self, key: str) -> Taken:
        document = await self._store.get("delivery", key)
        known = document.body if document is not None else {"trigger": "", "ignored": "taken before"}
        return Taken(trigger_id=known["trigger"], ignored=known["ignored"], duplicate=True)


def _end_lane(project: str, outcome: Ignored, key: str, now: float) -> tuple[JobRequest, ...]:
    if not outcome.ended_lane:
        return ()
    args = (project, outcome.ended_lane, str(now), str(outcome.happened_at or now))
    return (JobRequest(f"{key}_end", jobs.TICK_QUEUE, jobs.END_LANE, args),)
