"""Repositories: exactly the commit, from a mirror that is kept."""

from __future__ import annotations

from typing import Protocol

from pipeline.ports.common import Secret


class Repositories(Protocol):
    """Git repositories by URL. Calls for one repository may come from several processes at once.

    `url` is https, ssh, `git@host:path`, or local where that is allowed. A credential is `user:password` or a token
    for https, a private key (PEM) for ssh. Errors: UserError (odd scheme, option-like ref), NotFound (no such
    repository, commit or path), PermanentError (refused login), TransientError (remote does not answer), TooLarge.
    """

    def resolve(self, url: str, ref: str, *, credential: Secret | None = None) -> str:
        """The commit (40 hex digits) that a branch, tag, commit or beginning of a commit (7 digits) means now."""

    def read(self, url: str, sha: str, path: str, *, limit_bytes: int, credential: Secret | None = None) -> bytes:
        """One file of a commit; NotFound when the commit has none there."""

    def changed_paths(self, url: str, base: str, sha: str, *, credential: Secret | None = None) -> tuple[str, ...]:
        """Paths that differ between two commits; all paths of `sha` when `base` is unknown or all zeros."""

    def export(self, url: str, sha: str, target: str, *, credential: Secret | None = None) -> None:
        """Write exactly the commit's files into the empty local directory `target`, and nothing outside it."""
