"""Secrets: keys, tokens and passwords, never in clear in the store."""

from __future__ import annotations

from typing import Protocol

from pipeline.ports.common import Secret


class Secrets(Protocol):
    """Named secrets. Any number of callers at once."""

    def put(self, name: str, secret: Secret) -> None:
        """Keep or replace."""

    def get(self, name: str) -> Secret:
        """NotFound when there is none; PermanentError when it cannot be opened with this key."""

    def delete(self, name: str) -> None:
        """Forget; also what is not there."""

    def seal(self, secret: Secret) -> str:
        """The secret as text that may lie in a document; only this deployment can open it."""

    def open(self, sealed: str) -> Secret:
        """PermanentError when it was not sealed by this deployment."""


class KeyMaker(Protocol):
    """Makes SSH key pairs."""

    def ed25519(self, comment: str) -> tuple[Secret, str]:
        """Private key (OpenSSH PEM) and its public line `ssh-ed25519 AAAA… comment`."""
