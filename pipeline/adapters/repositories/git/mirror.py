"""One bare mirror of one repository, shared by processes: readers share its lock, a fetch has it alone."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pipeline.adapters.repositories.git.commands import GitCommands, Outcome, credentials
from pipeline.domain.errors import NotFound, PermanentError, TransientError, UserError
from pipeline.ports.common import Secret

#: Exactly the bytes of the commit: no file left out, nothing substituted or converted on the way.
_ATTRIBUTES = "* -export-ignore -export-subst -text -ident -filter -working-tree-encoding\n"

#: Where fetched commits are kept, so that the next fetch transfers only what is new; beyond so many the oldest go.
_KEEP = "refs/greenroom"
_KEPT = 200

#: Everything a commit may be reachable from, pull requests of the forges included.
_ALL_REFS = ("refs/heads/*", "refs/tags/*", "refs/pull/*/head", "refs/merge-requests/*/head")
_INFINITE_DEPTH = 2**31 - 1

_NO_SUCH_COMMIT = re.compile(
    r"not our ref|couldn't find remote ref|unadvertised object|no such remote ref", re.IGNORECASE
)
_REFUSED = re.compile(
    r"authentication failed|permission denied|could not read (username|password)|terminal prompts disabled"
    r"|host key verification failed|error: 40[13]|access denied|dubious ownership",
    re.IGNORECASE,
)
_MISSING = re.compile(
    r"repository .*not found|not found:|does not (appear to be|exist)|error: 404|no such file or directory",
    re.IGNORECASE,
)
_NOT_ALLOWED = re.compile(r"transport '.*' not allowed|unable to find remote helper", re.IGNORECASE)


class MirrorBroken(Exception):
    """Our copy cannot be read; a new one can be made."""


@dataclass(frozen=True)
class Remote:
    """Where to fetch from. `name` is for messages, `url` for git."""

    name: str
    url: str
    credential: Secret | None
    timeout_s: float


def listing(sha: str, path: str) -> tuple[str, ...]:
    """The git command that lists a commit's entry at a path, with mode, kind, id and size."""
    return ("ls-tree", "-l", "-z", sha, "--", path)


class Mirror:
    """The mirror in `commands.directory`; its lock lies beside it."""

    def __init__(self, commands: GitCommands) -> None:
        self._commands = commands
        self._directory = commands.directory

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Keep fetches and removals out."""
        with self._lock(fcntl.LOCK_SH):
            yield

    def local(self, *arguments: str) -> bytes:
        """Output of a command that must succeed on a sound mirror."""
        outcome = self._commands.run(*arguments)
        if outcome.status:
            raise MirrorBroken(outcome.stderr[:500])
        return outcome.stdout

    def listed(self, sha: str, path: str) -> bytes | None:
        """What a commit that is here has at a path; None when the commit is not here, or not whole."""
        outcome = self._commands.run(*listing(sha, path))
        return None if outcome.status else outcome.stdout

    def commit(self, name: str) -> str | None:
        """The whole id of a commit that is here; None when it is not, or the name is ambiguous."""
        outcome = self._commands.run("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
        return None if outcome.status else outcome.stdout.decode("ascii").strip()

    def ensure(self, remote: Remote, sha: str, *, thorough: bool = True) -> None:
        """Have the commit here; NotFound when the remote has none. `thorough`: look through all refs for it."""
        with self.reading():
            if self.commit(sha) is not None:
                return
        with self._lock(fcntl.LOCK_EX):
            self._create()
            if self.commit(sha) is None:
                self._fetch_commit(remote, sha, thorough=thorough)

    def search(self, remote: Remote, abbreviation: str) -> str:
        """The commit that begins so; NotFound when there is none, or more than one."""
        with self._lock(fcntl.LOCK_EX):
            self._create()
            self._fetch_everything(remote)
            sha = self.commit(abbreviation)
        if sha is None:
            raise NotFound(f"{remote.name} has no commit {abbreviation}, or several; give all 40 digits")
        return sha

    def ls_remote(self, remote: Remote, *patterns: str) -> dict[str, str]:
        """Refs of the remote by name."""
        with self._lock(fcntl.LOCK_EX):
            self._create()
        outcome = self._remote(remote, "ls-remote", "--quiet", "--", remote.url, *patterns)
        if outcome.status:
            raise self._fault(remote, outcome)
        lines = (line.partition("\t") for line in outcome.stdout.decode("utf-8", "replace").splitlines())
        return {name: sha for sha, _, name in lines}

    def discard(self) -> None:
        """Remove the mirror; the next use makes a new one."""
        with self._lock(fcntl.LOCK_EX):
            if not os.path.lexists(self._directory):
                return
            grave = Path(tempfile.mkdtemp(prefix="broken-", dir=self._directory.parent))
            self._directory.rename(grave / "mirror")
        shutil.rmtree(grave)

    def _create(self) -> None:
        if self._directory.is_dir():
            return
        place = Path(tempfile.mkdtemp(prefix="new-", dir=self._directory.parent))
        made = GitCommands(place / "mirror", self._commands.configuration, self._commands.schemes)
        outcome = made.run("init", "--bare", "--quiet", "--template=", str(made.directory))
        if outcome.status:
            shutil.rmtree(place)
            raise PermanentError(f"no mirror can be made in {self._directory.parent}: {outcome.stderr[:300]}")
        info = made.directory / "info"
        info.mkdir(exist_ok=True)
        (info / "attributes").write_text(_ATTRIBUTES, encoding="ascii")
        made.directory.rename(self._directory)
        place.rmdir()

    def _fetch_commit(self, remote: Remote, sha: str, *, thorough: bool) -> None:
        outcome = self._fetch(remote, 1, f"+{sha}:{_KEEP}/{sha}")
        if outcome.status and not _NO_SUCH_COMMIT.search(outcome.stderr):
            raise self._fault(remote, outcome)
        if outcome.status and thorough:
            self._fetch_everything(remote)
        if self.commit(sha) is None:
            raise NotFound(f"{remote.name} has no commit {sha}; was it pushed, or overwritten since?")
        self._forget_oldest()

    def _fetch_everything(self, remote: Remote) -> None:
        refspecs = [f"+{ref}:refs/remote/{ref.removeprefix('refs/')}" for ref in _ALL_REFS]
        outcome = self._fetch(remote, _INFINITE_DEPTH, "--prune", *refspecs)
        if outcome.status:
            raise self._fault(remote, outcome)

    def _fetch(self, remote: Remote, depth: int, *arguments: str) -> Outcome:
        options = [word for word in arguments if word.startswith("--")]
        refspecs = [word for word in arguments if not word.startswith("--")]
        quiet = ("--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules", f"--depth={depth}")
        return self._remote(remote, "fetch", *quiet, *options, "--", remote.url, *refspecs)

    def _remote(self, remote: Remote, *arguments: str) -> Outcome:
        with credentials(remote.url, remote.credential, self._directory.parent) as env:
            return self._commands.run(*arguments, timeout_s=remote.timeout_s, env=env)

    def _forget_oldest(self) -> None:
        listed = self.local("for-each-ref", "--sort=-creatordate", "--format=%(refname)", _KEEP)
        for ref in listed.decode("ascii").split()[_KEPT:]:
            self.local("update-ref", "-d", ref)

    def _fault(self, remote: Remote, outcome: Outcome) -> Exception:
        """The error that a failed remote command means."""
        told = outcome.stderr.strip()[:500]
        if outcome.timed_out:
            return TransientError(f"{remote.name} did not answer within {remote.timeout_s:g} s")
        if _REFUSED.search(told):
            return PermanentError(f"{remote.name} refused us: {told}; check the project's token or key")
        if _NOT_ALLOWED.search(told):
            return UserError(f"{remote.name} has a scheme that is not allowed")
        if not self._sound():
            return MirrorBroken(told)
        if _MISSING.search(told):
            return NotFound(f"no repository at {remote.name}: {told}")
        return TransientError(f"{remote.name} cannot be fetched: {told}")

    def _sound(self) -> bool:
        check = self._commands.run("fsck", "--connectivity-only", "--no-dangling", "--no-progress")
        return check.status == 0 and self._directory.is_dir()

    @contextmanager
    def _lock(self, mode: int) -> Iterator[None]:
        path = self._directory.with_suffix(".lock")
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, mode)
            yield
        finally:
            os.close(handle)
