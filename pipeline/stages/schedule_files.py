"""Schedules in a greenroom.yml: in force as the newest commit of the default branch has them."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence

from pipeline.domain.blueprint import ScheduleSpec
from pipeline.domain.errors import NotFound
from pipeline.domain.intake import TriggerRecord
from pipeline.domain.schedules import Schedule, Source, of_file
from pipeline.domain.triggers import Trigger, TriggerKind
from pipeline.envs.books import SCHEDULES, Loaded
from pipeline.ports.common import Secret
from pipeline.ports.stores import Delete, Put
from pipeline.stages.context import Tools

log = logging.getLogger(__name__)
#: The document that says which trigger's file of a repository is in force.
FILE_KIND = "schedule_file"


class ScheduleFiles:
    """Any number of planners at once."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._books = tools.books

    def take_over(
        self, record: TriggerRecord, trigger: Trigger, specs: Sequence[ScheduleSpec], token: Secret | None
    ) -> None:
        """Put the schedules of a push's file in force, if it is the newest commit of the default branch.

        InfraError when the repository does not answer; may be called again.
        """
        if trigger.kind is not TriggerKind.PUSH:
            return
        if not specs and not self._known(record.project, trigger.repository):
            return
        if self._is_newest(trigger, token):
            self._books.again(lambda: self._take_over(record, trigger.repository, specs))

    def _is_newest(self, trigger: Trigger, token: Secret | None) -> bool:
        """Whether it is the commit of HEAD, by which a repository names its default branch."""
        try:
            return self._tools.repositories.resolve(trigger.repository, "HEAD", credential=token) == trigger.sha
        except NotFound:
            log.warning("%s has no default branch: its HEAD names none; schedules stay", trigger.repository)
            return False

    def _known(self, project: str, repository: str) -> list[Loaded[Schedule]]:
        found = self._books.schedules.everything(f"schedules:project:{project}")
        return [one for one in found if one.value.source is Source.FILE and one.value.repository == repository]

    def _take_over(self, record: TriggerRecord, repository: str, specs: Sequence[ScheduleSpec]) -> None:
        """An older push that is planned late undoes nothing, and nothing is added to a project that goes meanwhile."""
        id = hashlib.sha256(f"{record.project}\n{repository}".encode()).hexdigest()[:24]
        last = self._books.store.get(FILE_KIND, id)
        if last is not None and last.body["trigger"] > record.id:
            return
        known = self._known(record.project, repository)
        change = of_file(record.project, repository, specs, [one.value for one in known], self._tools.clock.now())
        versions = {one.value.id: one.version for one in known}
        turn = Put(FILE_KIND, id, last.version if last else 0, {"trigger": record.id})
        kept = [SCHEDULES.put(one.id, one, versions.get(one.id, 0)) for one in change.kept]
        gone = [Delete(SCHEDULES.name, one.id, versions[one.id]) for one in change.gone]
        project = self._books.projects.get(record.project)
        same = self._books.projects.kind.put(project.value.name, project.value, project.version)
        self._books.commit(same, turn, *kept, *gone)
