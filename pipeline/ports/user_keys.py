"""Public SSH keys that people keep at their forge."""

from __future__ import annotations

from typing import Protocol


class UserKeys(Protocol):
    """Any number of callers at once."""

    def of(self, forge: str, user: str) -> str:
        """What `<forge>/<user>.keys` says, as it stands there; `forge` is an address such as `https://github.com`.

        Errors: NotFound (no such user), TransientError (no answer in time; again later), UserError (anything else).
        """
