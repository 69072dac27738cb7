"""What a project gets of a cloud: planned first, made where missing, nothing of others taken, its secret told once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.adapters.clock import ManualClock, RandomIds
from pipeline.adapters.clouds.memory import MemoryGrounds
from pipeline.adapters.drivers.memory import MemoryCloud, MemoryDriver
from pipeline.adapters.secrets.sealed import SealedSecrets
from pipeline.adapters.transports.memory import MemoryTransport
from pipeline.clients.openstack import described
from pipeline.domain.cloud_setups import CloudSetup, Part, Piece, check_network, limits_of, plan
from pipeline.domain.errors import InvalidTransition, TransientError, UserError
from pipeline.domain.projects import Project, Quota
from pipeline.envs.books import Books
from pipeline.envs.cloud_setups import CloudSetups, SetupWish, Usual
from pipeline.envs.gate import AUDIT, Asking, Gate
from pipeline.envs.providers import Provider
from pipeline.ports.common import Secret

WHY = Asking("alice", "a new team")
SETUP = CloudSetup("setup-1", "gr1", "lab", "shop", "net", "alice", "", 0.0, limits={"servers": 4})
KEY = Secret("A" * 43 + "=")


class Lab:
    """A provider, and a project with a quota."""

    def __init__(self, books: Books, clock: ManualClock) -> None:
        self.books, self.grounds = books, MemoryGrounds()
        transport = MemoryTransport(clock)
        self.provider = Provider("lab", MemoryDriver(MemoryCloud(), "gr1"), transport, grounds=self.grounds)
        secrets, gate = SealedSecrets(KEY), Gate(books, clock)
        self.setups = CloudSetups(
            books, lambda _: self.provider, lambda _: Usual("net"), secrets, gate, clock, RandomIds(), "gr1"
        )
        project = Project("shop", 0.0, "", quota=Quota(nodes=4))
        books.commit(books.projects.kind.put("shop", project, 0))

    def set_up(self, asking: Asking = WHY, *, renew: bool = False) -> CloudSetup:
        id = self.setups.ask("lab", "shop", SetupWish(renew=renew), asking).id
        self.setups.carry_out(id)
        return self.books.cloud_setups.get(id).value

    @property
    def there(self) -> dict[Part, Piece]:
        return self.grounds.pieces.get(SETUP.name, {})


@pytest.fixture
def lab(books: Books, clock: ManualClock) -> Lab:
    return Lab(books, clock)


def test_a_dry_run_tells_what_would_be_made_and_makes_nothing(lab: Lab) -> None:
    done = lab.set_up(Asking("alice", "a look", dry_run=True))
    assert [one.part for one in done.steps] == [part for part in Part if part is not Part.ROUTER]
    assert not any(one.there for one in done.steps)
    assert (lab.there, done.sealed_secret) == ({}, "")


def test_all_is_made_in_order_and_the_secret_is_told_once(lab: Lab) -> None:
    done = lab.set_up()
    assert done.fault == ""
    assert list(lab.there) == [one.part for one in done.steps]
    told, secret = lab.setups.tell(done.id)
    assert lab.grounds.secrets == {told.entry["application_credential_id"]: secret}
    with pytest.raises(InvalidTransition, match="renew"):
        lab.setups.tell(done.id)


def test_the_secret_is_never_in_clear_in_the_store(lab: Lab) -> None:
    done = lab.set_up()
    [secret] = lab.grounds.secrets.values()
    document = lab.books.store.get("cloud_setup", done.id)
    assert document is not None
    assert secret.reveal() not in str(document.body)
    assert all(secret.reveal() not in str(event.data) for event in lab.books.store.events(AUDIT))


def test_what_is_there_is_left_alone_and_a_renewal_makes_a_credential(lab: Lab) -> None:
    lab.set_up()
    before = dict(lab.there)
    again = lab.set_up()
    assert (all(one.there for one in again.steps), lab.there, again.sealed_secret) == (True, before, "")
    renewed = lab.set_up(renew=True)
    changed = {part for part, piece in lab.there.items() if before[part] != piece}
    assert (changed, bool(renewed.sealed_secret)) == ({Part.CREDENTIAL}, True)


@pytest.mark.parametrize("part", [Part.PROJECT, Part.USER, Part.CREDENTIAL])
def test_a_name_that_is_not_ours_is_refused_and_stays(lab: Lab, part: Part) -> None:
    theirs = Piece("theirs", ours=False)
    lab.grounds.pieces[SETUP.name] = {part: theirs}
    done = lab.set_up(Asking("alice", "mine", {"ownership": "I want it"}))
    assert (done.refused, f"{part} {SETUP.name}" in done.fault) == ("ownership", True)
    assert lab.there == {part: theirs}


def test_what_was_begun_goes_on_after_a_fault(lab: Lab) -> None:
    lab.grounds.deaf.add(Part.NETWORK)
    assert "network net was made, and is not there" in lab.set_up().fault
    assert list(lab.there) == [Part.PROJECT, Part.QUOTA, Part.USER, Part.ROLE]
    lab.grounds.deaf.clear()
    lab.grounds.fail.append(TransientError("no answer"))
    assert lab.set_up().fault == "no answer"
    done = lab.set_up()
    assert ([one.part for one in done.steps if not one.there], done.fault) == (
        [Part.NETWORK, Part.SUBNET, Part.CREDENTIAL],
        "",
    )


def test_a_provider_without_an_operators_account_is_told_so(lab: Lab, clock: ManualClock) -> None:
    lab.provider = Provider("lab", MemoryDriver(MemoryCloud(), "gr1"), MemoryTransport(clock))
    with pytest.raises(UserError, match="admin_cloud"):
        lab.set_up()


def test_a_shared_network_needs_no_subnet_and_other_limits_are_set_again() -> None:
    found = {Part.NETWORK: Piece("n", shared=True), Part.QUOTA: Piece("p", limits={"servers": 10})}
    steps = {one.part: one for one in plan(SETUP, found)}
    assert Part.SUBNET not in steps
    assert (steps[Part.NETWORK].there, steps[Part.QUOTA].there) == (True, False)
    assert "servers 4 (now 10)" in steps[Part.QUOTA].text


def test_what_a_setup_makes_is_not_taken_for_an_environments() -> None:
    assert described(SETUP.mark) is None


@given(nodes=st.integers(0, 1000), vcpu=st.floats(0, 1000), floating=st.booleans())
def test_a_clouds_quota_never_refuses_what_the_projects_allows(nodes: int, vcpu: float, floating: bool) -> None:
    limits = limits_of(Quota(nodes=nodes, vcpu=vcpu), floating=floating)
    assert limits["cores"] >= max(vcpu, nodes)
    assert limits["ports"] >= nodes
    assert limits["security_groups"] >= nodes
    assert ("floating_addresses" in limits) is floating
    assert limits_of(Quota(), floating=floating) == {}


@pytest.mark.parametrize("cidr", ["10.40.0.0", "10.40.0.1/24", "10.40.0.0/30", "net"])
def test_what_is_no_network_for_nodes_is_refused(cidr: str) -> None:
    with pytest.raises(UserError):
        check_network(cidr)
