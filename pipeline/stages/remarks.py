"""The one comment at a pull request that says where its environment is: written once, and changed from then on.

It is retried as commit statuses are, and never in the way of an environment.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from pipeline.domain import failsafe, pulls
from pipeline.domain.durations import format_duration
from pipeline.domain.errors import InfraError, TransientError
from pipeline.domain.pulls import Pull, Remark, Said, Shown
from pipeline.envs.books import Books
from pipeline.ports.common import Clock, Ids
from pipeline.ports.forges import Forge
from pipeline.ports.secrets import Secrets
from pipeline.stages import pull_books
from pipeline.stages.context import project_token
from pipeline.stages.statuses import MAX_TRIES, REPORTING_S, is_its_forge

log = logging.getLogger(__name__)


def writing(pull: Pull) -> str:
    """The token of whoever writes a pull request's comment."""
    return f"{pull.id}.remark.{pull.remark.tries}"


@dataclass(frozen=True)
class Remarks:
    """Tells forges; any number of workers at once. `url_of` makes a URL of a host and a port."""

    books: Books
    forges: Mapping[str, Forge]
    secrets: Secrets
    clock: Clock
    ids: Ids
    url_of: Callable[[str, int], str]

    def write(self, id: str) -> None:
        """Say what is due, and note what came of it; a project that reports to no forge says nothing."""
        loaded = self.books.pulls.find(id)
        if loaded is None or loaded.value.remark.due_at is None:
            return
        pull = loaded.value
        self.books.store.beat(writing(pull), REPORTING_S)
        text = pulls.comment(pull, self._shown(pull))
        try:
            told = self._say(pull, text)
            remark = replace(pull.remark, id=told or pull.remark.id, text=text, due_at=None, tries=0, fault="")
        except InfraError as error:
            remark = self._after(pull, error)
        self.books.again(lambda: self._note(id, pull, remark))

    def _say(self, pull: Pull, text: str) -> str:
        """The comment's id; empty when nobody is told."""
        project = self.books.projects.find(pull.project)
        token = project_token(self.books, self.secrets, pull.project, pull.repository)
        known = project is not None and pull.forge in self.forges and is_its_forge(project.value, pull.forge)
        if project is None or token is None or not known or not pull.slug or not text or text == pull.remark.text:
            return ""
        said = Said(pull.slug, pull.number, text, pull.remark.mark, pull.remark.id)
        return self.forges[pull.forge].comment(said, project.value.api_url, token)

    def _shown(self, pull: Pull) -> Shown:
        found = self.books.environments.find(pull.serving.environment) if pull.serving is not None else None
        contract = found.value.contract if found is not None else None
        if found is None or contract is None:
            return Shown()
        door = found.value.door
        address = self.url_of(contract.host, door.port) if contract.host and door is not None else ""
        return Shown(address, format_duration(min(contract.ttl_s, contract.most_s)))

    def _after(self, pull: Pull, error: InfraError) -> Remark:
        tries = pull.remark.tries + 1
        if isinstance(error, TransientError) and tries < MAX_TRIES:
            due = self.clock.now() + failsafe.backoff(tries, self.ids.dice())
            return replace(pull.remark, tries=tries, due_at=due, fault=str(error))
        log.warning("pull request %s: its comment was not taken: %s", pull.id, error)
        return replace(pull.remark, tries=tries, due_at=None, fault=str(error))

    def _note(self, id: str, said: Pull, remark: Remark) -> None:
        """Keep the outcome; what changed while it was said is said next."""
        loaded = self.books.pulls.find(id)
        if loaded is None:
            return
        now, pull = self.clock.now(), loaded.value
        if pulls.comment(pull, Shown()) != pulls.comment(said, Shown()):
            remark = replace(remark, due_at=now, tries=0)
        puts, told, work = pull_books.noted(loaded, replace(pull, remark=remark), now)
        self.books.commit(*puts, events=told, jobs=work)
