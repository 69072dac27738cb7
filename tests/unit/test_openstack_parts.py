"""What the OpenStack driver decides without a cloud: flavors, user data, marks, and what errors mean."""

from __future__ import annotations

import base64
import email
import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st
from keystoneauth1 import exceptions as auth
from openstack import exceptions as sdk

from pipeline.adapters.drivers.openstack.apart import turns
from pipeline.adapters.drivers.openstack.cloud import Cloud
from pipeline.adapters.drivers.openstack.driver import OpenStackDriver
from pipeline.adapters.drivers.openstack.flavors import Flavor, best, made_for, wanted
from pipeline.adapters.drivers.openstack.names import Names
from pipeline.adapters.drivers.openstack.servers import flavor_of, views
from pipeline.adapters.drivers.openstack.terms import Terms
from pipeline.adapters.drivers.openstack.userdata import user_data
from pipeline.adapters.drivers.openstack.wires import node_of
from pipeline.clients.openstack import Account, Mark, described, ends_at_of, named_group, told
from pipeline.clients.openstack.faults import meant
from pipeline.domain.errors import CapacityError, PermanentError, TransientError
from pipeline.domain.failsafe import RetryAt, decide
from pipeline.domain.qos import QosProfile
from pipeline.domain.resources import Resources
from pipeline.domain.wiring import Custom
from pipeline.ports.common import Secret
from pipeline.ports.drivers import NodeRequest, NodeStatus, NodeView

if TYPE_CHECKING:
    from openstack.connection import Connection

SMALL = Resources(vcpu=1, memory_mib=512, disk_gib=5)
NODE = NodeRequest("web-0", "web", "plain", SMALL, QosProfile(), Secret("private"), "ssh-ed25519 AAAA")
TINY = Flavor("1", "tiny", 1, 512, 5)
BIG = Flavor("2", "big", 4, 8192, 40)
#: Half a gigabit inwards, as Nova says it in kB/s.
BOUND = {"quota:vif_inbound_average": "62500"}


def test_the_flavor_that_wastes_least_is_taken() -> None:
    assert best(wanted(SMALL, QosProfile(), {}), [BIG, TINY]) == TINY


def test_a_flavor_that_is_too_small_is_not_taken() -> None:
    assert best(wanted(replace(SMALL, memory_mib=1024), QosProfile(), {}), [TINY, BIG]) == BIG
    assert best(wanted(replace(SMALL, vcpu=8), QosProfile(), {}), [TINY, BIG]) is None


def test_half_a_core_takes_a_whole_one() -> None:
    assert wanted(replace(SMALL, vcpu=0.5), QosProfile(), {}).vcpus == 1


def test_promises_become_extra_specs() -> None:
    qos = QosProfile(disk_write_iops=100, network_in=500_000_000, cpu_shares=2048)
    specs = wanted(replace(SMALL, hugepages_mib=64), qos, {}).extra_specs
    assert specs == {
        "quota:disk_write_iops_sec": "100",
        "quota:cpu_shares": "2048",
        **BOUND,
        "hw:mem_page_size": "large",
    }


def test_a_flavor_with_the_same_promises_goes_first_and_one_with_others_is_never_taken() -> None:
    same, other = replace(BIG, id="3", extra_specs=BOUND), replace(TINY, id="4", extra_specs={"quota:cpu_shares": "2"})
    wish = wanted(SMALL, QosProfile(network_in=500_000_000), {})
    assert best(wish, [TINY, other, same]) == same
    assert best(wish, [TINY, other]) == TINY
    assert best(wish, [other]) is None


def flavor_among(custom: Custom, *there: Flavor) -> Flavor:
    """What a node gets by an account that sees these flavors."""
    compute = SimpleNamespace(flavors=lambda **_: there)
    cloud = Cloud(cast("Connection", SimpleNamespace(compute=compute)), Terms("net"))
    return flavor_of(cloud, replace(NODE, custom=custom))


def test_extra_specs_that_a_project_sets_need_a_flavor_that_has_them() -> None:
    pinned = replace(BIG, id="3", name="pinned", extra_specs={"hw:cpu_policy": "dedicated", "hw:watchdog": "reset"})
    asked = Custom(extra_specs={"hw:cpu_policy": "dedicated"})
    assert flavor_among(asked, TINY, pinned) == pinned
    with pytest.raises(PermanentError, match=r"web-0: no flavor has the extra specs hw:cpu_policy=dedicated; make one"):
        flavor_among(asked, TINY, BIG)
    with pytest.raises(PermanentError, match=r"no flavor has 1 vCPU, 512 MiB, 5 GiB, hw:cpu_policy=dedicated;"):
        flavor_among(asked, TINY, replace(pinned, disk=1))
    with pytest.raises(PermanentError, match=r"flavor tiny has not the extra specs hw:cpu_policy=dedicated"):
        flavor_among(replace(asked, flavor="tiny"), TINY, pinned)


def test_promises_that_a_project_sets_itself_do_not_forbid_a_flavor_without_others() -> None:
    bound = replace(TINY, id="3", extra_specs=BOUND)
    wish = wanted(SMALL, QosProfile(cpu_shares=2048), BOUND)
    assert best(wish, [bound]) == bound
    assert best(wish, [replace(bound, extra_specs={**BOUND, "quota:cpu_shares": "2"})]) is None


def test_flavors_that_are_made_have_one_name_for_one_shape() -> None:
    wish = wanted(SMALL, QosProfile(network_in=500_000_000), {"hw:a": "1"})
    again = wanted(SMALL, QosProfile(network_in=500_000_000), {"hw:a": "1"})
    assert wish.name == again.name != wanted(SMALL, QosProfile(network_in=500_000_000), {"hw:a": "2"}).name
    assert made_for(wish, [TINY, replace(TINY, name=wish.name)]) == replace(TINY, name=wish.name)


def decoded(node: NodeRequest) -> str:
    return base64.b64decode(user_data(node, ["ssh-ed25519 LOGIN"])).decode()


def test_a_server_knows_its_host_key_at_the_first_boot() -> None:
    first, _, rest = decoded(NODE).partition("\n")
    told = json.loads(rest)
    assert first == "#cloud-config"
    assert told["ssh_keys"] == {"ed25519_private": "private", "ed25519_public": "ssh-ed25519 AAAA"}
    assert told["ssh_authorized_keys"] == ["ssh-ed25519 LOGIN"]
    assert told["disable_root"] is False


def test_a_projects_user_data_cannot_replace_ours() -> None:
    node = replace(NODE, custom=Custom(user_data="#!/bin/sh\necho grüezi\n"))
    parts = [part for part in email.message_from_string(decoded(node)).walk() if not part.is_multipart()]
    assert [part.get_content_type() for part in parts] == ["text/x-shellscript", "text/cloud-config"]
    assert (parts[0].get_payload(decode=True) or b"") == "#!/bin/sh\necho grüezi\n".encode()


def test_user_data_that_nobody_would_read_is_refused() -> None:
    with pytest.raises(PermanentError, match="web-0"):
        user_data(replace(NODE, custom=Custom(user_data="hello")), ["key"])


@given(
    deployment=st.from_regex(r"[a-z0-9]{1,20}", fullmatch=True),
    environment=st.from_regex(r"env-[a-z0-9]{1,20}", fullmatch=True),
    ends_at=st.integers(0, 10**11),
)
def test_a_mark_is_read_as_it_was_written(deployment: str, environment: str, ends_at: int) -> None:
    mark = Mark(deployment, environment)
    assert described(mark.description) == mark
    assert ends_at_of(mark.group_name(float(ends_at))) == ends_at


def test_of_nodes_that_are_kept_apart_one_is_made_at_a_time() -> None:
    apart = [replace(NODE, name=f"web-{number}", per_machine=0) for number in range(3)]
    anywhere = [replace(NODE, name=f"db-{number}", role="db") for number in range(2)]
    made = [[node.name for node in turn] for turn in turns(Terms("net"), [*apart, *anywhere])]
    assert made == [["web-0", "db-0", "db-1"], ["web-1"], ["web-2"]]
    assert len(turns(Terms("net", choose_machine=True), apart)) == 1


@pytest.mark.parametrize(
    ("port", "node"),
    [
        ("env-1-web-0", "web-0"),
        ("env-1-web-0.backend", "web-0"),
        ("env-1-virtual-10", "virtual-10"),
        ("env-1-virtual-10.backend", "virtual-10"),
        ("env-1-virtual-10.0.0.5", ""),
        ("env-1-virtual-fd00::5", ""),
    ],
)
def test_the_port_of_a_virtual_address_is_no_nodes(port: str, node: str) -> None:
    assert node_of(Mark("ours", "env-1"), port) == node


@pytest.mark.parametrize(
    "text", [None, "", "greenroom", "greenroom a", "greenroom A b", "greenroom a b c", "x greenroom a b"]
)
def test_what_others_describe_is_no_mark(text: str | None) -> None:
    assert described(text) is None


def answer(text: str, status: int) -> Exception:
    """What openstacksdk raises for an answer."""
    response = requests.Response()
    response.status_code, response.url = status, "http://cloud/"
    response.request = requests.Request("POST", response.url).prepare()
    response.headers.update({"Content-Type": "application/json", "Retry-After": "7"})
    response._content = json.dumps({"error": {"message": text}}).encode()
    with pytest.raises(sdk.HttpException) as caught:
        sdk.raise_from_response(response)
    return caught.value


class Rotated:
    """An image that others replace by one of the same name; what is made of the old one is refused."""

    def __init__(self) -> None:
        self.now = "old"
        self.used: list[str] = []
        ask = SimpleNamespace(images=lambda **_: [SimpleNamespace(id=self.now)])
        self.names = Names(cast("Connection", SimpleNamespace(image=ask)))

    def make(self, status: int = 400) -> None:
        self.used.append(self.names.image("plain"))
        with told("creating server web-0"):
            if self.used[-1] != self.now:
                raise answer("Can not find requested image", status)


def test_what_was_replaced_under_its_name_is_looked_up_once_more() -> None:
    image = Rotated()
    image.names.afresh(image.make)
    image.now = "new"
    image.names.afresh(image.make)
    assert image.used == ["old", "old", "new"]


def test_a_refusal_that_no_name_is_the_reason_of_is_not_repeated() -> None:
    image = Rotated()
    image.names.afresh(image.make)
    image.now = "new"
    with pytest.raises(PermanentError):
        image.names.afresh(partial(image.make, 403))
    assert image.used == ["old", "old"]
    image.names.afresh(image.make)  # and what was known is forgotten all the same
    assert image.used[2:] == ["new"]


def test_what_was_only_just_looked_up_is_not_looked_up_again() -> None:
    image = Rotated()

    def vanish() -> None:
        image.names.image("plain")
        image.now = "new"
        image.make()

    with pytest.raises(PermanentError):
        image.names.afresh(vanish)
    assert image.used == ["old"]


CASES: list[tuple[Exception, type]] = [
    (answer("Quota exceeded for instances", 403), CapacityError),
    (answer("Quota exceeded for resources: ['port']", 409), CapacityError),
    (answer("IP address 10.77.0.200 already allocated in subnet eb84", 409), CapacityError),
    (answer("The requested availability zone is not available", 400), CapacityError),
    (answer("Security group is in use", 409), TransientError),
    (answer("Invalid input", 400), PermanentError),
    (answer("Policy doesn't allow it", 403), PermanentError),
    (answer("No image", 404), PermanentError),
    (answer("Too many requests", 429), TransientError),
    (answer("Boom", 500), TransientError),
    (answer("Bad gateway", 502), TransientError),
    (auth.ConnectTimeout("timed out"), TransientError),
    (auth.ConnectFailure("refused"), TransientError),
    (auth.DiscoveryFailure("no versions: connection refused"), TransientError),
    (auth.Unauthorized("wrong password"), PermanentError),
    (auth.UnknownConnectionError("broken off", requests.exceptions.ChunkedEncodingError()), TransientError),
    (auth.UnknownConnectionError("no such address", requests.exceptions.InvalidURL()), PermanentError),
    (auth.SSLError("self-signed certificate"), PermanentError),
    (auth.MissingRequiredOptions([]), PermanentError),
    (sdk.ConfigException("no such cloud"), PermanentError),
    (sdk.ResourceTimeout("Timeout waiting for Server:5c1d to delete"), TransientError),
]


@pytest.mark.parametrize(
    ("error", "kind"), CASES, ids=lambda value: getattr(value, "__name__", None) or str(value)[:40]
)
def test_what_an_error_means(error: Exception, kind: type) -> None:
    judged = meant("creating server web-0", error)
    assert type(judged) is kind
    assert "creating server web-0" in str(judged)


@pytest.mark.parametrize("chooses", [True, False])
def test_a_driver_is_exact_where_its_account_may_choose_machines(tmp_path: Path, *, chooses: bool) -> None:
    terms = Terms("net", choose_machine=chooses)
    assert OpenStackDriver("ours", Account("cloud"), {}, terms, tmp_path).capabilities.exact is chooses


@pytest.mark.parametrize(
    ("fault", "full"),
    [
        ("Quota exceeded for instances: Requested 1, but already used 2 of 2 instances", True),
        ("Maximum number of ports exceeded", True),
        ("Exceeded maximum number of retries. Exhausted all hosts available for retrying build failures", False),
        ("No valid host was found.", False),
        ("", False),
    ],
)
def test_a_fault_that_is_no_more_than_a_full_quota_is_known(fault: str, *, full: bool) -> None:
    seen = seen_as("ERROR", fault=fault)
    assert (seen.status, seen.full) == (NodeStatus.ERROR, full)


def seen_as(status: str, task_state: str | None = None, fault: str = "") -> NodeView:
    """The view of a server of ours of which Nova says this."""
    metadata = {"greenroom-deployment": "ours", "greenroom-environment": "env-1"}
    told = {"id": "id-1", "name": "web-0", "status": status, "task_state": task_state, "compute_host": None}
    [seen] = views([SimpleNamespace(**told, metadata=metadata, fault={"message": fault})], "ours")
    return seen


@pytest.mark.parametrize(
    "status",
    [
        "ACTIVE", "MIGRATING", "REBOOT", "HARD_REBOOT", "PASSWORD", "RESIZE", "VERIFY_RESIZE", "REVERT_RESIZE",
        "UNKNOWN",
    ],
)  # fmt: skip
def test_a_server_that_comes_back_by_itself_is_not_lost(status: str) -> None:
    assert (seen_as(status).status, seen_as(status).fault) == (NodeStatus.ACTIVE, "")


@pytest.mark.parametrize(
    "status",
    [
        "SHUTOFF", "PAUSED", "SUSPENDED", "SHELVED", "SHELVED_OFFLOADED", "ERROR", "DELETED", "SOFT_DELETED", "RESCUE",
        "REBUILD",
    ],
)  # fmt: skip
def test_a_server_that_is_down_or_made_anew_is_of_no_use(status: str) -> None:
    assert (seen_as(status).status, seen_as(status).fault) == (NodeStatus.ERROR, f"server id-1 is {status}")


def test_a_server_that_somebody_deletes_is_said_to_be_deleted() -> None:
    seen = seen_as("ACTIVE", task_state="deleting")
    assert (seen.status, seen.fault) == (NodeStatus.ERROR, "server id-1 is being deleted")


def test_an_account_that_is_refused_is_to_be_corrected_or_renewed() -> None:
    assert "correct the account in its entry, or renew" in str(meant("listing servers", answer("Who are you?", 401)))
    assert "have the account given that right" in str(meant("listing servers", answer("Policy does not allow", 403)))


def test_a_service_that_a_region_does_not_have_is_told_with_what_to_correct() -> None:
    judged = meant("listing servers", sdk.ServiceDisabledException("no compute service in RegionTwo"))
    assert isinstance(judged, PermanentError)
    assert "correct `region_name` of the entry" in str(judged)


def test_a_cloud_that_asks_to_be_left_alone_is() -> None:
    judged = meant("listing servers", answer("Too many requests", 429))
    assert isinstance(judged, TransientError)
    assert judged.retry_after_s == 7.0
    assert decide(judged, 0, now=100.0, dice=0.99) == RetryAt(107.0, str(judged))


def test_half_an_answer_may_pass_by_itself() -> None:
    with pytest.raises(TransientError, match="listing servers"), told("listing servers"):
        raise requests.JSONDecodeError("Expecting value", "{", 1)


@given(
    st.from_regex(r"[a-z0-9]{1,20}", fullmatch=True),
    st.from_regex(r"[a-z0-9][a-z0-9-]{0,62}", fullmatch=True),
    st.from_regex(r"[a-z]([a-z0-9-]{0,30}[a-z0-9])?", fullmatch=True),
)
def test_the_name_of_a_server_group_is_a_mark(deployment: str, environment: str, role: str) -> None:
    mark = Mark(deployment, environment)
    assert named_group(mark.group_of(role)) == mark
    assert len(mark.group_of(role)) <= 255


@pytest.mark.parametrize(
    "name", ["", None, "web", "greenroom ours env-1", "greenroom ours env-1 web 2", "greenroom  a b"]
)
def test_other_names_of_server_groups_are_none(name: str | None) -> None:
    assert named_group(name) is None
