"""Huge pages: asked for by a role, placed against what machines declare, refused in words where there are none."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.adapters.blueprints.yaml12 import YamlBlueprintReader
from pipeline.adapters.drivers.local.this_machine import Pose, report
from pipeline.domain.blueprint import EnvironmentSpec, RoleSpec
from pipeline.domain.environments import EnvironmentState
from pipeline.domain.errors import InvalidBlueprint
from pipeline.domain.inventory import Inventory, Machine
from pipeline.domain.resources import SIZES, Resources
from pipeline.envs.books import ENVIRONMENTS
from pipeline.ports.stores import Document
from tests.tools.lab import Lab
from tests.tools.requests import SINGLE, requested

BLUEPRINT = """\
version: 1
service: shop
environment: {image: debian-12, roles: {db: {size: tiny, hugepages: %s}}}
test: []
"""
SPEC = EnvironmentSpec("debian-12", (RoleSpec("db", hugepages_mib=2048),))


def read(size: str) -> Resources:
    blueprint = YamlBlueprintReader().read("greenroom.yml", (BLUEPRINT % size).encode())
    return blueprint.environment.role("db").resources


def test_a_role_asks_for_huge_pages_beside_its_size() -> None:
    assert read("2GiB") == replace(SIZES["tiny"], hugepages_mib=2048)
    assert read("64 MiB").hugepages_mib == 64


@pytest.mark.parametrize(
    ("size", "told"),
    [
        ("2", "expected a size of huge pages with its unit, such as 2GiB, got the number 2"),
        ("2GB", "got the unit GB in '2GB'; known are MiB, GiB, TiB"),
        ("3MiB", "expected whole pages of 2MiB, 4096GiB at most, got '3MiB'"),
        ("9TiB", "expected whole pages of 2MiB, 4096GiB at most, got '9TiB'"),
        ("0GiB", "expected more than nothing"),
        ("-2GiB", "expected a size such as 256GiB, got '-2GiB'"),
    ],
)
def test_a_size_that_cannot_be_is_told_with_its_place(size: str, told: str) -> None:
    with pytest.raises(InvalidBlueprint) as error:
        read(size)
    (finding,) = error.value.findings
    assert (finding.line, finding.key) == (3, "environment.roles.db.hugepages")
    assert told in finding.message


def machine(name: str, **more: float) -> Machine:
    return Machine(name, "z1", {"vcpu": 64.0, **more})


def test_they_are_placed_where_they_are_and_no_more_than_there_are() -> None:
    lab = Lab()
    lab.declare(machine("plain"), machine("huge", hugepages_mib=4096.0))
    assert [lab.place(SPEC, f"env-{at}") for at in range(3)] == [["huge"], ["huge"], [""]]
    assert "2 GiB huge pages short" in lab.environment("env-2").reason
    assert lab.place(SINGLE, "env-other") != [""], "who asks for none is not kept off"


def test_where_no_machine_has_any_it_is_told_at_once() -> None:
    lab = Lab()
    lab.declare(machine("plain"))
    lab.place(SPEC)
    refused = lab.environment()
    assert refused.state is EnvironmentState.REJECTED
    assert "a node of it takes 2 GiB huge pages, and no machine that it may use has any" in refused.reason
    assert "leave `hugepages` out, or add machines whose inventory names `hugepages`" in refused.reason


def test_where_machines_have_too_few_the_most_is_told() -> None:
    lab = Lab()
    lab.declare(machine("huge", hugepages_mib=1024.0))
    lab.place(SPEC)
    assert "the largest machine that it may use, huge, has 1 GiB huge pages" in lab.environment().reason


def test_the_local_driver_has_none(tmp_path: Path) -> None:
    lab = Lab()
    told: Inventory = report(Pose(tmp_path))
    lab.inventories.sync("lab", told)
    lab.place(SPEC)
    assert "no machine that it may use has any" in lab.environment().reason


def test_documents_of_before_ask_for_none() -> None:
    body = dict(ENVIRONMENTS.body(requested("env-1", SINGLE, "lab", 1.0)))
    for node in body["nodes"]:
        del node["resources"]["hugepages_mib"]
    assert (
        ENVIRONMENTS.value(Document("environment", "env-1", 1, json.dumps(body))).nodes[0].resources.hugepages_mib == 0
    )
