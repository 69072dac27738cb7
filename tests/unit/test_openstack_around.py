"""What is asked of a cloud beside Vagrant: the cloud is posed."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from pipeline.adapters.drivers.openstack.around import Around
from pipeline.adapters.drivers.openstack.terms import Terms
from pipeline.clients.openstack import Account, Mark, connections
from pipeline.domain.errors import CapacityError, PermanentError
from pipeline.domain.qos import QosProfile
from pipeline.domain.resources import Resources
from pipeline.ports.common import Secret
from pipeline.ports.drivers import EnvironmentRequest, NodeRequest

if TYPE_CHECKING:
    from openstack.connection import Connection

MARK = Mark("ours", "env-1")
ENDS_AT = 2_000_000_000.0
NODE = NodeRequest("web-0", "web", "plain", Resources(1, 64, 1), QosProfile(), Secret("private"), "ssh-ed25519 AAAA")
REQUEST = EnvironmentRequest("ours", MARK.environment_id, "shop", "login", ENDS_AT, (NODE,))
ROOM = {"instances": 9, "total_cores": 9, "total_ram": 9999}


@dataclass
class PosingCloud:
    """One project with room: `groups` are the names of the environment's security groups, `images` ids by name, and
    `zones` say whether they take servers.
    """

    groups: list[str] = field(default_factory=list)
    images: dict[str, str] = field(default_factory=dict)
    zones: dict[str, bool] = field(default_factory=dict)

    @property
    def connection(self) -> Connection:
        flavor = SimpleNamespace(id="1", name="tiny", vcpus=1, ram=64, disk=1, extra_specs={})
        limits = SimpleNamespace(absolute=SimpleNamespace(**ROOM, **{f"{name}_used": 0 for name in ROOM}))
        told = SimpleNamespace(
            current_project_id="project",
            image=SimpleNamespace(images=self._images),
            compute=SimpleNamespace(
                flavors=lambda **_: [flavor], get_limits=lambda: limits, availability_zones=self._zones
            ),
            network=SimpleNamespace(
                security_groups=self._groups, get_quota=lambda *_, **__: SimpleNamespace(ports={"limit": 9, "used": 0})
            ),
        )
        return cast("Connection", told)

    def _images(self, *, name: str) -> list[SimpleNamespace]:
        return [SimpleNamespace(id=self.images[name])] if name in self.images else []

    def _zones(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(name=name, state={"available": open_}) for name, open_ in self.zones.items()]

    def _groups(self, **_: Any) -> list[SimpleNamespace]:
        return [SimpleNamespace(name=name, description=MARK.description) for name in self.groups]


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> PosingCloud:
    posing = PosingCloud()
    monkeypatch.setattr(connections, "connect", lambda _: posing.connection)
    return posing


@pytest.fixture
def around(cloud: PosingCloud) -> Around:  # what it connects to
    return Around("ours", Account("cloud"), {}, Terms("net"))


@pytest.mark.parametrize("last", [0, 1])
def test_the_end_of_a_lease_is_told_by_the_environments_own_group(
    cloud: PosingCloud, around: Around, last: int
) -> None:
    """Those of roles tell none, and the cloud lists them in any order."""
    cloud.groups = ["greenroom-role-web"]
    cloud.groups.insert(last, MARK.group_name(ENDS_AT))
    assert around.environments() == {MARK.environment_id: ENDS_AT}


def test_an_image_is_looked_for_by_name_before_each_build(cloud: PosingCloud, around: Around) -> None:
    cloud.images = {"plain": "first"}
    around.admit(REQUEST, REQUEST.nodes)
    cloud.images = {}
    with pytest.raises(PermanentError, match="no image 'plain'"):
        around.admit(REQUEST, REQUEST.nodes)


def test_a_zone_that_takes_no_servers_is_waited_for(cloud: PosingCloud, around: Around) -> None:
    cloud.images, cloud.zones = {"plain": "image-1"}, {"rack-a": True, "rack-b": False}
    for zone in ("rack-a", "nobody's"):
        around.admit(REQUEST, [replace(NODE, zone=zone)])
    with pytest.raises(CapacityError, match="no machine of zone rack-b takes servers now"):
        around.admit(REQUEST, [replace(NODE, zone="rack-b")])
