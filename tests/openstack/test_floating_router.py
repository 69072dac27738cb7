"""On the real hypervisor: an address of a router moves from one guest to another while requests go through it."""

from __future__ import annotations

import http.client
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing
from dataclasses import dataclass, field

import pytest

from pipeline.adapters.drivers.openstack.driver import OpenStackDriver
from pipeline.adapters.drivers.openstack.terms import Terms
from pipeline.adapters.routers.floating_ip import FloatingRouter, Neutron
from pipeline.clients.openstack import Account
from pipeline.domain.qos import QosProfile
from pipeline.domain.resources import Resources
from pipeline.domain.traffic import Backend, Target
from pipeline.domain.wiring import Custom, Opening, Wiring
from pipeline.ports.drivers import EnvironmentRequest, NodeRequest
from tests.openstack.cloud.hypervisor import ZONE
from tests.openstack.test_hypervisor import BOOT_S, NODES, settled
from tests.plugins.local_nodes import Keys
from tests.plugins.openstack_cloud import CloudUnderTest, connection_of, reached_inside, release_hosts
from tests.tools.deployment import wait_for
from tests.tools.visitors import visitors

pytestmark = [pytest.mark.hypervisor, pytest.mark.alone, pytest.mark.timeout(400)]
DEPLOYMENT, PORT, HOST = "floating", 8080, "shop.test.example"
#: How long the cloud may take until it does what it said, in seconds; it computes on the processors of the test.
DONE_S = 30.0
#: Requests that are on their way at a time, and how long each may take, in seconds.
AT_ONCE, ANSWER_S = 4, 5.0
#: Says its name to whoever asks, as often as asked on one connection; ends when told to.
SERVER = """\
#!/usr/bin/python3
import http.server, os, socket
if os.fork():
    os._exit(0)
class Answering(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        if self.path == "/end":
            os._exit(0)
        body = socket.gethostname().partition(".")[0].encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass
http.server.ThreadingHTTPServer(("", 8080), Answering).serve_forever()
"""


@dataclass
class Load:
    """Requests to an address, each on a connection of its own: when they ended (monotonic) and which node answered;
    an empty word: none did.
    """

    address: str
    answers: list[tuple[float, str]] = field(default_factory=list)

    def running(self) -> AbstractContextManager[None]:
        return visitors(self._ask, AT_ONCE)

    def _ask(self) -> None:
        word = asked(self.address)
        self.answers.append((time.monotonic(), word))

    def last(self, word: str) -> float:
        return max(at for at, said in self.answers if said == word)

    def first(self, word: str) -> float:
        return min(at for at, said in self.answers if said == word)


def asked(address: str, path: str = "/", kept: http.client.HTTPConnection | None = None) -> str:
    """The word of whoever answers; empty: nobody."""
    connection = kept or http.client.HTTPConnection(address, PORT, timeout=ANSWER_S)
    try:
        connection.request("GET", path)
        return connection.getresponse().read().decode()
    except (OSError, http.client.HTTPException):
        return ""
    finally:
        if kept is None:
            connection.close()


@dataclass(frozen=True)
class Standing:
    """Two guests that answer, each an environment of the router."""

    router: FloatingRouter
    targets: tuple[Target, Target]


@pytest.fixture(scope="module")
def standing(
    hypervisor: CloudUnderTest, node_keys: Keys, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Standing]:
    """Nodes without floating addresses of their own, to which the machine of the test knows the way."""
    account = Account(hypervisor.ours, str(hypervisor.clouds_file))
    terms = Terms(hypervisor.network, images={"tiny": hypervisor.real_image}, custom=frozenset({"user_data"}))
    home = tmp_path_factory.mktemp("router")
    with ExitStack() as stack:
        driver = OpenStackDriver(DEPLOYMENT, account, {}, terms, home / "locks")
        stack.callback(driver.close)
        own = stack.enter_context(closing(connection_of(hypervisor, hypervisor.ours)))
        stack.callback(driver.destroy, "env-floating")
        stack.callback(release_hosts, own, DEPLOYMENT)
        driver.create(_request(node_keys))
        views = wait_for(lambda: settled(driver), "the end of the builds", BOOT_S)
        first, second = (Target(str(views[name].address), PORT) for name in NODES)
        stack.enter_context(reached_inside(hypervisor))
        for target in (first, second):
            wait_for(lambda target=target: asked(target.address), "an answer of the guest", BOOT_S)  # type: ignore[misc]  # a lambda with a default has no type
        neutron = Neutron("front", DEPLOYMENT, account, hypervisor.network, hypervisor.external_network)
        stack.callback(neutron.close)
        yield Standing(FloatingRouter("front", home, DEPLOYMENT, neutron), (first, second))


def _request(keys: Keys) -> EnvironmentRequest:
    wiring, custom = Wiring(openings=(Opening("tcp", PORT, PORT),)), Custom(user_data=SERVER)
    size = Resources(vcpu=1, memory_mib=512, disk_gib=2)
    nodes = tuple(
        NodeRequest(
            name,
            "web",
            "tiny",
            size,
            QosProfile(),
            keys.host,
            keys.host_public,
            zone=ZONE,
            wiring=wiring,
            custom=custom,
        )
        for name in NODES
    )
    return EnvironmentRequest(DEPLOYMENT, "env-floating", "shop", keys.login_public, time.time() + 3600, nodes)


def test_an_address_moves_from_one_guest_to_the_other_while_it_is_asked(
    standing: Standing, record_property: Callable[[str, object], None]
) -> None:
    router, (one, other) = standing.router, standing.targets
    router.register(Backend("env-1", (one,)))
    router.register(Backend("env-2", (other,)))
    assert (router.reading("env-1").up, router.reading("env-2").up) == (1, 1)
    router.switch(HOST, "env-1")
    address = router.address_of(HOST)
    wait_for(lambda: asked(address) == NODES[0], "an answer of the first guest at the address", DONE_S)
    load, kept = Load(address), http.client.HTTPConnection(address, PORT, timeout=ANSWER_S)
    with load.running():
        assert asked(address, kept=kept) == NODES[0]
        time.sleep(2)
        began = time.monotonic()
        router.switch(HOST, "env-2")
        told = time.monotonic()
        wait_for(lambda: any(word == NODES[1] for _, word in load.answers), "an answer of the second guest", DONE_S)
        time.sleep(3)
    kept_by = asked(address, kept=kept)
    kept.close()
    words = Counter(word or "none" for _, word in load.answers)
    looked = time.monotonic()
    router.routes()
    figures = {
        "asked in": round(time.monotonic() - looked, 2),
        "answers": dict(words),
        "told in": round(told - began, 2),
        "first new answer": round(load.first(NODES[1]) - began, 2),
        "last old answer": round(load.last(NODES[0]) - began, 2),
        "a connection that was kept is answered by": kept_by or "nobody",
    }
    record_property("figures", figures)
    print(figures)  # noqa: T201  # shown with `pytest -s`, as figures are for people
    assert router.address_of(HOST) == address
    assert load.last(NODES[0]) < load.last(NODES[1])
    assert words["none"] <= words.total() // 20
    assert kept_by == NODES[0]  # the agent leaves the state of connections alone


def test_an_address_leaves_a_guest_that_does_not_answer(standing: Standing) -> None:
    router, (one, other) = standing.router, standing.targets
    router.register(Backend("env-3", (one, other)))
    router.switch(HOST, "env-3")
    address = router.address_of(HOST)
    word = wait_for(lambda: asked(address), "an answer at the address", DONE_S)
    ends, stays = ((one, NODES[1]), (other, NODES[0]))[NODES.index(word)]
    asked(ends.address, "/end")
    router.keep()
    assert router.reading("env-3").up == 1
    wait_for(lambda: asked(address) == stays, "an answer of the guest that is well", DONE_S)
    router.unroute(HOST)
    assert (router.address_of(HOST), dict(router.routes())) == ("", {})
