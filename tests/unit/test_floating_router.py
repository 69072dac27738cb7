"""What a router of floating addresses decides: which node each host has, what it refuses, and what it leaves alone."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.adapters.routers.floating_ip import FloatingRouter
from pipeline.adapters.routers.floating_ip.looking import answers
from pipeline.adapters.routers.floating_ip.plan import assigned
from pipeline.clients.openstack import HostMark, hosted
from pipeline.clients.openstack.marks import described
from pipeline.domain.errors import CapacityError, InfraError, PermanentError, TransientError, UserError
from pipeline.domain.traffic import Backend, Target
from tests.plugins.haproxy import Origin, free_port, origin
from tests.tools.posing_neutron import Posing

HOST, OTHER = "shop.test.example", "other.test.example"
ONE, TWO, THREE = (Target(f"10.0.0.{number}", 8080) for number in (1, 2, 3))
MARKS = [HostMark("lab", f"{name}.test", "env-1") for name in ("a", "b")] + [HostMark("lab", "own.test", "env-1", True)]
PLACES = [f"10.0.0.{number}" for number in range(4)]


@pytest.fixture
def posing(tmp_path: Path) -> Posing:
    return Posing(tmp_path)


def leads(posing: Posing) -> dict[str, str]:
    """Where hosts lead."""
    return {mark.host: inside for text, inside in posing.cloud.leads().items() if (mark := hosted(text))}


def test_a_mark_is_read_as_it_was_written_and_is_none_of_an_environment() -> None:
    for mark in MARKS:
        assert (hosted(mark.description), described(mark.description)) == (mark, None)
    for text in (
        "",
        None,
        "greenroom lab env-1",
        "greenroom-host lab other made a.test env-1",
        "greenroom-host lab own made a.test",
    ):
        assert hosted(text) is None


@given(
    st.lists(st.sampled_from(PLACES), max_size=5),
    st.sets(st.sampled_from(PLACES)),
    st.dictionaries(st.sampled_from(MARKS), st.sampled_from([*PLACES, ""])),
)
def test_each_host_has_a_node_of_its_own_and_the_first_ones_have_the_better(
    places: list[str], well: set[str], now: dict[HostMark, str]
) -> None:
    found = assigned(MARKS, places, well, now)
    taken = [place for place in found.values() if place]
    assert len(set(taken)) == len(taken) == min(len(MARKS), len(set(places)))
    assert set(taken) <= set(places)
    ranks = [2 if not place else int(place not in well) for place in found.values()]
    assert ranks == sorted(ranks)
    assert assigned(MARKS, places, well, found) == found  # nobody moves without a reason


def test_a_host_stays_where_it_is_well_and_takes_what_no_other_has() -> None:
    first, own = MARKS[0], MARKS[2]
    assert assigned([first], PLACES, set(PLACES), {first: PLACES[2]}) == {first: PLACES[2]}
    assert assigned([first, own], PLACES[:2], set(PLACES), {own: PLACES[0]}) == {first: PLACES[1], own: PLACES[0]}
    assert assigned([first, own], PLACES[:2], {PLACES[0]}, {own: PLACES[0]}) == {first: PLACES[0], own: PLACES[1]}


def test_a_second_host_needs_a_second_node(posing: Posing) -> None:
    router = posing.router()
    router.register(Backend("env-1", (ONE,)))
    router.switch(HOST, "env-1")
    with pytest.raises(CapacityError, match="env-1 has 1 nodes for other"):
        router.switch(OTHER, "env-1")
    router.register(Backend("env-1", (ONE, TWO)))
    router.switch(OTHER, "env-1")
    assert leads(posing) == {HOST: ONE.address, OTHER: TWO.address}


def test_who_is_reached_at_a_floating_address_cannot_have_another(posing: Posing) -> None:
    posing.cloud.reserve("203.0.113.50", inside=ONE.address)
    with pytest.raises(UserError, match=r"env-1 is reached at 203\.0\.113\.50, a floating address of a node"):
        posing.router().register(Backend("env-1", (Target("203.0.113.50", 8080),)))
    assert posing.router().known() == {}


def test_a_node_of_another_project_is_named(posing: Posing) -> None:
    posing.cloud.ports = {TWO.address}
    with pytest.raises(UserError, match=r"no port at 10\.0\.0\.1 in network shop-net of cloud shop"):
        posing.router().register(Backend("env-1", (ONE,), HOST))


def test_a_name_that_fits_into_no_description_is_refused(posing: Posing) -> None:
    long = ".".join(["a" * 60] * 4)
    with pytest.raises(UserError, match="is too long for router front"):
        posing.router().register(Backend("env-1", (ONE,), long))
    posing.router().register(Backend("env-1", (ONE,)))
    with pytest.raises(UserError, match="is too long for router front"):
        posing.router().switch(long, "env-1")


@pytest.mark.parametrize(
    ("description", "inside", "why"),
    [
        (None, None, "is not in the project of the cloud"),
        ("", "10.0.0.9", r"leads to 10\.0\.0\.9 by somebody else's will"),
        (HostMark("lab", OTHER, "env-9").description, None, f"serves {OTHER}"),
    ],
)
def test_a_kept_address_that_cannot_be_had_is_named(
    posing: Posing, description: str | None, inside: str | None, why: str
) -> None:
    posing.reserved[HOST] = "203.0.113.77"
    if description is not None:
        posing.cloud.reserve("203.0.113.77", description, inside)
    router = posing.router()
    router.register(Backend("env-1", (ONE,)))
    with pytest.raises(PermanentError, match=rf"203\.0\.113\.77, which the settings keep for {HOST}, {why}"):
        router.switch(HOST, "env-1")


def test_a_kept_address_takes_the_place_of_the_one_that_was_made(posing: Posing) -> None:
    router = posing.router()
    router.register(Backend("env-1", (ONE, TWO)))
    router.switch(HOST, "env-1")
    posing.reserved[HOST] = "203.0.113.77"
    posing.cloud.reserve("203.0.113.77")
    posing.router().switch(HOST, "env-1")
    assert posing.router().address_of(HOST) == "203.0.113.77"
    assert list(posing.cloud.addresses) == ["203.0.113.77"]


def test_a_kept_address_is_never_released_even_when_the_settings_name_it_no_more(posing: Posing) -> None:
    posing.reserved[HOST] = "203.0.113.77"
    posing.cloud.reserve("203.0.113.77")
    for environment, target in (("env-1", ONE), ("env-2", TWO)):
        router = posing.router()
        router.register(Backend(environment, (target,)))
        router.switch(HOST, environment)
        posing.reserved.clear()
    assert leads(posing) == {HOST: TWO.address}
    router.unroute(HOST)
    (address,) = posing.cloud.addresses.values()
    assert (address.floating_ip_address, address.description, address.port_id) == ("203.0.113.77", "", None)


def test_of_two_addresses_that_an_answer_that_was_lost_made_one_stays(posing: Posing) -> None:
    mark = HostMark("lab", HOST, "env-1")
    posing.cloud.reserve("203.0.113.50", mark.description)
    posing.cloud.reserve("203.0.113.51", mark.description, ONE.address)
    posing.router().register(Backend("env-1", (ONE,)))
    assert (list(posing.cloud.addresses), leads(posing)) == (["203.0.113.51"], {HOST: ONE.address})


def test_addresses_of_others_are_never_touched(posing: Posing) -> None:
    theirs = HostMark("elsewhere", HOST, "env-1").description
    posing.cloud.reserve("203.0.113.50", theirs, THREE.address)
    posing.cloud.reserve("203.0.113.51")
    router = posing.router()
    router.register(Backend("env-1", (ONE,), HOST))
    assert (router.routes(), router.address_of(HOST)) == ({}, "203.0.113.1")
    router.forget("env-1")
    assert list(posing.cloud.addresses) == ["203.0.113.50", "203.0.113.51"]
    assert posing.cloud.leads() == {theirs: THREE.address}


def test_an_own_host_that_nobody_was_told_of_shows_so_that_it_is_forgotten(posing: Posing) -> None:
    posing.cloud.reserve("203.0.113.50", HostMark("lab", HOST, "env-9", True).description)
    router = posing.router()
    assert router.known() == {"env-9": Backend("env-9", (), HOST)}
    router.forget("env-9")
    assert posing.cloud.addresses == {}


def test_a_node_that_an_address_could_not_leave_is_told_still(posing: Posing) -> None:
    router = posing.router()
    router.register(Backend("env-1", (ONE, TWO)))
    router.switch(HOST, "env-1")
    posing.cloud.ports = {ONE.address}
    with pytest.raises(UserError):
        router.register(Backend("env-1", (TWO,)))
    assert {target.address for target in router.known()["env-1"].targets} == {ONE.address, TWO.address}
    posing.cloud.ports = None
    router.register(Backend("env-1", (TWO,)))
    assert router.known()["env-1"] == Backend("env-1", (TWO,))


def test_a_drain_takes_its_whole_time_because_what_is_open_is_not_seen(posing: Posing) -> None:
    router = posing.router()
    router.register(Backend("env-1", (ONE, TWO)))
    router.cut("env-1")
    reading = router.reading("env-1")
    assert (reading.sessions, reading.answers, reading.errors, reading.up) == (1, 0, 0, 2)


def test_whoever_looks_moves_an_address_from_a_node_that_is_not_well(posing: Posing) -> None:
    router = posing.router()
    router.register(Backend("env-1", (ONE, TWO)))
    router.switch(HOST, "env-1")
    posing.sick.add(ONE)
    assert router.reading("env-1").up == 1
    assert leads(posing) == {HOST: TWO.address}
    posing.sick.add(TWO)
    before = list(posing.cloud.calls)
    assert router.reading("env-1").up == 0
    assert posing.cloud.calls == before  # nothing is better, so it stays


def test_an_address_that_somebody_took_off_is_led_back(posing: Posing) -> None:
    router = posing.router()
    router.register(Backend("env-1", (ONE,)))
    router.switch(HOST, "env-1")
    (address,) = posing.cloud.addresses.values()
    address.port_id = address.fixed_ip_address = None
    router.keep()
    assert leads(posing) == {HOST: ONE.address}


def test_trouble_is_told_once_and_the_others_are_looked_after(posing: Posing, caplog: pytest.LogCaptureFixture) -> None:
    router = posing.router()
    router.register(Backend("env-1", (ONE, TWO)))
    router.register(Backend("env-2", (THREE, Target("10.0.0.4", 8080))))
    router.switch(OTHER, "env-1")
    router.switch(HOST, "env-2")
    posing.cloud.ports = {"10.0.0.4"}
    posing.sick |= {ONE, THREE}
    with caplog.at_level(logging.WARNING):
        router.keep()
        router.keep()
    assert [record.getMessage() for record in caplog.records if "env-1 is not served" in record.getMessage()] != []
    assert len(caplog.records) == 1
    assert leads(posing)[HOST] == "10.0.0.4"


def test_a_quota_that_is_full_is_not_asked_again_at_once(posing: Posing) -> None:
    posing.cloud.quota = 1
    router = posing.router()
    router.register(Backend("env-1", (ONE,), HOST))
    for text in ("Quota exceeded", "no floating address was left a moment ago"):
        with pytest.raises(CapacityError, match=text):
            router.register(Backend("env-2", (TWO,), OTHER))
    router.forget("env-1")
    router.register(Backend("env-2", (TWO,), OTHER))
    assert leads(posing) == {OTHER: TWO.address}


def test_whoever_let_us_wait_is_left_alone_for_a_while(posing: Posing, monkeypatch: pytest.MonkeyPatch) -> None:
    times: Iterator[float] = iter([0.0, 5.0, 5.0, 6.0, 20.0, 20.1])
    router = posing.router()
    monkeypatch.setattr("pipeline.adapters.routers.floating_ip.neutron.time.monotonic", lambda: next(times))
    posing.cloud.silent = True
    for text in ("has no good answer", "does not ask cloud shop, which gave no answer in time", "has no good answer"):
        with pytest.raises(TransientError, match=text):
            router.routes()


def test_what_stands_between_two_calls_is_finished_by_the_next(posing: Posing) -> None:
    """A process that died after any call leaves a state from which the same switch goes on."""

    class Died(Exception):
        pass

    for deadly in range(1, 4):
        fresh = replace(posing, home=posing.home / str(deadly), cloud=type(posing.cloud)())
        router = fresh.router()
        router.register(Backend("env-1", (ONE,), "env-1.test.example"))
        router.register(Backend("env-2", (TWO,), "env-2.test.example"))
        router.switch(HOST, "env-1")
        _die_at(fresh, deadly, Died)
        try:
            router.switch(HOST, "env-2")
        except Died:
            assert leads(fresh)[HOST] in {ONE.address, TWO.address}
        again = replace(fresh).router()
        again.switch(HOST, "env-2")
        again.keep()
        assert again.routes() == {HOST: "env-2"}
        assert leads(fresh) == {HOST: TWO.address, "env-1.test.example": ONE.address}


def _die_at(posing: Posing, number: int, death: type[Exception]) -> None:
    """The next router's calls from a number on are not made."""
    calls = posing.cloud.calls
    at = len(calls) + number

    class Mortal(list):  # type: ignore[type-arg]  # stands for the list of calls
        def append(self, call: object) -> None:
            if len(self) + 1 == at:
                posing.cloud.calls = list(self)
                raise death
            super().append(call)

    posing.cloud.calls = Mortal(calls)


@pytest.mark.parametrize(("status", "well"), [(200, True), (204, True), (302, True), (404, False), (500, False)])
def test_a_target_is_well_by_the_rule_of_haproxy(status: int, well: bool) -> None:
    with origin("one") as server:
        server.status = status
        assert answers(server.target, "/health") is well


def test_who_is_not_there_or_says_something_else_is_not_well() -> None:
    assert not answers(Target("127.0.0.1", free_port()), "/")


def test_one_lost_answer_makes_nobody_ill() -> None:
    with origin("one") as server:
        _fail_once(server)
        assert answers(server.target, "/")


def _fail_once(server: Origin) -> None:
    handle = server.process_request
    seen: list[object] = []

    def once(request: object, address: object) -> None:
        if not seen:
            seen.append(address)
            server.shutdown_request(request)  # type: ignore[arg-type]  # socketserver hands it on as it came
            return
        handle(request, address)  # type: ignore[arg-type]  # the same

    server.process_request = once  # type: ignore[method-assign,assignment]  # it loses the first


def test_every_error_is_one_that_its_callers_know(posing: Posing) -> None:
    router: FloatingRouter = posing.router()
    posing.cloud.silent = True
    for ask in (router.keep, router.known, router.routes, lambda: router.address_of(HOST)):
        with pytest.raises(InfraError):
            ask()
