"""The port of routers, kept by the memory twin, HAProxy, and floating addresses: in memory and in a real cloud."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pipeline.adapters.routers.floating_ip import FloatingRouter, Neutron, Room
from pipeline.adapters.routers.memory import MemoryRouter
from pipeline.clients.openstack import Account, connect
from pipeline.domain.errors import CapacityError, InvalidTransition, NotFound, TransientError, UserError
from pipeline.domain.traffic import Backend, Target, same
from pipeline.ports.routers import Router
from tests.plugins.haproxy import Haproxy, Origin, eventually, free_port, origin
from tests.plugins.openstack_cloud import CloudUnderTest, connection_of, release_hosts
from tests.tools.posing_neutron import Posing

if TYPE_CHECKING:
    from openstack.connection import Connection

HOST = "shop.test.example"


@dataclass
class Subject:
    """A router, three servers that answer, and how to make one of them ill or the router silent.

    `ends_what_is_open`: the router sees connections, so that it can cut them.
    """

    router: Router
    targets: tuple[Target, ...]
    sicken: Callable[[Target], None]
    silence: Callable[[], None]
    again: Callable[[], Router]
    ends_what_is_open: bool = True

    def register(self, environment: str, *numbers: int) -> None:
        self.router.register(Backend(environment, tuple(self.targets[number] for number in numbers)))

    def up(self, environment: str) -> int:
        return self.router.reading(environment).up


@pytest.fixture(params=["memory", "haproxy", "posing", pytest.param("floating_ip", marks=pytest.mark.openstack)])
def subject(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Subject]:
    with ExitStack() as stack:
        origins = [stack.enter_context(origin(word)) for word in ("one", "two", "three")]
        if request.param == "memory":
            yield _memory(origins)
        elif request.param == "haproxy":
            yield _haproxy(request.getfixturevalue("haproxy"), origins)
        elif request.param == "posing":
            yield _posing(tmp_path)
        else:
            yield stack.enter_context(_floating(request.getfixturevalue("test_cloud"), tmp_path))


def _memory(origins: list[Origin]) -> Subject:
    router = MemoryRouter("front", room=4, most_targets=3)
    return Subject(
        router,
        tuple(one.target for one in origins),
        router.sick.add,
        lambda: setattr(router, "down", True),
        lambda: router,
    )


def _haproxy(haproxy: Haproxy, origins: list[Origin]) -> Subject:
    by_target = {one.target: one for one in origins}

    def again() -> Router:
        haproxy.stop()
        haproxy.start()
        return haproxy.router

    return Subject(
        haproxy.router,
        tuple(by_target),
        lambda target: setattr(by_target[target], "status", 500),
        haproxy.stop,
        again,
    )


def _posing(home: Path) -> Subject:
    posing = Posing(home, room=Room(4, 3))
    targets = tuple(Target(f"10.0.0.{number}", 8080) for number in range(1, 4))
    silence = partial(setattr, posing.cloud, "silent", True)
    return Subject(posing.router(), targets, posing.sick.add, silence, posing.router, ends_what_is_open=False)


@contextmanager
def _floating(cloud: CloudUnderTest, home: Path) -> Iterator[Subject]:
    """Its targets are bare ports; whether they are well is told. Who is silent is asked where nobody listens."""
    deployment, sick = f"front{secrets.token_hex(4)}", set[Target]()
    account = Account(cloud.ours, str(cloud.clouds_file))
    with ExitStack() as stack:
        own = stack.enter_context(closing(connection_of(cloud, cloud.ours)))
        on = next(iter(own.network.networks(name=cloud.network))).id
        ports = [own.network.create_port(network_id=on, security_groups=[]) for _ in range(3)]
        for port in ports:
            stack.callback(own.network.delete_port, port.id)
        stack.callback(release_hosts, own, deployment)
        silent: list[Connection] = []

        def connected(account: Account) -> Connection:
            silent.append(connect(account))
            return silent[-1]

        def fresh() -> Router:
            neutron = Neutron("front", deployment, account, cloud.network, cloud.external_network, connected)
            stack.callback(neutron.close)
            return FloatingRouter(
                "front", home, deployment, neutron, {}, Room(4, 3), lambda target, _: target not in sick
            )

        def silence() -> None:
            for connection in silent:
                connection.network.endpoint_override = f"http://127.0.0.1:{free_port()}"

        targets = tuple(Target(port.fixed_ips[0]["ip_address"], 8080) for port in ports)
        yield Subject(fresh(), targets, sick.add, silence, fresh, ends_what_is_open=False)


def test_it_knows_what_was_registered_and_how_it_is(subject: Subject) -> None:
    assert (subject.router.name, set(subject.router.known())) == ("front", set())
    subject.register("env-1", 0, 1)
    assert set(subject.router.known()) == {"env-1"}
    assert subject.router.reading("env-1").targets == 2
    assert eventually(lambda: subject.up("env-1") == 2)
    subject.sicken(subject.targets[1])
    assert eventually(lambda: subject.up("env-1") == 1)


def test_what_is_registered_again_is_replaced(subject: Subject) -> None:
    subject.register("env-1", 0)
    subject.register("env-1", 1, 2)
    subject.register("env-1", 1, 2)
    assert set(subject.router.known()) == {"env-1"}
    assert subject.router.reading("env-1").targets == 2
    assert eventually(lambda: subject.up("env-1") == 2)
    subject.register("env-1", 2)
    assert eventually(lambda: subject.up("env-1") == 1)


def test_it_says_what_answers_now(subject: Subject) -> None:
    first = Backend("env-1", subject.targets[:2], "env-1.test.example", "/health")
    second = replace(first, targets=subject.targets[1:], health="/well")
    for backend in (first, second, replace(second, targets=()), replace(first, sticky=True)):
        subject.router.register(backend)
        assert same(subject.router.known()["env-1"], backend)
    assert not same(subject.router.known()["env-1"], first)


def test_who_stays_is_not_touched_when_another_one_leaves(subject: Subject) -> None:
    subject.register("env-1", 0, 1, 2)
    assert eventually(lambda: subject.up("env-1") == 3)
    for left in ((1, 2), (2,), ()):
        subject.register("env-1", *left)
        assert subject.up("env-1") == len(left)  # nobody was looked at anew
        assert subject.router.reading("env-1").targets == len(left)
    subject.register("env-1", 0)
    assert eventually(lambda: subject.up("env-1") == 1)


def test_a_host_leads_where_it_was_switched_last(subject: Subject) -> None:
    subject.register("env-1", 0)
    subject.register("env-2", 1)
    assert (dict(subject.router.routes()), set(subject.router.serving())) == ({}, set())
    subject.router.switch(HOST, "env-1")
    assert (dict(subject.router.routes()), set(subject.router.serving())) == ({HOST: "env-1"}, {"env-1"})
    for environment in ("env-2", "env-2"):
        subject.router.switch(HOST, environment)
    assert (dict(subject.router.routes()), set(subject.router.serving())) == ({HOST: "env-2"}, {"env-2"})
    for _ in range(2):
        subject.router.unroute(HOST)
    assert (dict(subject.router.routes()), set(subject.router.serving())) == ({}, set())


def test_its_own_host_is_no_traffic_that_a_guard_would_mind(subject: Subject) -> None:
    subject.router.register(Backend("env-1", subject.targets[:1], host="env-1.test.example"))
    assert (dict(subject.router.routes()), set(subject.router.serving())) == ({}, set())


def test_a_host_of_its_own_goes_to_whoever_takes_it_over(subject: Subject) -> None:
    router, (one, other, third) = subject.router, subject.targets

    def hosts() -> dict[str, str]:
        return {id: backend.host for id, backend in router.known().items()}

    router.register(Backend("env-1", (one,), host="pr-12.test.example"))
    router.register(Backend("env-2", (other,), host="env-2.test.example"))
    router.register(Backend("env-2", (other,), host="pr-12.test.example"))
    assert hosts() == {"env-1": "", "env-2": "pr-12.test.example"}
    router.register(Backend("env-1", (one,), host="env-1.test.example"))
    assert hosts() == {"env-1": "env-1.test.example", "env-2": "pr-12.test.example"}
    router.register(Backend("env-3", (third,), host="pr-12.test.example"))
    router.forget("env-2")
    assert hosts() == {"env-1": "env-1.test.example", "env-3": "pr-12.test.example"}


def test_what_a_host_is_switched_to_is_not_forgotten(subject: Subject) -> None:
    subject.register("env-1", 0)
    subject.router.switch(HOST, "env-1")
    with pytest.raises(InvalidTransition, match=HOST):
        subject.router.forget("env-1")
    subject.router.unroute(HOST)
    for _ in range(2):
        subject.router.forget("env-1")
    assert set(subject.router.known()) == set()


def test_nothing_is_switched_to_what_is_not_registered(subject: Subject) -> None:
    for ask in (
        lambda: subject.router.switch(HOST, "env-9"),
        lambda: subject.router.reading("env-9"),
    ):
        with pytest.raises(NotFound, match="env-9"):
            ask()
    subject.router.cut("env-9")
    assert dict(subject.router.routes()) == {}


def test_what_is_no_host_path_or_port_is_refused(subject: Subject) -> None:
    target = subject.targets[0]
    for backend in (
        Backend("env-1", (target,), host="a b.example"),
        Backend("env-1", (target,), health="/ HTTP/1.0"),
        Backend("env-1", (Target(target.address, 0),)),
    ):
        with pytest.raises(UserError):
            subject.router.register(backend)
    subject.register("env-1", 0)
    with pytest.raises(UserError, match="host"):
        subject.router.switch("shop example", "env-1")


def test_a_full_one_says_so(subject: Subject) -> None:
    with pytest.raises(CapacityError, match="env-1"):
        subject.router.register(Backend("env-1", (subject.targets[0],) * 4))
    for number in range(4):
        subject.register(f"env-{number}", 0)
    with pytest.raises(CapacityError, match="env-4"):
        subject.register("env-4", 0)
    subject.router.forget("env-0")
    subject.register("env-4", 0)


def test_one_that_is_started_again_serves_the_same(subject: Subject) -> None:
    subject.register("env-1", 0)
    subject.register("env-2", 1, 2)
    subject.router.switch(HOST, "env-2")
    router = subject.again()
    assert (set(router.known()), dict(router.routes())) == ({"env-1", "env-2"}, {HOST: "env-2"})
    assert eventually(lambda: subject.up("env-2") == 2)


def test_only_hosts_with_an_address_of_their_own_have_one(subject: Subject) -> None:
    assert subject.router.address_of(HOST) == ""
    subject.register("env-1", 0)
    subject.register("env-2", 1)
    subject.router.switch(HOST, "env-1")
    address = subject.router.address_of(HOST)
    subject.router.switch(HOST, "env-2")
    assert subject.router.address_of(HOST) == address
    assert subject.router.address_of("other.test.example") == ""


def test_a_host_leads_somewhere_once_it_is_known(subject: Subject) -> None:
    own = "env-1.test.example"
    assert [subject.router.leads(host) for host in (HOST, own)] == [False, False]
    subject.router.register(Backend("env-1", subject.targets[:2], own))
    subject.router.switch(HOST, "env-1")
    assert [subject.router.leads(host) for host in (HOST, own)] == [True, True]
    subject.router.unroute(HOST)
    assert [subject.router.leads(host) for host in (HOST, own)] == [False, True]


def test_one_that_cannot_be_asked_says_so(subject: Subject) -> None:
    subject.register("env-1", 0)
    subject.silence()
    cut: list[Callable[[], object]] = [lambda: subject.router.cut("env-1")] if subject.ends_what_is_open else []
    for ask in (
        subject.router.serving,
        subject.router.routes,
        subject.router.known,
        lambda: subject.router.reading("env-1"),
        lambda: subject.router.switch(HOST, "env-1"),
        lambda: subject.register("env-1", 0),
        *cut,
    ):
        with pytest.raises(TransientError, match="answer"):
            ask()
