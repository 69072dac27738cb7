"""Repositories: exactly the commit, from a mirror that is kept."""

from __future__ import annotations

from typing import Protocol

from pipeline.ports.common import Secret


class Repositories(Protocol):
    """Git repositories by URL. Calls for one repository may come from several processes at once.

    Errors: UserError (odd scheme, option-like ref, no such commit or path), TransientError (remote does not
    answer), TooLarge.
    """

    def resolve(self, url: str, ref: str, *, credential: Secret | None = None) -> str:
        """The commit (40 hex digits) that a branch, tag or commit means now."""

    def read(self, url: str, sha: str, path: str, *, limit_bytes: int, credential: Secret | None = None) -> bytes:
        """One file of a commit; NotFound when the commit has none there."""

    def changed_paths(self, url: str, base: str, sha: str, *, credential: Secret | None = None) -> tuple[str, ...]:
        """Paths that differ between two commits; all paths of `sha` when `base` is unknown or all zeros."""

    def export(self, url: str, sha: str, target: str, *, credential: Secret | None = None) -> None:
        """Write exactly the commit's files into the empty local directory `target`, and nothing outside it."""
