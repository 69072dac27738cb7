"""SSH key pairs, made with the cryptography package."""

from __future__ import annotations

from pipeline.domain.errors import UserError
from pipeline.ports.common import Secret


class SshKeys:
    """A `KeyMaker`; keys are never written to a file here."""

    def ed25519(self, comment: str) -> tuple[Secret, str]:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        if any(character in comment for character in "\r\n\0"):
            raise UserError("the comment of an SSH key must be one line")
        key = Ed25519PrivateKey.generate()
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
        )
        public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
        return Secret(private.decode()), f"{public.decode()} {comment}".rstrip()

    def public_of(self, private: Secret, comment: str) -> str:
        from cryptography.hazmat.primitives import serialization

        key = serialization.load_ssh_private_key(private.reveal().encode(), None).public_key()
        line = key.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
        return f"{line.decode()} {comment}"
