"""An account of a cloud, as `clouds.yaml` describes it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.clients.openstack.login import Login
from pipeline.domain.errors import PermanentError

if TYPE_CHECKING:
    from openstack.config.cloud_region import CloudRegion
    from openstack.connection import Connection

#: The key that ruamel names when it finds it twice; the values that it shows beside it may be passwords.
_TWICE = re.compile(r'duplicate key "([^"]*)"')


@dataclass(frozen=True)
class Account:
    """The entry `cloud` of a `clouds.yaml`: `file`, or where OpenStack's own tools look. `timeout_s`: for one call."""

    cloud: str
    file: str = ""
    region: str = ""
    timeout_s: float = 60.0

    def __str__(self) -> str:
        return f"cloud {self.cloud}" + (f", region {self.region}" if self.region else "")

    @property
    def where(self) -> str:
        """The file that describes it."""
        return self.file or "clouds.yaml"


def connect(account: Account) -> Connection:
    """A connection that is made at its first call, and repeats none: `failsafe` decides what is tried again.

    PermanentError when there is no such cloud or its entry is wrong. A login that fails later names the account.
    """
    from openstack.connection import Connection

    entry = _entry(account)
    Login(f"{account} of {account.where}", entry, lambda: _entry(account))
    return Connection(config=entry, app_name="greenroom")


def _entry(account: Account) -> CloudRegion:
    """What the file says of an account now; PermanentError as above."""
    from keystoneauth1.exceptions import ClientException
    from openstack.config import OpenStackConfig
    from openstack.exceptions import ConfigException

    try:
        files = [account.file] if account.file else None
        config = OpenStackConfig(config_files=files, load_envvars=not account.file)
        _refuse_no_cloud(account, config)
        _refuse_twins(Path(str(config.config_filename)))
        wanted: dict[str, Any] = {"region_name": account.region} if account.region else {}
        return config.get_one(cloud=account.cloud, api_timeout=account.timeout_s, **wanted)
    except (ConfigException, ClientException, OSError) as error:
        raise PermanentError(f"{account} of {account.where}: {error}") from error


def _refuse_no_cloud(account: Account, config: Any) -> None:
    """PermanentError when there is no entry of that name; openstacksdk passes over a file that it cannot read."""
    if account.file and config.config_filename is None:
        with Path(account.file).open():  # OSError when it is not there, or for others alone
            raise PermanentError(f"{account.file}: this is no YAML, so {account} is not known: correct the file")
    known = sorted(config.get_cloud_names())
    if account.cloud not in known:
        where = account.file or "any clouds.yaml"
        raise PermanentError(f"there is no cloud {account.cloud!r} in {where}; there are: {', '.join(known) or 'none'}")


def _refuse_twins(file: Path) -> None:
    """PermanentError when a key, such as the name of a cloud, stands twice in a file: openstacksdk takes the last.

    Values are never told: one of them may be a password.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.constructor import DuplicateKeyError
    from ruamel.yaml.error import YAMLError

    try:
        YAML(typ="safe", pure=True).load(file)
    except DuplicateKeyError as error:
        line, named = error.problem_mark.line + 1, _TWICE.search(str(error.problem))
        key = f"the key {named[1]!r} in line {line}" if named else f"the key in line {line}"
        raise PermanentError(f"{file}: {key} stands twice in its mapping; remove or rename one") from None
    except YAMLError:
        # openstacksdk reads older YAML than this, and has taken it: no other mistake is one
        return
