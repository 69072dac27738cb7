"""Disks are kept of nodes that somebody has, under names of their project; nothing that is in use is removed."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, replace
from typing import Any

import pytest

from pipeline.adapters.clock import ManualClock
from pipeline.adapters.drivers.memory import MemoryCloud, MemoryDriver, MemorySnapshots
from pipeline.adapters.drivers.openstack.userdata import FORGET_KEYS, user_data
from pipeline.adapters.stores.memory import MemoryStore
from pipeline.adapters.transports.memory import MemoryTransport
from pipeline.domain.blueprint import Priority
from pipeline.domain.environments import Environment, EnvironmentState, Node, NodeState
from pipeline.domain.errors import (
    AlreadyExists,
    GreenroomError,
    GuardRefused,
    InvalidTransition,
    NotFound,
    NotSupported,
    OverQuota,
    TransientError,
    UserError,
)
from pipeline.domain.qos import QosProfile
from pipeline.domain.resources import Resources
from pipeline.domain.snapshots import MOST, Snapshot, SnapshotState, named
from pipeline.envs.books import ENVIRONMENTS, Books
from pipeline.envs.gate import AUDIT, Asking, Gate
from pipeline.envs.providers import Provider
from pipeline.envs.snapshots import Snapshots
from pipeline.ports.common import Secret
from pipeline.ports.drivers import EnvironmentRequest, NodeRequest

SIZE = Resources(vcpu=1, memory_mib=512, disk_gib=2)
WHY = Asking("alice", "it is old")


@dataclass
class Scene:
    """A provider that keeps disks, and environments of project shop."""

    def __post_init__(self) -> None:
        self.clock = ManualClock(1000.0)
        self.books = Books(MemoryStore(self.clock))
        self.cloud = MemoryCloud()
        self.driver = MemoryDriver(self.cloud, "scene")
        self.keeper = MemorySnapshots(self.cloud)
        self.snapshots = self.over(Provider("cloud", self.driver, MemoryTransport(self.clock), snapshots=self.keeper))

    def over(self, provider: Provider) -> Snapshots:
        return Snapshots(self.books, lambda _: provider, Gate(self.books, self.clock), self.clock)

    def environment(
        self,
        id: str,
        *nodes: str,
        project: str = "shop",
        image: str = "debian-12",
        state: EnvironmentState = EnvironmentState.LEASED,
        node_state: NodeState = NodeState.IN_SERVICE,
    ) -> Environment:
        """One with nodes that are there, in the cloud and in the books."""
        known = tuple(Node(name, "web", image, SIZE, state=node_state) for name in nodes)
        wanted = tuple(NodeRequest(n, "web", image, SIZE, QosProfile(), Secret("k"), "k") for n in nodes)
        self.driver.create(EnvironmentRequest("scene", id, "shop", "key", 1e9, wanted))
        made = Environment(id, project, "shop", "run-1", "cloud", state, known, Priority.PUSH, 0.0, 0.0, 1e9)
        self.books.commit(ENVIRONMENTS.put(id, made, 0))
        return made


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_a_nodes_disk_is_kept_under_a_name_of_its_project_and_told(scene: Scene) -> None:
    scene.environment("env-1", "web-0", "web-1")
    scene.keeper.slow = True
    taken = scene.snapshots.take("env-1", "web-1", "seeded")
    assert (taken.name, taken.project, taken.environment, taken.node) == ("seeded", "shop", "env-1", "web-1")
    assert (taken.state, taken.image, named(taken.image)) == (SnapshotState.SAVING, "snapshot/seeded", "seeded")
    assert [event.type for event in scene.books.store.events("env-1")] == ["environment.snapshot"]
    scene.keeper.finish()
    assert [one.state for one in scene.snapshots.of("cloud")] == [SnapshotState.READY]


def test_one_node_need_not_be_named_and_the_name_may_be_left_out(scene: Scene) -> None:
    scene.environment("env-1", "web-0")
    assert scene.snapshots.take("env-1").name == "env-1-web-0"


def test_the_same_wish_finds_what_it_took_and_takes_nothing_again(scene: Scene) -> None:
    scene.environment("env-1", "web-0")
    first = scene.snapshots.take("env-1", name="seeded")
    assert scene.snapshots.take("env-1", name="seeded") == first
    assert len(scene.books.store.events("env-1")) == 1


def test_a_name_is_taken_once_in_a_project_and_again_in_another(scene: Scene) -> None:
    scene.environment("env-1", "web-0")
    scene.environment("env-2", "web-0")
    scene.environment("env-3", "web-0", project="forum")
    scene.snapshots.take("env-1", name="seeded")
    with pytest.raises(AlreadyExists, match="web-0 of environment env-1"):
        scene.snapshots.take("env-2", name="seeded")
    assert scene.snapshots.take("env-3", name="seeded").project == "forum"


def test_one_that_failed_is_not_taken_for_a_good_one(scene: Scene) -> None:
    scene.environment("env-1", "web-0")
    failed = replace(scene.snapshots.take("env-1", name="seeded"), state=SnapshotState.FAILED)
    scene.keeper.kept["shop", "seeded"] = failed
    with pytest.raises(AlreadyExists, match="it failed"):
        scene.snapshots.take("env-1", name="seeded")


def test_a_project_has_no_more_than_so_many(scene: Scene) -> None:
    scene.environment("env-1", "web-0")
    for number in range(MOST):
        scene.snapshots.take("env-1", name=f"at-{number}")
    with pytest.raises(OverQuota, match="greenroom snapshot rm cloud at-0"):
        scene.snapshots.take("env-1", name="one-more")


@pytest.mark.parametrize(
    ("node", "name", "error", "words"),
    [
        ("", "", UserError, "web-0, web-1"),
        ("db-0", "", NotFound, "has no node db-0"),
        ("web-0", "Bad Name", UserError, "small letters"),
    ],
)
def test_what_makes_no_sense_is_said(
    scene: Scene, node: str, name: str, error: type[GreenroomError], words: str
) -> None:
    scene.environment("env-1", "web-0", "web-1")
    with pytest.raises(error, match=words):
        scene.snapshots.take("env-1", node, name)
    assert scene.snapshots.of("cloud") == []


def test_what_is_nobodys_or_does_not_run_has_no_disk_to_keep(scene: Scene) -> None:
    scene.environment("env-1", "web-0", state=EnvironmentState.BUILDING)
    scene.environment("env-2", "web-0", node_state=NodeState.LOST)
    for id, words in (("env-1", "is building"), ("env-2", "is lost")):
        with pytest.raises(InvalidTransition, match=words):
            scene.snapshots.take(id)


def test_a_provider_that_cannot_says_what_to_do_instead(scene: Scene) -> None:
    scene.environment("env-1", "web-0")
    unable = scene.over(Provider("local", scene.driver, MemoryTransport(scene.clock)))
    with pytest.raises(NotSupported, match=r"env-1 stands at provider cloud.*artifacts"):
        unable.take("env-1")
    assert unable.of("local") == []


def test_one_that_is_in_use_is_not_removed_until_it_is_not(scene: Scene) -> None:
    scene.environment("env-1", "web-0")
    taken = scene.snapshots.take("env-1", name="seeded")
    scene.environment("env-2", "web-0", image=taken.image)
    scene.keeper.used_by[taken.id] = ["server web-0 (id-7)"]
    with pytest.raises(GuardRefused, match="environment env-2, server web-0") as refused:
        scene.snapshots.remove("cloud", "seeded", "", WHY)
    assert refused.value.guard == "in-use"
    scene.keeper.used_by.clear()
    gone = replace(scene.books.environments.get("env-2").value, state=EnvironmentState.DESTROYED)
    scene.books.commit(ENVIRONMENTS.put("env-2", gone, 1))
    assert scene.snapshots.remove("cloud", "seeded", "", replace(WHY, dry_run=True)) == taken
    assert scene.snapshots.of("cloud") == [taken]
    assert scene.snapshots.remove("cloud", "seeded", "", WHY) == taken
    assert scene.snapshots.of("cloud") == []
    assert [event.type for event in scene.books.store.events(AUDIT)] == ["audit.delete-object"] * 3


def test_one_that_waits_for_its_node_is_in_use_too(scene: Scene) -> None:
    scene.environment("env-1", "web-0")
    taken = scene.snapshots.take("env-1", name="seeded")
    scene.environment("env-2", "web-0", image=taken.image, state=EnvironmentState.REQUESTED)
    scene.environment("env-3", "web-0", image=taken.image, project="forum")  # another project's of that name
    with pytest.raises(GuardRefused, match="environment env-2") as refused:
        scene.snapshots.remove("cloud", "seeded", "", WHY)
    assert "env-3" not in str(refused.value)


def test_it_is_said_which_one_where_projects_have_one_of_a_name(scene: Scene) -> None:
    scene.environment("env-1", "web-0")
    scene.environment("env-2", "web-0", project="forum")
    for id in ("env-1", "env-2"):
        scene.snapshots.take(id, name="seeded")
    with pytest.raises(UserError, match="forum, shop"):
        scene.snapshots.remove("cloud", "seeded", "", WHY)
    scene.snapshots.remove("cloud", "seeded", "forum", WHY)
    assert [one.project for one in scene.snapshots.of("cloud")] == ["shop"]
    with pytest.raises(NotFound, match="keeps no snapshot other"):
        scene.snapshots.remove("cloud", "other", "", WHY)


class Deaf(MemorySnapshots):
    def remove(self, snapshot: Snapshot) -> None:
        """It stays."""


def test_one_that_is_still_there_is_not_called_removed(scene: Scene) -> None:
    scene.environment("env-1", "web-0")
    deaf = Deaf(scene.cloud)
    snapshots = scene.over(replace(scene.snapshots.providers("cloud"), snapshots=deaf))
    snapshots.take("env-1", name="seeded")
    with pytest.raises(TransientError, match="still there"):
        snapshots.remove("cloud", "seeded", "", WHY)


def told(image: str) -> dict[str, Any]:
    node = NodeRequest("web-0", "web", image, SIZE, QosProfile(), Secret("private"), "public")
    text = base64.b64decode(user_data(node, ["ssh-ed25519 new"])).decode()
    found: dict[str, Any] = json.loads(text.removeprefix("#cloud-config\n"))
    return found


def test_who_had_the_disk_before_is_not_let_in() -> None:
    assert told("snapshot/seeded")["bootcmd"] == [list(FORGET_KEYS)]
    assert "bootcmd" not in told("debian-12")
