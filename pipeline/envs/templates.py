"""Templates: blueprints that are kept under a name."""

from __future__ import annotations

from dataclasses import dataclass, field

from pipeline.domain.blueprint import Blueprint
from pipeline.domain.contracts import checked_name
from pipeline.domain.errors import NotFound, UserError
from pipeline.domain.guards import Act, Facts
from pipeline.envs.books import TEMPLATES, Books, Template
from pipeline.envs.gate import Asking, Gate
from pipeline.ports.blueprints import BlueprintReader
from pipeline.ports.common import Clock
from pipeline.ports.stores import Delete

#: Bytes of a blueprint, in a repository or not.
LIMIT = 256 * 1024
#: Blueprints that were read and are kept, since the same ones are read again and again.
KEPT = 64


@dataclass(frozen=True)
class Templates:
    """Any number of processes at once."""

    books: Books
    reader: BlueprintReader
    gate: Gate
    clock: Clock
    _read: dict[tuple[str, str], Blueprint] = field(default_factory=dict)

    def keep(self, name: str, text: str) -> Template:
        """Keep a blueprint in place of the one that had the name; InvalidBlueprint with every mistake in it.

        Environments that were made of the earlier one stay as they are.
        """
        self.read(f"template {checked_name(name)}", text)
        return self.books.again(lambda: self._keep(name, text))

    def _keep(self, name: str, text: str) -> Template:
        known, now = self.books.templates.find(name), self.clock.now()
        template = Template(name, text, known.value.created_at if known else now, now)
        self.books.commit(TEMPLATES.put(name, template, known.version if known else 0))
        return template

    def get(self, name: str) -> Template:
        """NotFound names those that there are."""
        known = self.books.templates.find(name)
        if known is None:
            names = ", ".join(one.name for one in self.all()) or "none yet"
            raise NotFound(
                f"there is no template {name[:80]!r}; there are: {names}; `PUT /v1/templates/NAME` keeps one"
            )
        return known.value

    def all(self) -> list[Template]:
        return [loaded.value for loaded in self.books.templates.everything("templates")]

    def forget(self, name: str, asking: Asking) -> Template:
        """Forget a template; environments that were made of it stay."""
        self.get(name)
        return self.books.again(lambda: self._forget(name, asking))

    def _forget(self, name: str, asking: Asking) -> Template:
        loaded = self.books.templates.get(name)
        passed = self.gate.judge(Act.DELETE_OBJECT, f"template {name}", Facts(who=asking.who), asking)
        gone = () if asking.dry_run else (Delete(TEMPLATES.name, name, loaded.version),)
        self.books.commit(*gone, *passed.writes, events=passed.events)
        return loaded.value

    def read(self, source: str, text: str) -> Blueprint:
        content = text.encode()
        if len(content) > LIMIT:
            raise UserError(f"{source} has {len(content)} bytes; {LIMIT} are taken at most")
        known = self._read.get((source, text))
        if known is None:
            known = self.reader.read(source, content)
            if len(self._read) >= KEPT:
                self._read.clear()
            self._read[source, text] = known
        return known
