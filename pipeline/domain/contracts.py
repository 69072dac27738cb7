"""The contract of an environment that somebody asked for: whose it is, why it lives, and for how long."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass

from pipeline.domain.errors import UserError

#: A name that is looked for beside ids: 1 to 40 of a-z, 0-9 and inner hyphens.
NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?")
#: The warning comes so long before the end, in seconds, or after 90 % of the time if that is later.
WARNING_S = 300.0
WARNING_PART = 0.1
#: Types of public keys that OpenSSH 9 takes for a login (sshd_config(5), PubkeyAcceptedAlgorithms).
KEY_TYPES = (
    "ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "ssh-rsa",
    "sk-ssh-ed25519@openssh.com", "sk-ecdsa-sha2-nistp256@openssh.com",
)  # fmt: skip
#: Public keys of one environment, and characters of one of them (RSA of 16384 bits has 2,800).
MOST_KEYS = 20
LONGEST_KEY = 4096
_COMMENT = re.compile(r"[ -~]{0,200}")


@dataclass(frozen=True)
class Contract:
    """`owner` asked for it, and said `why`. Times are seconds, moments since the epoch, 0: not yet.

    It lives `ttl_s` from the moment at which its nodes are in service, and with extensions and holds `most_s`. `name`
    is another word for its id within its project. `keys` are the public OpenSSH lines that may log in beside its own
    key. `began_at` is when its nodes were in service, `ready_at` when it was configured and deployed, too. `warned`
    is the end that was warned of. `pool` is the warm pool that was asked for it, if there was one. `pull` is the pull
    request that it was made for and the number of that wish, as `<pull request>#<number>`; `url` is that one's page,
    and `host` its name, at which the environment answers requests instead of at its own.
    """

    owner: str
    why: str
    ttl_s: float
    most_s: float
    name: str = ""
    keys: tuple[str, ...] = ()
    began_at: float = 0.0
    ready_at: float = 0.0
    warned: float = 0.0
    pool: str = ""
    pull: str = ""
    url: str = ""
    host: str = ""

    @property
    def last_end(self) -> float:
        """No extension or hold goes beyond this."""
        return self.began_at + self.most_s

    @property
    def warns_s(self) -> float:
        """How long before its end it is warned of, in seconds."""
        return min(WARNING_S, WARNING_PART * self.ttl_s)


def checked_name(name: str) -> str:
    """The name of an environment or template."""
    if NAME.fullmatch(name) is None:
        raise UserError(f"name {name[:80]!r}: use 1 to 40 of a-z, 0-9 and hyphens between them")
    return name


def checked_keys(lines: tuple[str, ...]) -> tuple[str, ...]:
    """Public keys as one line each, each once; UserError says which of them is none."""
    if len(lines) > MOST_KEYS:
        raise UserError(f"{len(lines)} public keys are given; an environment takes {MOST_KEYS} at most")
    return tuple(dict.fromkeys(_key(number, line.strip()) for number, line in enumerate(lines, 1)))


def _key(number: int, line: str) -> str:
    """One line `type base64 comment`, of which the type is said once more inside (RFC 4253, 6.6)."""
    what = f"public key {number}"
    if "PRIVATE KEY" in line:
        raise UserError(f"{what} is a private key: give the content of the .pub file, and make a new pair")
    kind, _, rest = line.partition(" ")
    blob, _, comment = rest.strip().partition(" ")
    if len(line) > LONGEST_KEY or kind not in KEY_TYPES:
        raise UserError(f"{what} is no OpenSSH public key: expected one line that begins with {', '.join(KEY_TYPES)}")
    try:
        raw = base64.b64decode(blob, validate=True)
    except binascii.Error as error:
        raise UserError(f"{what} is damaged: what follows {kind} is no base64; copy the whole line") from error
    said = raw[4 : 4 + int.from_bytes(raw[:4], "big")]
    if said != kind.encode() or len(raw) <= 4 + len(said):
        raise UserError(f"{what} is damaged: it says {kind}, and its content does not; copy the whole line")
    if _COMMENT.fullmatch(comment) is None:
        raise UserError(f"{what}: its comment is longer than 200 characters, or not plain ASCII")
    return f"{kind} {blob} {comment.strip()}".rstrip()
