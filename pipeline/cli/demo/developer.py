"""What a developer does: a repository, commits, pushes. It is the real git."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pipeline.cli import programs
from pipeline.cli.demo.place import Place
from pipeline.cli.output import FAILED, Complaint

#: The sample repository that ships with Greenroom.
SAMPLE = Path(__file__).resolve().parent.parent.parent / "demo" / "sample"
BRANCH = "main"
#: What asks for several racks, which not every provider has.
RACKS = "spread: zone"
ANYWHERE = "spread: none"
#: The mistake of the second push, as the sample's README tells it.
BROKEN_FILE = "app/web.py"
GOOD = 'return f"{cents // 100}.{cents % 100:02d}"'
BAD = 'return f"{cents // 100}.{cents % 100}"'


@dataclass(frozen=True)
class Developer:
    """Works in the demo's place."""

    place: Place

    @cached_property
    def env(self) -> Mapping[str, str]:
        """Git without anybody's own settings, whose signing or hooks would be in the way."""
        person = {"NAME": "Demo", "EMAIL": "demo@localhost"}
        names = {f"GIT_{role}_{key}": value for role in ("AUTHOR", "COMMITTER") for key, value in person.items()}
        quiet = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "GIT_TERMINAL_PROMPT": "0"}
        kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        return {**kept, **names, **quiet}

    def begin(self) -> None:
        """A bare repository, and a work tree of it with the sample in its first commit."""
        shutil.copytree(SAMPLE, self.place.work, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
        if not self.place.here:
            self._replace(RACKS, ANYWHERE, "greenroom.yml")
        self._git("init", "--quiet", "--bare", f"--initial-branch={BRANCH}", str(self.place.bare))
        self._git("init", "--quiet", f"--initial-branch={BRANCH}", str(self.place.work))
        self._in_tree("remote", "add", "origin", str(self.place.bare))
        self._commit("A shop")

    def break_it(self) -> None:
        self._replace(GOOD, BAD)
        self._commit("Prices without padding")

    def fix_it(self) -> None:
        self._replace(BAD, GOOD)
        self._commit("Prices have two decimals again")

    def push(self) -> str:
        """Push for real, with what the hook says; the commit that went."""
        self._in_tree("push", "--quiet", "origin", BRANCH, shown=True)
        return (self.place.work / ".git/refs/heads" / BRANCH).read_text().strip()

    def _replace(self, old: str, new: str, name: str = BROKEN_FILE) -> None:
        file = self.place.work / name
        text = file.read_text()
        if text.count(old) != 1:
            raise Complaint(f"{file}: expected `{old}` there once; the sample and the demo do not fit", FAILED)
        file.write_text(text.replace(old, new))

    def _commit(self, message: str) -> None:
        self._in_tree("add", "--all")
        self._in_tree("commit", "--quiet", "--message", message)

    def _in_tree(self, *arguments: str, shown: bool = False) -> None:
        self._git("-C", str(self.place.work), *arguments, shown=shown)

    def _git(self, *arguments: str, shown: bool = False) -> None:
        log = self.place.root / "git.log"
        if programs.call(["git", *arguments], self.env, log=None if shown else log) != 0:
            said = "" if shown else f":\n{log.read_text(errors='replace')[-1000:]}"
            raise Complaint(f"git {' '.join(arguments)} failed{said}", FAILED)
