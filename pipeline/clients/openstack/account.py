"""An account of a cloud, as `clouds.yaml` describes it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.domain.errors import PermanentError

if TYPE_CHECKING:
    from openstack.connection import Connection


@dataclass(frozen=True)
class Account:
    """The entry `cloud` of a `clouds.yaml`: `file`, or where OpenStack's own tools look. `timeout_s`: for one call."""

    cloud: str
    file: str = ""
    region: str = ""
    timeout_s: float = 60.0

    def __str__(self) -> str:
        return f"cloud {self.cloud}" + (f", region {self.region}" if self.region else "")


def connect(account: Account) -> Connection:
    """A connection that is made at its first call, and repeats none: `failsafe` decides what is tried again.

    PermanentError when there is no such cloud or its entry is wrong.
    """
    from keystoneauth1.exceptions import ClientException
    from openstack.config import OpenStackConfig
    from openstack.connection import Connection
    from openstack.exceptions import ConfigException

    try:
        files = [account.file] if account.file else None
        config = OpenStackConfig(config_files=files, load_envvars=not account.file)
        known = sorted(config.get_cloud_names())
        if account.cloud not in known:
            where = account.file or "any clouds.yaml"
            raise PermanentError(
                f"there is no cloud {account.cloud!r} in {where}; there are: {', '.join(known) or 'none'}"
            )
        wanted: dict[str, Any] = {"region_name": account.region} if account.region else {}
        _refuse_twins(Path(str(config.config_filename)))
        found = config.get_one(cloud=account.cloud, api_timeout=account.timeout_s, **wanted)
        return Connection(config=found, app_name="greenroom")
    except (ConfigException, ClientException, OSError) as error:
        raise PermanentError(f"{account}: {error}") from error


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
        line = error.problem_mark.line + 1
        raise PermanentError(
            f"{file}: the key in line {line} stands twice in its mapping; remove or rename one"
        ) from None
    except YAMLError:
        # openstacksdk reads older YAML than this, and has taken it: no other mistake is one
        return
