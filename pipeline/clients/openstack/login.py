"""How an account logs in: by its entry as it is now, and every failure says whose login it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pipeline.clients.openstack.faults import CORRECT, told
from pipeline.domain.errors import InfraError, PermanentError, TransientError

if TYPE_CHECKING:
    from openstack.config.cloud_region import CloudRegion

#: With which Keystone says that an application credential is not there any more.
_GONE = 404


class Login:
    """Logs in for a connection, in place of the plugin that its entry asks for; any number of threads at once.

    A process outlives credentials: where a login fails, the entry is read again, and tried once more if it was changed.
    """

    def __init__(self, name: str, entry: CloudRegion, read: Callable[[], CloudRegion]) -> None:
        self._name = name
        self._entry = entry
        self._read = read
        plugin: Any = entry.get_auth()
        if not hasattr(plugin, "get_access"):  # it sends a token that is given, or none
            return
        self._ask, self._forget = plugin.get_access, plugin.invalidate
        plugin.get_access, plugin.invalidate = self.get_access, self.invalidate

    def get_access(self, session: Any) -> Any:
        """What keystoneauth asks of a plugin for each call: kept until it ends or is refused."""
        try:
            with self._told():
                return self._ask(session)
        except InfraError:
            if not self._renewed():
                raise
        with self._told():
            return self._ask(session)

    def invalidate(self) -> Any:
        """A token was refused: the next call asks for another."""
        return self._forget()

    def _renewed(self) -> bool:
        """Whether the entry says something else now, by which is logged in from now on."""
        entry = self._read()
        if entry.get_auth_args() == self._entry.get_auth_args():
            return False
        plugin: Any = entry.get_auth()
        self._entry, self._ask, self._forget = entry, plugin.get_access, plugin.invalidate
        return True

    @contextmanager
    def _told(self) -> Iterator[None]:
        what = f"logging in as {self._name}"
        try:
            with told(what):
                yield
        except TransientError as error:
            hint = "see whether `auth_url` of the entry is right, and answers"
            raise TransientError(f"{error}; {hint}", retry_after_s=error.retry_after_s) from error.__cause__
        except PermanentError as error:
            if getattr(error.__cause__, "http_status", None) != _GONE:
                raise
            raise PermanentError(f"{error}; {CORRECT}") from error.__cause__
        except InfraError:
            raise
        except Exception as error:
            if type(error) is not Exception:  # keystoneauth raises a bare one when an entry lacks a user or a password
                raise
            raise PermanentError(f"{what}: {error}; add what is missing to the entry") from error
