"""What a project gets of a cloud: made once, what is there left alone, what is somebody else's refused."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.adapters.clock import ManualClock, RandomIds
from pipeline.adapters.clouds.memory import MemoryGrounds
from pipeline.adapters.drivers.memory import MemoryCloud, MemoryDriver
from pipeline.adapters.stores.memory import MemoryStore
from pipeline.adapters.transports.memory import MemoryTransport
from pipeline.domain.cloud_setups import CloudSetup, Part, Piece, check_network, limits_of, plan, taken
from pipeline.domain.errors import InvalidTransition, NotFound, TransientError, UserError
from pipeline.domain.projects import Project, Quota
from pipeline.envs.books import PROJECTS, Books
from pipeline.envs.cloud_setups import CloudSetups, SetupWish, Usual
from pipeline.envs.gate import AUDIT, Asking, Gate
from pipeline.envs.providers import Provider
from pipeline.ports.common import Secret

ADA = Asking("ada", "a new team")
NAME = "greenroom-lab-shop"


class Seals:
    """Seals without a key."""

    def seal(self, secret: Secret) -> str:
        return f"sealed:{secret.reveal()}"

    def open(self, sealed: str) -> Secret:
        return Secret(sealed.removeprefix("sealed:"))


class Scene:
    def __init__(self, quota: Quota, usual: Usual | None = None) -> None:
        clock = ManualClock()
        self.books = Books(MemoryStore(clock))
        self.grounds = MemoryGrounds()
        provider = Provider("cloud", MemoryDriver(MemoryCloud(), "lab"), MemoryTransport(clock), grounds=self.grounds)
        bare = replace(provider, name="bare", grounds=None)
        providers = {"cloud": provider, "bare": bare}
        gate = Gate(self.books, clock, {}, ())
        self.setups = CloudSetups(
            self.books, providers.__getitem__, lambda _: usual or Usual("net"), Seals(), gate, clock, RandomIds(), "lab"
        )
        self.books.commit(PROJECTS.put("shop", Project("shop", 0.0, "x", quota=quota), 0))

    def done(self, asking: Asking = ADA, **wish: object) -> CloudSetup:
        asked = self.setups.ask("cloud", "shop", SetupWish(**wish), asking)  # type: ignore[arg-type]  # fields by name
        self.setups.carry_out(asked.id)
        return self.books.cloud_setups.get(asked.id).value

    @property
    def there(self) -> dict[Part, Piece]:
        return self.grounds.pieces.get(NAME, {})


@pytest.fixture
def scene() -> Scene:
    return Scene(Quota(nodes=4, vcpu=8))


def test_everything_is_made_once_and_left_alone_afterwards(scene: Scene) -> None:
    first = scene.done()
    made = dict(scene.there)
    assert [step.there for step in first.steps] == [False] * 7
    assert made[Part.QUOTA].limits == first.limits
    assert scene.grounds.secrets[first.entry["application_credential_id"]] == scene.setups.tell(first.id)[1]

    second = scene.done()
    assert [step.there for step in second.steps] == [True] * 7
    assert (scene.there, second.fault, second.entry) == (made, "", {})


def test_the_secret_is_told_once(scene: Scene) -> None:
    done = scene.done()
    assert scene.setups.tell(done.id)[1].reveal()
    with pytest.raises(InvalidTransition, match="told it already"):
        scene.setups.tell(done.id)


def test_another_credential_is_made_where_it_is_asked_for(scene: Scene) -> None:
    old, new = scene.done(), scene.done(renew=True)
    assert new.entry["application_credential_id"] != old.entry["application_credential_id"]
    assert scene.setups.tell(new.id)[1] != scene.setups.tell(old.id)[1]


def test_a_dry_run_makes_nothing_and_has_no_secret(scene: Scene) -> None:
    done = scene.done(replace(ADA, dry_run=True))
    assert ([step.there for step in done.steps], scene.there, done.sealed_secret) == ([False] * 7, {}, "")


def test_what_is_somebody_elses_is_refused(scene: Scene) -> None:
    scene.grounds.pieces[NAME] = {Part.PROJECT: Piece("p-1", ours=False)}
    done = scene.done()
    assert (done.refused, list(scene.there)) == ("ownership", [Part.PROJECT])
    assert f"project {NAME}" in done.fault
    assert [event.type for event in scene.books.store.events(AUDIT)] == ["audit.set-up"]


def test_it_goes_on_where_it_stopped(scene: Scene) -> None:
    scene.grounds.deaf = {Part.NETWORK}
    stopped = scene.done()
    assert "network" in stopped.fault
    assert Part.CREDENTIAL not in scene.there
    scene.grounds.deaf = set()
    assert [step.part for step in scene.done().steps if not step.there] == [Part.NETWORK, Part.SUBNET, Part.CREDENTIAL]


def test_a_cloud_that_does_not_answer_is_told_and_may_be_asked_again(scene: Scene) -> None:
    scene.grounds.fail = [TransientError("the cloud does not answer")]
    assert scene.done().fault == "the cloud does not answer"
    assert not scene.done().fault


def test_a_shared_network_is_used_as_it_is(scene: Scene) -> None:
    scene.grounds.pieces[NAME] = {Part.NETWORK: Piece("n-1", shared=True)}
    parts = [step.part for step in scene.done(external_network="outside").steps]
    assert Part.SUBNET not in parts
    assert Part.ROUTER not in parts


def test_a_router_is_wanted_where_it_leads_out(scene: Scene) -> None:
    assert Part.ROUTER in [step.part for step in scene.done(external_network="outside").steps]


@pytest.mark.parametrize("dry_run", [False, True])
def test_a_way_out_that_is_not_there_is_told_before_anything_is_made(scene: Scene, *, dry_run: bool) -> None:
    done = scene.done(replace(ADA, dry_run=dry_run), external_network="outsid")
    assert ("'outsid'" in done.fault, done.steps, scene.there) == (True, (), {})
    assert not scene.done(external_network="outside").fault


def test_what_is_there_and_is_not_as_it_was_asked_for_says_what_it_is(scene: Scene) -> None:
    scene.done(cidr="10.1.0.0/24", external_network="outside")

    def told(cidr: str, outside: str, *, renew: bool = False) -> dict[Part, str]:
        done = scene.done(ADA, cidr=cidr, external_network=outside, access_rules=True, renew=renew)
        return {step.part: step.text for step in done.steps}

    other = told("10.2.0.0/24", "elsewhere")
    assert other[Part.SUBNET] == "10.1.0.0/24, and not 10.2.0.0/24: it is left as it is"
    assert other[Part.ROUTER] == "to outside, and not elsewhere: it is left as it is"
    assert "may call whatever the role may, and not the services" in other[Part.CREDENTIAL]
    assert other[Part.CREDENTIAL].endswith("--renew makes another")
    renewed = told("10.2.0.0/24", "elsewhere", renew=True)
    assert renewed[Part.CREDENTIAL].endswith("may call the services that Greenroom calls")
    assert not [text for text in told("10.1.0.0/24", "outside").values() if "and not" in text]


def test_a_router_that_leads_nowhere_says_so(scene: Scene) -> None:
    scene.done(external_network="outside")
    scene.there[Part.ROUTER] = replace(scene.there[Part.ROUTER], leads_to="")
    texts = [step.text for step in scene.done(external_network="outside").steps if step.part is Part.ROUTER]
    assert texts == ["to nowhere, and not outside: it is left as it is"]


def test_a_router_is_wanted_where_every_node_gets_a_floating_address() -> None:
    done = Scene(Quota(nodes=4), Usual("net", "outside")).done()
    assert [step.text for step in done.steps if step.part is Part.ROUTER] == ["to outside"]
    assert done.limits["floating_addresses"] == 4


@pytest.mark.parametrize("cidr", ["10.0.0.1/24", "10.0.0.0/30", "nonsense"])
def test_a_network_that_is_none_is_refused(scene: Scene, cidr: str) -> None:
    with pytest.raises(UserError, match="network"):
        scene.setups.ask("cloud", "shop", SetupWish(cidr=cidr), ADA)


def test_who_cannot_be_set_up_is_told_at_once(scene: Scene) -> None:
    with pytest.raises(UserError, match="admin_cloud"):
        scene.setups.ask("bare", "shop", SetupWish(), ADA)
    with pytest.raises(NotFound):
        scene.setups.ask("cloud", "nobody", SetupWish(), ADA)


amounts = st.none() | st.integers(1, 500)


@given(amounts, st.none() | st.floats(0.1, 500), amounts, st.booleans())
def test_a_clouds_quota_holds_what_the_projects_own_allows(
    nodes: int | None, vcpu: float | None, environments: int | None, floating: bool
) -> None:
    limits = limits_of(Quota(nodes=nodes, vcpu=vcpu, environments=environments), floating=floating)
    assert limits.get("servers") == nodes
    assert vcpu is None or limits["cores"] >= max(math.ceil(vcpu), nodes or 0)
    assert nodes is None or limits["ports"] > nodes
    assert ("floating_addresses" in limits) == (floating and nodes is not None)
    most = environments if environments is not None else nodes
    assert most is None or limits["security_groups"] > most


@given(st.dictionaries(st.sampled_from(list(Part)), st.builds(Piece, st.just("id"), ours=st.booleans())))
def test_nothing_that_is_not_ours_is_ever_taken_over(found: dict[Part, Piece]) -> None:
    setup = CloudSetup("setup-1", "lab", "cloud", "shop", "net", "ada", "", 0.0, cidr=check_network("10.0.0.0/24"))
    assert bool(taken(setup, found)) == any(not piece.ours for piece in found.values())
    assert [step.part for step in plan(setup, found)] == sorted(
        (step.part for step in plan(setup, found)), key=list(Part).index
    )
