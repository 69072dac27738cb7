"""Accounts of a cloud that cannot work: each is told by its entry and its file, and without a secret."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest
from keystoneauth1.exceptions import Unauthorized
from pydantic import ValidationError

from pipeline.clients.openstack import Account, connect
from pipeline.clients.openstack.login import Login
from pipeline.domain.errors import PermanentError, TransientError
from pipeline.settings import OpenStackSettings

if TYPE_CHECKING:
    from openstack.config.cloud_region import CloudRegion

#: Nobody listens there.
ENTRY = """\
  {}:
    region_name: RegionOne
    auth: {{auth_url: "http://127.0.0.1:1/v3", username: ann, {}project_name: ours, user_domain_name: Default,
      project_domain_name: Default}}
"""
PASSWORD = "password: hunter2, "
#: What openstacksdk deprecates in itself is nothing that a test of ours can change.
pytestmark = [
    pytest.mark.filterwarnings("ignore::openstack.warnings._RemovedInSDKWarning"),
    pytest.mark.filterwarnings("ignore::openstack.warnings.OpenStackDeprecationWarning"),
]


def entries(place: Path, *bodies: str) -> str:
    file = place / "clouds.yaml"
    file.write_text("clouds:\n" + "".join(bodies))
    return str(file)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    file = str(tmp_path / "clouds.yaml")
    with pytest.raises(PermanentError, match=f"cloud ours of {file}: .*No such file"):
        connect(Account("ours", file))


def test_a_file_that_is_no_yaml_is_not_taken_for_one_without_the_entry(tmp_path: Path) -> None:
    file = entries(tmp_path, "  ours: [\n")
    with pytest.raises(PermanentError, match=f"{file}: this is no YAML"):
        connect(Account("ours", file))


def test_an_entry_that_stands_twice_is_named_without_what_is_in_it(tmp_path: Path) -> None:
    file = entries(tmp_path, ENTRY.format("ours", PASSWORD), ENTRY.format("ours", PASSWORD))
    with pytest.raises(PermanentError, match="the key 'ours' in line 6 stands twice") as caught:
        connect(Account("ours", file))
    assert "hunter2" not in str(caught.value)


def test_a_login_that_nobody_answers_names_the_entry_and_what_to_look_at(tmp_path: Path) -> None:
    file = entries(tmp_path, ENTRY.format("ours", PASSWORD))
    connection = connect(Account("ours", file))
    with pytest.raises(TransientError, match=f"logging in as cloud ours of {file}: .*127.0.0.1.*`auth_url`") as caught:
        list(connection.compute.servers())
    assert "hunter2" not in str(caught.value)


def test_an_entry_without_a_password_is_named(tmp_path: Path) -> None:
    """Of which keystoneauth says so in an exception without a type of its own."""
    connection = connect(Account("ours", entries(tmp_path, ENTRY.format("ours", ""))))
    with pytest.raises(PermanentError, match=r"logging in as cloud ours .*password is a required attribute; add"):
        list(connection.compute.servers())


class Plugin:
    """Logs in by one password alone."""

    def __init__(self, password: str) -> None:
        self.password = password
        self.asked = 0

    def get_access(self, _session: object) -> str:
        self.asked += 1
        if self.password != "right":
            raise Unauthorized(f"no such password (of {len(self.password)} letters)")
        return "access"

    def invalidate(self) -> bool:
        return True


class Entry:
    """What a `clouds.yaml` says at one time."""

    def __init__(self, password: str) -> None:
        self.plugin = Plugin(password)

    def get_auth(self) -> Plugin:
        return self.plugin

    def get_auth_args(self) -> dict[str, str]:
        return {"password": self.plugin.password}


def logging_in(*passwords: str) -> tuple[Plugin, list[Entry]]:
    """The plugin of a connection that was made by the first entry, and those that are read later, in turn."""
    first, *later = (cast("CloudRegion", Entry(one)) for one in passwords)
    entries = iter(later)
    Login("cloud ours", first, lambda: next(entries))
    return cast("Plugin", first.get_auth()), [cast("Entry", one) for one in later]


def test_a_refused_login_is_tried_once_more_by_an_entry_that_was_changed() -> None:
    plugin, (renewed,) = logging_in("old", "right")
    assert [plugin.get_access(None) for _ in range(3)] == ["access"] * 3
    assert (plugin.asked, renewed.plugin.asked) == (1, 3)


def test_a_refused_login_is_not_repeated_by_the_same_entry() -> None:
    plugin, (same, _) = logging_in("wrong", "wrong", "wrong")
    for number in (1, 2):
        with pytest.raises(PermanentError, match=r"logging in as cloud ours: .*correct the account"):
            plugin.get_access(None)
        assert (plugin.asked, same.plugin.asked) == (number, 0)


def test_an_entry_that_was_changed_to_no_better_one_is_told() -> None:
    plugin, _ = logging_in("wrong", "worse!", "right")
    with pytest.raises(PermanentError, match="of 6 letters"):
        plugin.get_access(None)
    assert plugin.get_access(None) == "access"


def test_floating_addresses_come_from_somewhere() -> None:
    with pytest.raises(ValidationError, match="`floating` needs an `external_network`"):
        OpenStackSettings(cloud="ours", network="net", floating=True)
    assert OpenStackSettings(cloud="ours", network="net", floating=True, external_network="public").floating
