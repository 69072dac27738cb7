"""Reading a greenroom.yml: what it becomes, and what is said about mistakes."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from pipeline.adapters.blueprints.yaml12 import BOUNDS, YamlBlueprintReader, load_schema
from pipeline.adapters.blueprints.yaml12.formats import FORMATS
from pipeline.domain.blueprint import (
    Artifact,
    Blueprint,
    CommandSpec,
    ConfigureSpec,
    DeploySpec,
    DestroySpec,
    EnvironmentSpec,
    Priority,
    PullRequestFilter,
    PushFilter,
    QosSpec,
    Readiness,
    RoleSpec,
    ScheduleSpec,
    TestinfraSpec,
    Triggers,
)
from pipeline.domain.errors import Finding, InvalidBlueprint
from pipeline.domain.qos import PROFILES, QosClass, QosProfile
from pipeline.domain.resources import SIZES
from pipeline.domain.rules import (
    Affinity,
    Attribute,
    BareMetal,
    PlacementRules,
    Spread,
    Stance,
    Strategy,
    Within,
)
from pipeline.domain.wiring import Attachment, Custom, Network, Opening, Wiring, lies_in, room_in

READER = YamlBlueprintReader()

FULL = """\
version: 1
service: shop
on:
  push: {branches: [main, "feature/*"], paths_ignore: ["docs/**"]}
  pull_request: {}
  schedule: [{cron: "0 2 * * *", branch: main, priority: nightly}]
environment:
  image: debian-12
  roles:
    web: {count: 2, size: small, run_list: ["recipe[webapp]"], spread: zone}
    db:  {count: 1, size: medium, workload: high-io, run_list: ["recipe[database]"],
          qos: {class: guaranteed, disk_write_iops: 500, network_in: 100Mbit/s}}
configure: {cookbooks: chef-cookbooks, attributes: {shop: {port: 8080}}}
deploy:
  - {role: web, to: /srv/shop, run: ["./bin/migrate"], ready: {http: ":8080/health", within: 60s}}
test:
  - {testinfra: tests/infra}
  - {run: "./bin/e2e", on: "web[0]", junit: report.xml, timeout: 10m}
destroy: {on_failure: {hold: 30m}}
"""

SHORT = """\
version: 1
service: shop
environment: {image: debian-12, roles: {web: }}
test: []
"""


def read(text: str | bytes) -> Blueprint:
    return READER.read("greenroom.yml", text if isinstance(text, bytes) else text.encode())


def findings(text: str | bytes) -> tuple[Finding, ...]:
    with pytest.raises(InvalidBlueprint) as caught:
        read(text)
    return caught.value.findings


def only(text: str | bytes) -> Finding:
    [finding] = findings(text)
    return finding


def with_(**changes: str) -> str:
    """The short blueprint with keys of the first level added or replaced."""
    lines = dict(line.split(": ", 1) for line in SHORT.splitlines())
    return "".join(f"{key}: {value}\n" for key, value in {**lines, **changes}.items())


def with_role(text: str) -> str:
    return with_(environment=f"{{image: debian-12, roles: {{web: {text}}}}}")


def test_the_example_of_the_documentation() -> None:
    web = RoleSpec("web", count=2, run_list=("recipe[webapp]",), rules=PlacementRules(spread=Spread.ZONE))
    promise = QosProfile(QosClass.GUARANTEED, disk_write_iops=500, network_in=100_000_000)
    high_io = PlacementRules(bare_metal=BareMetal.WANTED, workload="high-io")
    db = RoleSpec("db", size="medium", run_list=("recipe[database]",), qos=promise, rules=high_io)
    ready = Readiness(http=":8080/health", within_s=60)
    assert read(FULL) == Blueprint(
        service="shop",
        environment=EnvironmentSpec("debian-12", (web, db)),
        triggers=Triggers(
            PushFilter(branches=("main", "feature/*"), paths_ignore=("docs/**",)),
            PullRequestFilter(),
            (ScheduleSpec("0 2 * * *", "main", Priority.NIGHTLY),),
        ),
        configure=ConfigureSpec(cookbooks="chef-cookbooks", attributes={"shop": {"port": 8080}}),
        deploy=(DeploySpec("web", "/srv/shop", ("./bin/migrate",), ready),),
        test=(TestinfraSpec("tests/infra"), CommandSpec("./bin/e2e", "web[0]", "report.xml", timeout_s=600)),
        destroy=DestroySpec(hold_on_failure_s=1800),
    )


def test_the_shortest_blueprint() -> None:
    assert read(SHORT) == Blueprint("shop", EnvironmentSpec("debian-12", (RoleSpec("web"),)))


def test_everything_that_may_be_given() -> None:
    text = with_(
        on="{push: , pull_request: {branches: [main], paths_ignore: [a]}}",
        environment="{image: i/m:1, provider: rack-1, roles: {web: {image: other, script: c/web.sh, "
        "attributes: {a: [1, x, null]}, qos: {class: best-effort, disk_read_iops: 1, disk_read_bytes: 1MiB/s, "
        "disk_write_bytes: 1MB/s, network_out: 1Gbit/s}}}}",
        configure="{with: script, idempotent: true, timeout: 1h, silence: 1m}",
        deploy="[{role: web, to: /srv/a/, ready: {tcp: 80}, timeout: 1s, silence: 2s}, "
        "{role: web, to: /b, ready: {run: x}}]",
        test="[{testinfra: a, roles: [web], timeout: 1s, silence: 2s}, {run: x, silence: 3s}]",
        artifacts="[{path: /var/log/x.log, on: web}, {path: /var/log}]",
        timeout="2h",
    )
    qos = QosProfile(
        QosClass.BEST_EFFORT,
        disk_read_iops=1,
        disk_read_bytes=2**20,
        disk_write_bytes=10**6,
        network_out=10**9,
    )
    web = RoleSpec("web", image="other", script="c/web.sh", attributes={"a": [1, "x", None]}, qos=qos)
    assert read(text) == Blueprint(
        service="shop",
        environment=EnvironmentSpec("i/m:1", (web,), "rack-1"),
        triggers=Triggers(PushFilter(), PullRequestFilter(("main",), ("a",))),
        configure=ConfigureSpec("script", idempotent=True, timeout_s=3600, silence_s=60),
        deploy=(
            DeploySpec("web", "/srv/a", ready=Readiness(tcp=80), timeout_s=1, silence_s=2),
            DeploySpec("web", "/b", ready=Readiness(run="x")),
        ),
        test=(TestinfraSpec("a", ("web",), 1, 2), CommandSpec("x", silence_s=3)),
        artifacts=(Artifact("/var/log/x.log", "web"), Artifact("/var/log")),
        timeout_s=7200,
    )


def test_placement_rules_of_a_role() -> None:
    text = with_(
        environment="{image: i, within: region, strategy: spread, roles: {db: , web: {require: {zone: [a, b], "
        "feature: sse}, prefer: {aggregate: fast}, forbid: {kind: bare-metal}, max_per_zone: 2, near: db, "
        "apart_from: [billing], bare_metal: required, workload: high-io, spread: machine}}}"
    )
    environment = read(text).environment
    assert (environment.within, environment.strategy) == (Within.REGION, Strategy.SPREAD)
    assert environment.role("web").rules == PlacementRules(
        affinities=(
            Affinity(Stance.REQUIRE, Attribute.ZONE, ("a", "b")),
            Affinity(Stance.REQUIRE, Attribute.FEATURE, ("sse",)),
            Affinity(Stance.FORBID, Attribute.KIND, ("bare-metal",)),
            Affinity(Stance.PREFER, Attribute.AGGREGATE, ("fast",)),
        ),
        spread=Spread.MACHINE,
        max_per_zone=2,
        apart_from=("billing",),
        near="db",
        bare_metal=BareMetal.REQUIRED,
        workload="high-io",
    )


WIRED = """\
version: 1
service: shop
environment:
  image: debian-12
  networks: {backend: {cidr: 10.40.0.0/24}, office: {shared: office-net}}
  roles:
    web:
      count: 2
      open: [443/tcp, 8000-8010/udp, icmp, {port: 22/tcp, from: 10.0.0.0/8}]
      networks: {backend: [10.40.0.11, 10.40.0.12]}
      virtual_address: 10.20.0.100
      floating: true
    db: {networks: [backend, office], server: {flavor: m1.large, metadata: {team: shop}}}
test: []
"""


def test_networks_openings_and_servers() -> None:
    environment = read(WIRED).environment
    assert environment.networks == (Network("backend", cidr="10.40.0.0/24"), Network("office", shared="office-net"))
    web, db = environment.roles
    openings = (
        Opening("tcp", 443, 443),
        Opening("udp", 8000, 8010),
        Opening("icmp", 0, 0),
        Opening("tcp", 22, 22, "10.0.0.0/8"),
    )
    assert web.wiring(1) == Wiring((Attachment("backend", "10.40.0.12"),), openings, "10.20.0.100", floating=True)
    assert db.wiring(0).attachments == (Attachment("backend"), Attachment("office"))
    assert db.custom == Custom(flavor="m1.large", metadata={"team": "shop"})


@pytest.mark.parametrize(
    ("right", "wrong", "told"),
    [
        ("443/tcp", "443", "expected ports such as 443/tcp"),
        ("443/tcp", "99999/tcp", "expected ports such as 443/tcp"),
        ("8000-8010", "8010-8000", "expected ports such as 443/tcp"),
        ("from: 10.0.0.0/8", "from: 10.0.0.1/8", "expected a network such as"),
        ("[10.40.0.11, 10.40.0.12]", "[10.40.0.11]", "expected an address for each of 2 nodes, got 1"),
        ("10.40.0.12]", "10.40.0.11]", "10.40.0.11 stands in line 10 already"),
        ("10.40.0.12]", "10.41.0.12]", "10.41.0.12 is no address for a node in 10.40.0.0/24"),
        ("10.40.0.12]", "10.40.0.0]", "10.40.0.0 is no address for a node in 10.40.0.0/24"),
        ("10.40.0.12]", "10.40.0.255]", "10.40.0.255 is no address for a node in 10.40.0.0/24"),
        ("{cidr: 10.40.0.0/24}", "{cidr: 10.40.0.8/30}", "10.40.0.8/30 has addresses for 2 nodes, and 3 are attached"),
        ("{shared: office-net}", "{cidr: 10.40.0.128/25}", "10.40.0.128/25 overlaps with network backend in line 5"),
        ("{cidr: 10.40.0.0/24}", "{shared: office-net}", "office-net is that of network backend in line 5"),
        ("icmp,", "443-443/tcp,", "443-443/tcp is open to 0.0.0.0/0 already"),
        ("port: 22/tcp, from: 10.0.0.0/8", "port: 443/tcp, from: 0.0.0.0/0", "443/tcp is open to 0.0.0.0/0 already"),
        ("[backend, office]", "[office, office]", "expected every entry once"),
        ("metadata: {team: shop}", "extra_specs: {'hw:x': a}", "leave `flavor` or `extra_specs` out"),
        ("metadata: {team: shop}", "user_data: hello", "expected a script (#!) or a #cloud-config"),
        ("metadata: {team: shop}", f"user_data: '#!{'ü' * 15_000}'", "expected at most 30000 bytes, got 30002"),
        ("metadata: {team: shop}", "metadatas: {team: shop}", "unknown key; did you mean metadata?"),
        ("floating: true", "floating: 1", "expected true or false"),
        ("virtual_address: 10.20.0.100", "virtual_address: 10.20.0.0/24", "expected an address such as"),
        ("10.40.0.12]", "10.40.0]", "expected an address such as"),
        ("[backend, office]", "[backend, offise]", "no network offise in environment.networks; did you mean office?"),
        ("{backend: [10", "{backent: [10", "did you mean backend?"),
        ("{team: shop}", "{greenroom-node: x}", "are Greenroom's own marks"),
        ("{team: shop}", "{Greenroom_node: x}", "are Greenroom's own marks"),
        ("office-net}", "office-net, cidr: 10.41.0.0/24}", "expected"),
    ],
)
def test_mistakes_of_networks_and_openings(right: str, wrong: str, told: str) -> None:
    assert right in WIRED
    assert told in " ".join(finding.message for finding in findings(WIRED.replace(right, wrong, 1)))


def test_all_mistakes_of_a_wired_blueprint_at_once_each_in_its_place() -> None:
    text = WIRED.replace("443/tcp", "443").replace("10.40.0.12]", "10.41.0.12]").replace("office]", "offise]")
    found = [(finding.line, finding.key) for finding in findings(text)]
    assert found == [
        (9, "environment.roles.web.open[0]"),
        (10, "environment.roles.web.networks.backend[1]"),
        (13, "environment.roles.db.networks[1]"),
    ]


@pytest.mark.parametrize(
    ("cidr", "room"),
    [("10.0.0.0/24", 254), ("10.0.0.0/30", 2), ("10.0.0.0/31", 2), ("10.0.0.0/32", 1), ("fd::/126", 3)],
)
def test_a_network_has_room_for_so_many_nodes(cidr: str, room: int) -> None:
    assert room_in(cidr) == room
    assert sum(lies_in(str(address), cidr) for address in ip_network(cidr)) == room


def test_near_a_service_of_the_whole_environment_or_one_role() -> None:
    text = with_(
        environment="{image: i, near: {service: shop-db}, roles: {web: , cache: {near: web}, "
        "search: {near: {service: index}}}}"
    )
    rules = {role.name: (role.rules.near, role.rules.near_service) for role in read(text).environment.roles}
    assert rules == {"web": (None, "shop-db"), "cache": ("web", None), "search": (None, "index")}


def test_a_qos_profile_by_name_and_with_changes() -> None:
    assert read(with_role("{qos: steady}")).environment.role("web").qos == PROFILES["steady"]
    changed = read(with_role("{qos: {profile: steady, cpu_shares: 7, network_in: 1Mbit/s}}"))
    assert changed.environment.role("web").qos == replace(PROFILES["steady"], cpu_shares=7, network_in=10**6)


def test_a_measurement_may_be_a_test() -> None:
    assert read(with_(test="[{qos: true}, {qos: web}]")).test == (QosSpec("all"), QosSpec("web"))


def test_every_key_of_roles_and_environments_is_documented() -> None:
    document = (Path(__file__).parents[2] / "docs/greenroom-yml.md").read_text(encoding="utf-8")
    for name in ("environment", "role", "qos", "qos_check"):
        for key in load_schema()["$defs"][name]["properties"]:
            assert f"`{key}" in document


def test_on_is_a_key_and_names_what_runs() -> None:
    assert read(with_(on="{pull_request: }")).triggers == Triggers(push=None, pull_request=PullRequestFilter())
    assert read(SHORT).triggers == Triggers(push=PushFilter())


def test_a_pull_request_may_ask_for_an_environment() -> None:
    rules = read(with_(on="{pull_request: {environment: true, ttl: 8h, branches: [main]}}")).triggers.pull_request
    assert rules == PullRequestFilter(branches=("main",), environment=True, ttl_s=8 * 3600.0)
    rules = read(with_(on="{pull_request: {forks: true, environment: false}}")).triggers.pull_request
    assert rules == PullRequestFilter(forks=True)


def test_every_key_of_triggers_is_documented() -> None:
    document = (Path(__file__).parents[2] / "docs/greenroom-yml.md").read_text(encoding="utf-8")
    triggers = load_schema()["$defs"]["triggers"]["properties"]
    for kind in ("push", "pull_request"):
        for key in triggers[kind]["properties"]:
            assert f"`{kind}.{key}`" in document


@pytest.mark.parametrize("word", ["yes", "no", "on", "off", "1:30", "0o", "1_000", "2024-01-01", "1e", "0b1", "٣", "="])
def test_texts_stay_texts(word: str) -> None:
    blueprint = read(with_(configure=f"{{attributes: {{a: {word}}}}}"))
    assert blueprint.configure.attributes == {"a": word}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("010", 10),
        ("0o10", 8),
        ("0x1F", 31),
        ("-7", -7),
        ("+.5", 0.5),
        ("1e3", 1000.0),
        ("1.", 1.0),
        ("True", True),
        ("FALSE", False),
        ("~", None),
        ("", None),
        ("'1'", "1"),
        ('"true"', "true"),
        ("[1, {b: 2}]", [1, {"b": 2}]),
    ],
)
def test_numbers_and_truths_are_those_of_yaml_1_2(text: str, value: Any) -> None:
    read_value = read(with_(configure=f"{{attributes: {{a: {text}}}}}")).configure.attributes["a"]
    assert (read_value, type(read_value)) == (value, type(value))


def test_anchors_may_be_used() -> None:
    text = with_(configure="{attributes: {a: &x [1, 2], b: *x}}")
    assert read(text).configure.attributes == {"a": [1, 2], "b": [1, 2]}


# Mistakes, one at a time: where, and what is said

#: text with a § where the mistake is, key, what is said
MISTAKES: list[tuple[str, str, str]] = [
    (with_(service="§Shop"), "service", "expected a-z, 0-9 and inner hyphens"),
    (with_(service="§all"), "service", "`all` means every node"),
    (with_(service="§7"), "service", "inner hyphens, at most 32 characters, a letter first, got the number 7"),
    (with_(version="§2"), "version", "expected 1, got the number 2"),
    (with_(version="§'1'"), "version", "expected 1, got '1'"),
    (SHORT + "§servic: x\n", "servic", "unknown key; did you mean service?"),
    (SHORT + "§zzz: x\n", "zzz", "unknown key; known are artifacts, configure, deploy"),
    (with_(on="§push"), "on", "such as {push: {branches: [main]}}, got 'push'"),
    (with_(on="{push: {§branch: [a]}}"), "on.push.branch", "did you mean branches?"),
    (with_(on="{push: {branches: §main}}"), "on.push.branches", "expected a list of glob patterns, got 'main'"),
    (with_(on="{schedule: [{cron: §0 2 * *, branch: m}]}"), "on.schedule[0].cron", "expected five cron fields"),
    (
        with_(on="{push: {§staging: shop}}"),
        "on.push.staging",
        "expected the key `branches` beside it: patterns of branches",
    ),
    (with_(on="{pull_request: {§ttl: 8h}}"), "on.pull_request.ttl", "environment"),
    (with_(on="{pull_request: {environment: true, ttl: §0s}}"), "on.pull_request.ttl", "more than no time"),
    (with_(on="{pull_request: {environment: §yes}}"), "on.pull_request.environment", "true or false"),
    (with_(on="{push: {branches: [main], staging: §Shop}}"), "on.push.staging", "expected the name of a staging"),
    (with_(on="{schedule: [§{cron: '0 0 * * *'}]}"), "on.schedule[0]", "expected the key `branch`: a branch"),
    (with_(on="{schedule: [{cron: '0 0 * * *', branch: §-x}]}"), "on.schedule[0].branch", "like an option"),
    (with_role("{count: §0}"), "environment.roles.web.count", "expected at least 1, got 0"),
    (with_role("{count: §1.5}"), "environment.roles.web.count", "expected a number of nodes, got the number 1.5"),
    (with_role("{count: §true}"), "environment.roles.web.count", "got the truth value true"),
    (with_role("{size: §medum}"), "environment.roles.web.size", "'medum'; did you mean medium?"),
    (with_role("{size: §7}"), "environment.roles.web.size", "tiny or small or medium or large, got the number 7"),
    (with_role("{run_list: [§webapp]}"), "environment.roles.web.run_list[0]", "expected recipe[NAME] or role[NAME]"),
    (with_role("{script: §/bin/x}"), "environment.roles.web.script", "expected a path inside the repository"),
    (with_role("{script: §a/../x}"), "environment.roles.web.script", "expected a path without `..`"),
    (with_role("{qos: {network_in: §1MB/s}}"), "environment.roles.web.qos.network_in", "got bytes in"),
    (with_role("{qos: {disk_read_bytes: §1Mbit/s}}"), "environment.roles.web.qos.disk_read_bytes", "got bits in"),
    (with_role("{qos: {network_in: §100}}"), "environment.roles.web.qos.network_in", "got the number 100"),
    (
        with_role("{attributes: §[a]}"),
        "environment.roles.web.attributes",
        "expected a mapping of attributes, got a list",
    ),
    (with_(environment="{image: i, roles: §{}}"), "environment.roles", "expected at least 1 entry"),
    (with_(environment="{image: i, roles: {§Web: }}"), "environment.roles.Web", "expected a-z"),
    (with_(environment="{image: i, roles: {§all: }}"), "environment.roles.all", "`all` means every node"),
    (
        with_(environment="{image: i, roles: §{a: {count: 150}, b: {count: 51}}}"),
        "environment.roles",
        "200 nodes in an environment, got 201",
    ),
    (with_role("{near: §db}"), "environment.roles.web.near", "no role db in environment.roles; known are web"),
    (with_role("{near: §web}"), "environment.roles.web.near", "role web cannot be near itself"),
    (with_role("{near: §7}"), "environment.roles.web.near", "expected a role of environment.roles whose zone"),
    (with_role("{near: §{}}"), "environment.roles.web.near", "expected the key `service`"),
    (with_role("{near: {service: db, §servic: db}}"), "environment.roles.web.near.servic", "did you mean service?"),
    (with_role("{near: {service: §shop}}"), "environment.roles.web.near.service", "service shop cannot be near itself"),
    (
        with_(environment="{image: i, near: {service: §shop}, roles: {web: }}"),
        "environment.near.service",
        "service shop cannot be near itself; name another service",
    ),
    (
        with_(environment="{image: i, roles: {a: {near: §c}, b: {near: a}, c: {near: b}}}"),
        "environment.roles.a.near",
        "in a circle (a near c near b near a)",
    ),
    (
        with_role("{require: {zone: [a, b]}, forbid: {zone: §b}}"),
        "environment.roles.web.forbid.zone",
        "forbids zone b, which `require` in line 3 asks for",
    ),
    (with_role("{require: {§rack: a}}"), "environment.roles.web.require.rack", "unknown key"),
    (with_role("{prefer: {zone: §7}}"), "environment.roles.web.prefer.zone", "expected a name or a list of names"),
    (with_role("{max_per_zone: §0}"), "environment.roles.web.max_per_zone", "expected at least 1, got 0"),
    (with_role("{bare_metal: §want}"), "environment.roles.web.bare_metal", "did you mean wanted?"),
    (with_role("{qos: §stedy}"), "environment.roles.web.qos", "no QoS profile stedy; did you mean steady?"),
    (with_role("{qos: {profile: §gold}}"), "environment.roles.web.qos.profile", "known are frugal, steady, strong"),
    (with_role("{qos: {cpu_shares: §-1}}"), "environment.roles.web.qos.cpu_shares", "expected at least 2, got -1"),
    (with_role("{qos: {disk_read_iops: §-5}}"), "environment.roles.web.qos.disk_read_iops", "expected at least 1"),
    (with_role("{qos: {network_in: §999Tbit/s}}"), "environment.roles.web.qos.network_in", "at most 10^13"),
    (with_(environment="{image: i, within: §rack, roles: {a: }}"), "environment.within", "anywhere or region or zone"),
    (with_(test="[{qos: §wep}]"), "test[0].qos", "no role wep in environment.roles; did you mean web?"),
    (with_(test="[{qos: §false}]"), "test[0].qos", "no meaning"),
    (with_(environment="§{roles: {a: }}"), "environment", "expected the key `image`"),
    (
        with_(configure="{with: §cheff}"),
        "configure.with",
        "expected auto or chef or script, got 'cheff'; did you mean chef?",
    ),
    (with_(configure="{idempotent: §'yes'}"), "configure.idempotent", "expected true or false, got 'yes'"),
    (with_(configure="{timeout: §0s}"), "configure.timeout", "expected more than no time"),
    (with_(configure="{attributes: {a: §.inf}}"), "configure.attributes.a", "expected a finite number"),
    (with_(configure="{attributes: {a: §1e999}}"), "configure.attributes.a", "expected a finite number"),
    (
        with_(configure="{attributes: {a: §999999999999999999999999999999}}"),
        "configure.attributes.a",
        "at most 18 digits",
    ),
    (with_(configure="{attributes: {§8080: x}}"), "configure.attributes", "got '8080': put it in quotes"),
    (with_(configure="{attributes: {§[a]: x}}"), "configure.attributes", "expected a text as key"),
    (with_(deploy="[{role: §wbe, to: /x}]"), "deploy[0].role", "no role wbe in environment.roles; did you mean web?"),
    (with_(deploy="[{role: web, to: §srv}]"), "deploy[0].to", "expected an absolute path such as /srv/shop, got 'srv'"),
    (with_(deploy="[{role: web, to: §/srv/../etc}]"), "deploy[0].to", "without `..`"),
    (with_(deploy="[{role: web, to: §/}]"), "deploy[0].to", "expected an absolute path"),
    (with_(deploy="[{role: web, to: /a}, {role: web, to: §/a/}]"), "deploy[1].to", "role web gets /a/ twice"),
    (with_(deploy="[§web]"), "deploy[0]", "expected a deployment with `role` and `to`, got 'web'"),
    (with_(deploy="[{role: web, to: /a, run: §./x}]"), "deploy[0].run", "expected a list of shell commands, got './x'"),
    (with_(deploy="[{role: web, to: /a, ready: §{within: 1s}}]"), "deploy[0].ready", "exactly one of http, tcp, run"),
    (
        with_(deploy="[{role: web, to: /a, ready: §{tcp: 1, run: x}}]"),
        "deploy[0].ready",
        "exactly one of http, tcp, run",
    ),
    (with_(deploy="[{role: web, to: /a, ready: {tcp: §70000}}]"), "deploy[0].ready.tcp", "at most 65535"),
    (with_(deploy="[{role: web, to: /a, ready: {http: §localhost/x}}]"), "deploy[0].ready.http", "`:PORT/PATH`"),
    (with_(test="[{§testinfr: x, run: y}]"), "test[0].testinfr", "did you mean testinfra?"),
    (with_(test="[§{}]"), "test[0]", "expected the key `run`: a shell command (or give `testinfra`"),
    (with_(test="[{testinfra: a, run: §x}]"), "test[0].run", "no meaning beside the others"),
    (with_(test="[{testinfra: a, roles: [§bd]}]"), "test[0].roles[0]", "no role bd in environment.roles"),
    (with_(test="[{testinfra: a, roles: §[web, web]}]"), "test[0].roles", "expected every entry once"),
    (with_(test="[{run: x, on: §wep}]"), "test[0].on", "no role wep in environment.roles; did you mean web?"),
    (with_(test="[{run: x, on: §'web[1]'}]"), "test[0].on", "role web has 1 nodes, counted from 0; got web[1]"),
    (with_(test="[{run: x, on: §'web[-1]'}]"), "test[0].on", "expected `all`, a role such as `web`"),
    (with_(test="[{run: x, junit: §../r.xml}]"), "test[0].junit", "without `..`"),
    (with_(test="[{run: §''}]"), "test[0].run", "expected at least 1 character"),
    (
        with_(test="[{run: x, timeout: §10 minutes}]"),
        "test[0].timeout",
        "expected a duration such as 60s, 30m or 1h30m",
    ),
    (with_(test="[{run: x, timeout: §600}]"), "test[0].timeout", "got the number 600"),
    (with_(test="§{run: x}"), "test", "expected a list of testinfra suites and commands, got a mapping"),
    (SHORT.replace("test: []", "§test: "), "test", "expected a list of testinfra suites and commands, got nothing"),
    (with_(destroy="{on_failure: {hold: §8d}}"), "destroy.on_failure.hold", "expected at most 7d"),
    (with_(artifacts="[{path: §var/log}]"), "artifacts[0].path", "expected an absolute path"),
    (with_(artifacts="[{path: /var/log, on: §db}]"), "artifacts[0].on", "no role db"),
    (
        with_(test="§!!python/object/apply:os.system [id]"),
        "test",
        "tags such as !!python/object/apply:os.system are refused",
    ),
    (with_(service="§!!str shop"), "service", "tags such as !!str are refused"),
    (with_(service="§!x shop"), "service", "tags such as !x are refused"),
    (with_(service="§*nobody"), "service", "*nobody names no anchor"),
    (SHORT + "§service: again\n", "service", "the key stands here twice, first in line 2"),
    (SHORT + "§<<: {timeout: 1h}\n", "<<", "unknown key"),
]


@pytest.mark.parametrize(("marked", "key", "told"), MISTAKES)
def test_a_mistake_is_named_with_its_place(marked: str, key: str, told: str) -> None:
    before = marked.partition("§")[0]
    finding = only(marked.replace("§", ""))
    assert told in finding.message
    assert finding.key == key
    assert (finding.line, finding.column) == (before.count("\n") + 1, len(before) - before.rfind("\n"))


def test_a_run_that_tests_nothing_must_say_so() -> None:
    finding = only(with_().replace("test: []\n", ""))
    assert finding.message.startswith("expected the key `test`: a run that tests nothing")
    assert read(SHORT).test == ()


def test_all_mistakes_are_named_at_once_in_the_order_of_the_file() -> None:
    text = with_(service="Shop", zzz="1", test="[{run: x, on: db}]", timeout="soon", version="3")
    assert [finding.key for finding in findings(text)] == ["version", "service", "test[0].on", "zzz", "timeout"]


def test_the_error_names_the_file() -> None:
    with pytest.raises(InvalidBlueprint) as caught:
        READER.read("shop/greenroom.yml", b"version: 2\n" + SHORT.encode().partition(b"\n")[2])
    assert str(caught.value) == "shop/greenroom.yml: line 1, column 10 (version): expected 1, got the number 2"


def test_ten_thousand_nodes_are_a_clear_error() -> None:
    messages = [finding.message for finding in findings(with_role("{count: 10000}"))]
    assert messages == [
        "expected at most 200 nodes in an environment, got 10000",
        "expected at most 200, got 10000",
    ]


# Texts that are no blueprint at all


@pytest.mark.parametrize(
    ("text", "line", "column", "told"),
    [
        ("", 1, 1, "the file is empty"),
        ("# nothing\n", 1, 1, "the file is empty"),
        ("---\n", 1, 1, "the file is empty"),
        ("a: [1\n", 2, 1, "this is no YAML"),
        ("a: 1\n b: 2\n", 2, 3, "this is no YAML"),
        ("a: [{on: web[0]}]\n", 1, 13, 'needs quotes there, such as "web[0]"'),
        ("a:\n\tb: 1\n", 2, 1, "a tab stands where only spaces may"),
        ("a: 1\n---\nb: 1\n", 2, 1, "expected one document"),
        ("a: 1\nb: \x01\n", 2, 4, "does not allow the character U+0001"),
        ("%YAML 1.1\n---\na: 1\n", 2, 1, "read as YAML 1.2"),
        (b"a: 1\nb: \xff\n", 2, 4, "expected UTF-8, got the byte 0xff"),
        (SHORT.encode("utf-16"), 1, 1, "expected UTF-8"),
        (b"\xef\xbb\xbf", 1, 1, "the file is empty"),
        ("[" * 100_000, 1, 34, "nested deeper than 32 levels"),
        ("{a: " * 40, 1, 130, "nested deeper"),
        ("- 1\n" * 21_000, 20_000, 3, "expected at most 20000 values"),
        ("#" * (BOUNDS.size + 1), 1, 1, "expected at most 256 KiB, got 262145 bytes"),
    ],
)
def test_what_cannot_be_read_says_where(text: str | bytes, line: int, column: int, told: str) -> None:
    finding = only(text)
    assert told in finding.message
    assert (finding.line, finding.column) == (line, column)


@pytest.mark.parametrize("text", ["[]", "text", "7", "null", "- a\n"])
def test_a_document_must_be_a_mapping(text: str) -> None:
    assert "expected a Greenroom blueprint" in only(text).message


def test_a_yaml_bomb_does_not_go_off() -> None:
    lines = ["a0: &a0 [lol]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    assert "aliases expand to more than" in only("\n".join(lines)).message


def test_an_alias_of_itself_ends() -> None:
    assert "names no anchor" in " ".join(finding.message for finding in findings("a: &a [*a]"))


def test_a_chain_of_aliases_ends() -> None:
    lines = ["a0: &a0 [x]", *(f"a{i}: &a{i} [*a{i - 1}]" for i in range(1, 100))]
    assert "aliases expand" in only("\n".join(lines)).message


def test_a_flood_of_mistakes_is_cut() -> None:
    found = findings("".join(f"k{i}: 1\n" for i in range(500)))
    assert len(found) == 101
    assert "more mistakes" in found[-1].message


def outcome(text: str | bytes) -> Blueprint | tuple[Finding, ...]:
    """What reading comes to; any other error than findings is a mistake of the reader."""
    try:
        return read(text)
    except InvalidBlueprint as error:
        return error.findings


@given(st.binary(max_size=300) | st.text(alphabet="{}[]:,-&*!|>'\"%@`#\n\t ab1", max_size=200).map(str.encode))
def test_any_bytes_are_a_blueprint_or_findings(content: bytes) -> None:
    assert outcome(content)


SHAPES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.sampled_from(["web", "all", "/x", "1s", ""]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["role", "to", "on", "run", "roles", "web", "count", "image"]), inner, max_size=3
        )
    ),
    max_leaves=8,
)


@given(st.sampled_from(["on", "environment", "configure", "deploy", "test", "destroy", "artifacts"]), SHAPES)
def test_any_shape_is_a_blueprint_or_findings(key: str, value: object) -> None:
    assert outcome(with_(**{key: json.dumps(value)}))


# The published schema


def test_the_schema_is_sound_and_closed() -> None:
    schema = READER.schema()
    Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    for place in objects(schema):
        if "properties" in place:
            assert place.get("additionalProperties") is False


def test_the_schema_knows_our_sizes_and_formats() -> None:
    schema = load_schema()
    assert schema["$defs"]["role"]["properties"]["size"]["enum"] == list(SIZES)
    assert {place["format"] for place in objects(schema) if "format" in place} == set(FORMATS)


def test_the_schemas_examples_are_right() -> None:
    examples = [
        (place["format"], one)
        for place in objects(READER.schema())
        for one in place.get("examples", ())
        if "format" in place
    ]
    assert examples
    for name, example in examples:
        FORMATS[name](example)


def objects(value: Any) -> list[dict[str, Any]]:
    """Every schema object inside a value."""
    if isinstance(value, list):
        return [found for item in value for found in objects(item)]
    if not isinstance(value, dict):
        return []
    inner = [found for item in value.values() for found in objects(item)]
    return [value, *inner] if not isinstance(value.get("format"), dict) else inner


def test_importing_the_reader_imports_no_library() -> None:
    code = (
        "import sys, pipeline.adapters.blueprints.yaml12\n"
        "print(sorted({'ruamel', 'ruamel.yaml', 'jsonschema', 'referencing'} & set(sys.modules)))"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_messages_stay_short() -> None:
    for text in ("a: !" + "x" * 9000, "a: *" + "x" * 9000, "k" * 9000 + ": 1", with_(service='"' + "x" * 9000 + '"')):
        assert all(len(str(finding)) < 700 for finding in findings(text))


def test_the_documented_example_can_be_read() -> None:
    document = (Path(__file__).parents[2] / "docs/greenroom-yml.md").read_text(encoding="utf-8")
    example = document.split("```yaml\n")[1].split("```")[0]
    assert read(example).service == "shop"
