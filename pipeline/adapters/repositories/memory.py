"""Repositories in memory: the twin for tests and for runs without a machine."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.domain.errors import GreenroomError, NotFound, PermanentError, TooLarge, UserError
from pipeline.domain.triggers import ZERO_SHA, is_sha, ref_refusal, repository_refusal
from pipeline.ports.common import Secret


@dataclass
class _Repository:
    refs: dict[str, str] = field(default_factory=dict)
    commits: dict[str, Mapping[str, bytes]] = field(default_factory=dict)
    credential: Secret | None = None


class MemoryRepositories:
    """See `ports.repositories.Repositories`.

    Knobs: `commit` and `tag` fill it, `lock` asks for a credential, `fail_next` makes the next call raise.
    `calls` lists what was asked, as `name url`.
    """

    def __init__(self) -> None:
        self._repositories: dict[str, _Repository] = {}
        self._faults: list[GreenroomError] = []
        self._guard = threading.Lock()
        self.calls: list[str] = []

    def commit(self, url: str, branch: str, files: Mapping[str, bytes]) -> str:
        """Make `files` the newest commit of a branch, and of HEAD; its id."""
        repository = self._repositories.setdefault(url, _Repository())
        text = repr((url, branch, len(repository.commits), sorted(files.items())))
        sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
        repository.commits[sha] = dict(files)
        repository.refs[f"refs/heads/{branch}"] = repository.refs["HEAD"] = sha
        return sha

    def tag(self, url: str, tag: str, sha: str) -> None:
        """Name a commit."""
        self._repositories[url].refs[f"refs/tags/{tag}"] = sha

    def lock(self, url: str, credential: Secret) -> None:
        """Let only holders of the credential in."""
        self._repositories[url].credential = credential

    def fail_next(self, error: GreenroomError) -> None:
        """Raise this from the next call."""
        self._faults.append(error)

    def resolve(self, url: str, ref: str, *, credential: Secret | None = None) -> str:
        refusal = ref_refusal(ref)
        if refusal is not None:
            raise UserError(refusal)
        repository = self._open("resolve", url, credential)
        for name in (ref, f"refs/heads/{ref}", f"refs/tags/{ref}"):
            if name in repository.refs:
                return repository.refs[name]
        found = [sha for sha in repository.commits if len(ref) >= 7 and sha.startswith(ref)]
        if len(found) != 1:
            raise NotFound(f"{url} has no branch, tag or commit {ref}: push it first, or name one that is there")
        return found[0]

    def read(self, url: str, sha: str, path: str, *, limit_bytes: int, credential: Secret | None = None) -> bytes:
        if not path or path.startswith("/") or ".." in path.split("/"):
            raise UserError(f"{path!r} is no path inside a repository")
        files = self._files("read", url, sha, credential)
        if path not in files:
            raise NotFound(f"commit {sha} has no {path}")
        if len(files[path]) > limit_bytes:
            raise TooLarge(f"{path} of commit {sha} has {len(files[path])} bytes; at most {limit_bytes} are taken")
        return files[path]

    def changed_paths(self, url: str, base: str, sha: str, *, credential: Secret | None = None) -> tuple[str, ...]:
        files = self._files("changed_paths", url, sha, credential)
        commits = self._repositories[url].commits
        known = [files for name, files in commits.items() if len(base) >= 7 and name.startswith(base)]
        before = known[0] if len(known) == 1 and base != ZERO_SHA else {}
        names = sorted({*before, *files})
        return tuple(name for name in names if before.get(name) != files.get(name))

    def export(self, url: str, sha: str, target: str, *, credential: Secret | None = None) -> None:
        if any(Path(target).iterdir()):
            raise UserError(f"{target} is not empty; a commit is only written into an empty directory")
        for name, content in self._files("export", url, sha, credential).items():
            path = Path(target, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            path.chmod(0o755 if content.startswith(b"#!") else 0o644)

    def _files(self, call: str, url: str, sha: str, credential: Secret | None) -> Mapping[str, bytes]:
        if not is_sha(sha):
            raise UserError(f"{sha[:80]!r} is no commit id of 40 hexadecimal digits")
        commits = self._open(call, url, credential).commits
        if sha not in commits:
            raise NotFound(f"{url} has no commit {sha}")
        return commits[sha]

    def _open(self, call: str, url: str, credential: Secret | None) -> _Repository:
        refusal = repository_refusal(url)
        if refusal is not None:
            raise UserError(refusal)
        with self._guard:
            self.calls.append(f"{call} {url}")
            if self._faults:
                raise self._faults.pop(0)
        repository = self._repositories.get(url)
        if repository is None:
            raise NotFound(f"no repository at {url}")
        self._admit(url, repository, credential)
        return repository

    def _admit(self, url: str, repository: _Repository, credential: Secret | None) -> None:
        if repository.credential is not None and repository.credential != credential:
            raise PermanentError(f"{url} refused us; check the project's token or key")
