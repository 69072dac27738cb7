"""Secrets sealed with one key of the deployment, which lies in a file beside its settings, never in the store."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken

from pipeline.domain.errors import PermanentError
from pipeline.ports.common import Secret


class SealedSecrets:
    """`Secrets` by Fernet (AES-128-CBC with HMAC-SHA256)."""

    def __init__(self, key: Secret) -> None:
        self._fernet = Fernet(key.reveal())

    def seal(self, secret: Secret) -> str:
        return self._fernet.encrypt(secret.reveal().encode()).decode()

    def open(self, sealed: str) -> Secret:
        try:
            return Secret(self._fernet.decrypt(sealed.encode()).decode())
        except InvalidToken as error:
            raise PermanentError("a secret was sealed with another key; put the old key file back") from error


def key_from(path: str) -> Secret:
    """The sealing key in a file, made when there is none."""
    return _secret_file(path, lambda: Fernet.generate_key().decode())


def token_from(path: str) -> Secret:
    """The API's token in a file, made when there is none."""
    return _secret_file(path, lambda: secrets.token_urlsafe(32))


def ssh_key_from(path: str, make: Callable[[], Secret]) -> Secret:
    """The private SSH key of the service in a file, made when there is none."""
    return Secret(_secret_file(path, lambda: make().reveal()).reveal() + "\n")


def _secret_file(path: str, make: Callable[[], str]) -> Secret:
    """The content of a file, made with mode 0600; safe when several threads or processes start at once."""
    file = Path(path)
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        fresh = file.with_name(f"{file.name}.{secrets.token_hex(8)}")
        fresh.touch(mode=0o600)
        fresh.write_text(make())
        try:
            file.hardlink_to(fresh)
        except FileExistsError:
            pass  # another process was first: its secret is the one
        finally:
            fresh.unlink()
    return Secret(file.read_text().strip())
