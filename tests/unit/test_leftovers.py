"""What hangs about in a cloud: ours without an environment, others' without a use, and what is safe to do."""

from __future__ import annotations

import shlex
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.adapters.clock import ManualClock
from pipeline.adapters.clouds.memory import MemorySky
from pipeline.adapters.drivers.memory import MemoryCloud, MemoryDriver
from pipeline.adapters.transports.memory import MemoryTransport
from pipeline.domain.environments import FINAL_STATES, EnvironmentState
from pipeline.domain.errors import TransientError, UserError
from pipeline.domain.leftovers import MEANT, Finding, Known, Leftover, Thing, ThingKind, leftovers, sightings
from pipeline.envs.books import Books
from pipeline.envs.leftovers import Leftovers
from pipeline.envs.providers import Provider
from tests.unit.test_drift import OURS, environment

PORT = Thing(ThingKind.PORT, "p-1", "env-1-web-0", "shop-cloud", OURS, "env-1", used=True)
GROUP = replace(PORT, kind=ThingKind.SECURITY_GROUP, id="g-1")
LOOSE = Thing(ThingKind.PORT, "p-9", "spare", "shop-cloud")
E = EnvironmentState


def found(*things: Thing, state: EnvironmentState | None = None) -> list[Leftover]:
    states = {} if state is None else {"env-1": state}
    return list(leftovers(things, Known(OURS, "lab", states)))


@pytest.mark.parametrize("state", sorted(set(E) - FINAL_STATES))
def test_what_belongs_to_an_environment_that_is_not_over_is_no_leftover(state: EnvironmentState) -> None:
    assert found(PORT, replace(PORT, used=False), GROUP, state=state) == []


@pytest.mark.parametrize(("state", "finding"), [(None, Finding.UNKNOWN), (E.DESTROYED, Finding.OVER)])
def test_what_the_reaper_does_not_see_is_taken_back_by_a_person(
    state: EnvironmentState | None, finding: Finding
) -> None:
    [one] = found(PORT, state=state)
    assert one.finding is finding
    assert one.action == 'greenroom cloud take-back env-1 --provider lab --reason "a leftover"'
    for seen in found(PORT, GROUP, state=state):
        assert (seen.finding, seen.action) == (finding, "greenroom audit")


def test_what_nothing_uses_is_shown_and_never_removed() -> None:
    [one] = found(LOOSE, replace(LOOSE, id="p-8", used=True))
    assert (one.thing, one.finding, one.action) == (LOOSE, Finding.UNUSED, "openstack port show p-9")


ADDRESS = replace(PORT, kind=ThingKind.ADDRESS, id="f-1", name="203.0.113.7", host="shop.test.example", used=False)


def test_a_routers_address_goes_with_no_environment_and_is_told_where_its_name_leads_nowhere() -> None:
    assert found(ADDRESS, state=E.LEASED) == []
    assert found(replace(ADDRESS, used=True)) == []
    for state in (None, E.DESTROYED):
        (one,) = found(ADDRESS, state=state)
        assert (one.finding, one.action) == (Finding.UNUSED, "openstack floating ip delete f-1")
        assert "shop.test.example" in one.text
        assert sightings([replace(one, since=0.0)], "env-1", OURS, 1000.0) == 0


def test_another_deployment_takes_care_of_its_own() -> None:
    [one] = found(replace(PORT, deployment="other", used=False))
    assert (one.finding, one.action) == (Finding.UNUSED, "")


names = st.text(min_size=1, max_size=20)


@given(kind=st.sampled_from(ThingKind), id=names, deployment=st.sampled_from(["", "other"]), used=st.booleans())
def test_no_command_changes_what_is_not_ours(kind: ThingKind, id: str, deployment: str, used: bool) -> None:
    thing = Thing(kind, id, id, "p", deployment, "env-1" if deployment else "", used)
    told = found(thing)
    assert bool(told) is (not used and kind not in MEANT)
    for one in told:
        words = shlex.split(one.action)
        assert words == [] or (words[0], words[-2:]) == ("openstack", ["show", id])


class Lab:
    """One provider whose sky is set by hand."""

    def __init__(self, books: Books, clock: ManualClock) -> None:
        self.sky = MemorySky(there=[LOOSE])
        self.provider = Provider("lab", MemoryDriver(MemoryCloud(), OURS), MemoryTransport(clock), cloud=self.sky)
        self.leftovers = Leftovers(books, lambda _: self.provider, clock, OURS)

    def seen(self) -> list[tuple[str, float]]:
        return [(one.thing.id, one.since) for one in self.leftovers.last("lab").found]


@pytest.fixture
def lab(books: Books, clock: ManualClock) -> Lab:
    return Lab(books, clock)


def test_each_look_tells_since_when_a_thing_hangs_about(lab: Lab, clock: ManualClock) -> None:
    began = clock.now()
    lab.leftovers.look("lab")
    clock.sleep(60)
    lab.sky.there.append(PORT)
    lab.leftovers.look("lab")
    assert lab.seen() == [("p-1", began + 60), ("p-9", began)]
    lab.sky.there.clear()
    lab.leftovers.look("lab")
    assert lab.seen() == []


def test_the_books_say_whether_an_environment_is_over(lab: Lab, books: Books) -> None:
    lab.sky.there = [PORT]
    stands = environment()
    books.commit(books.environments.kind.put(stands.id, stands, 0))
    lab.leftovers.look("lab")
    assert lab.seen() == []
    books.commit(books.environments.kind.put(stands.id, replace(stands, state=E.DESTROYED), 1))
    lab.leftovers.look("lab")
    assert [id for id, _ in lab.seen()] == ["p-1"]


def test_a_failure_is_told_beside_what_was_found_before(lab: Lab, clock: ManualClock) -> None:
    lab.leftovers.look("lab")
    at = clock.now()
    clock.sleep(60)
    lab.sky.fail.append(TransientError("no answer"))
    with pytest.raises(TransientError):
        lab.leftovers.look("lab")
    report = lab.leftovers.last("lab")
    assert (report.at, report.tried_at, report.fault) == (at, at + 60, "no answer")
    assert [id for id, _ in lab.seen()] == ["p-9"]


def test_a_provider_without_a_cloud_is_told_so(lab: Lab) -> None:
    lab.provider = replace(lab.provider, cloud=None)
    with pytest.raises(UserError, match="not openstack"):
        lab.leftovers.ask("lab")
