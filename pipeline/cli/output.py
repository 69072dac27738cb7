"""What a person or a program reads: tables or JSON on standard output, all else on standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

#: Exit statuses, as docs/guides/cli.md lists them.
OK, FAILED, USAGE, UNREACHABLE, REFUSED = range(5)
#: Columns where there is no terminal that has some.
PLAIN_WIDTH = 160


@dataclass
class Output:
    """How one command speaks."""

    as_json: bool = False
    _consoles: dict[bool, Console] = field(default_factory=dict)

    def console(self, *, stderr: bool = False) -> Console:
        from rich.console import Console

        if stderr not in self._consoles:
            terminal = (sys.stderr if stderr else sys.stdout).isatty()
            width = None if terminal else PLAIN_WIDTH
            self._consoles[stderr] = Console(stderr=stderr, highlight=False, soft_wrap=True, width=width)
        return self._consoles[stderr]

    @property
    def live(self) -> bool:
        """Whether something may move on the screen."""
        return not self.as_json and sys.stdout.isatty()

    def data(self, value: object) -> None:
        """The JSON answer of a command."""
        sys.stdout.write(json.dumps(value, indent=2) + "\n")

    def show(self, *what: RenderableType) -> None:
        self.console().print(*what)

    def say(self, text: str) -> None:
        """A remark for a person: on standard error when standard output is for a program."""
        self.console(stderr=self.as_json).print(text, markup=False)

    def stream(self, text: str) -> None:
        """A piece of a log, as it is."""
        sys.stdout.write(text)
        sys.stdout.flush()

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]], title: str | None = None) -> None:
        from rich.box import SIMPLE_HEAD
        from rich.table import Table

        if not rows:
            self.say(f"no {columns[0]}s yet")
            return
        table = Table(box=SIMPLE_HEAD, pad_edge=False, title=title, title_justify="left")
        for number, column in enumerate(columns):
            table.add_column(column, no_wrap=number == 0, overflow="fold")
        for row in rows:
            table.add_row(*row)
        self.console().print(table, soft_wrap=False)

    @contextmanager
    def waiting(self, text: str) -> Iterator[None]:
        """Show that something goes on; a plain line where nothing may move."""
        if not self.live:
            self.say(f"{text} ...")
            yield
            return
        with self.console().status(text):
            yield


class Complaint(Exception):
    """Ends a command: what happened and what to do next, and its exit status."""

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.status = status
