"""Secrets: keys, tokens and passwords, never in clear in the store."""

from __future__ import annotations

from typing import Protocol

from pipeline.ports.common import Secret


class Secrets(Protocol):
    """Turns secrets into text that may lie in a document. Any number of callers at once."""

    def seal(self, secret: Secret) -> str:
        """The secret as text that only this deployment can open."""

    def open(self, sealed: str) -> Secret:
        """PermanentError when it was not sealed by this deployment."""


class KeyMaker(Protocol):
    """Makes SSH key pairs."""

    def ed25519(self, comment: str) -> tuple[Secret, str]:
        """Private key (OpenSSH PEM) and its public line `ssh-ed25519 AAAA… comment`."""

    def public_of(self, private: Secret, comment: str) -> str:
        """The public line of a private key that was made here."""
