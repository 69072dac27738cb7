"""Which forges may be asked for the public keys of a user, and what of their answer is taken."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence

from pipeline.domain.contracts import checked_keys
from pipeline.domain.errors import UserError

#: An address without login, path or query: `https://forge.example` or `https://forge.example:8443`.
_FORGE = re.compile(r"https://[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?(?::[0-9]{1,5})?")
#: What GitHub, GitLab, Gitea and Forgejo let people be called, and nothing that leads elsewhere in a URL.
_USER = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9_-])?")
#: Forges of one project.
MOST_FORGES = 10
NONE = "none"


def checked_forges(addresses: Sequence[str]) -> tuple[str, ...]:
    """The addresses of forges, each once; `none` alone is no forge. UserError names what is no such address."""
    if list(addresses) == [NONE]:
        return ()
    forges = tuple(dict.fromkeys(one.rstrip("/").lower() for one in addresses))
    for one in forges:
        if _FORGE.fullmatch(one) is None:
            raise UserError(f"{one[:80]!r} is no forge to take keys from; use an address such as https://github.com")
    if len(forges) > MOST_FORGES:
        raise UserError(f"a project takes keys from {MOST_FORGES} forges at most, not from {len(forges)}")
    return forges


def chosen(project: str, allowed: Sequence[str], wish: str) -> tuple[str, str]:
    """Forge and user of a wish, `user` or `host/user`; UserError where that is not allowed, or not clear."""
    host, _, user = wish.rpartition("/")
    if _USER.fullmatch(user) is None:
        raise UserError(f"{wish[:80]!r} names no user of a forge; say USER, or HOST/USER")
    if not allowed:
        raise UserError(
            f"project {project} takes keys from no forge; an operator lets it with "
            f"`greenroom project set {project} --keys-from https://FORGE`"
        )
    hosts = {one.removeprefix("https://"): one for one in allowed}
    if host and host.lower() not in hosts:
        raise UserError(f"project {project} takes no keys from {host[:80]}; it does from {', '.join(hosts)}")
    if not host and len(hosts) > 1:
        raise UserError(f"which forge is {user} at? Say HOST/{user}, with one of {', '.join(hosts)}")
    return hosts[host.lower()] if host else allowed[0], user


def taken(forge: str, user: str, text: str) -> tuple[str, ...]:
    """The valid keys of an answer, each told from whom it is; UserError when there is none."""
    source = f"{user}@{forge.removeprefix('https://')}"
    keys: list[str] = []
    for line in text.splitlines():
        parts = line.split()
        try:
            keys += checked_keys((" ".join([*parts[:2], source]),))
        except UserError:
            continue  # of a kind that nodes do not take, or none at all
    if not keys:
        raise UserError(f"{user} has no public key at {forge} that an environment takes; add one there, or send it")
    return checked_keys(tuple(keys))


def fingerprint(key: str) -> str:
    """As `ssh-keygen -l` says it."""
    digest = hashlib.sha256(base64.b64decode(key.split()[1])).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")
