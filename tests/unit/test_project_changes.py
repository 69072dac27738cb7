"""What a project may use is changed: amounts with units, and nothing that makes no sense."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.domain.errors import UserError
from pipeline.domain.projects import Amount, Project, ProjectChange, Quota, changed
from pipeline.domain.rules import OperatorRule

SHOP = Project("shop", 0.0, "sealed", provider="lab", quota=Quota(nodes=5, vcpu=8.0))


@pytest.mark.parametrize(
    ("quota", "expected"),
    [
        ({"nodes": "20"}, Quota(nodes=20, vcpu=8.0)),
        ({"nodes": 0}, Quota(nodes=0, vcpu=8.0)),
        ({"vcpu": "2.5", "memory": "64GiB", "disk": "1 TiB"}, Quota(5, 2.5, 65536.0, 1024.0)),
        ({"disk": "512MiB"}, Quota(nodes=5, vcpu=8.0, disk_gib=0.5)),
        ({"environments": 3, "floating_addresses": "2"}, Quota(5, 8.0, environments=3, floating_addresses=2)),
        ({"nodes": "none", "vcpu": None}, Quota()),
        ({}, SHOP.quota),
    ],
)
def test_a_quota_changes_by_limit(quota: dict[str, Amount], expected: Quota) -> None:
    assert changed(SHOP, ProjectChange(quota)).quota == expected


def test_forges_of_keys_take_the_place_of_those_before() -> None:
    asked = changed(SHOP, ProjectChange(key_forges=("https://github.com/",)))
    assert asked.key_forges == ("https://github.com",)
    assert changed(asked, ProjectChange()).key_forges == asked.key_forges
    assert changed(asked, ProjectChange(key_forges=("none",))).key_forges == ()
    with pytest.raises(UserError, match="no forge to take keys from"):
        changed(SHOP, ProjectChange(key_forges=("http://github.com",)))


def test_all_limits_go_at_once() -> None:
    assert changed(SHOP, ProjectChange(unlimited=True)).quota == Quota()
    assert changed(SHOP, ProjectChange({"nodes": 1}, unlimited=True)).quota == Quota(nodes=1)


@pytest.mark.parametrize(
    ("name", "amount", "told"),
    [
        ("nodes", "-1", "quota of nodes: -1 makes no sense; expected a number from 0 on, or `none`"),
        ("nodes", "2.5", "quota of nodes: 2.5 is no whole number"),
        ("nodes", "many", "quota of nodes: expected a number from 0 on, or `none` for no limit, got 'many'"),
        ("nodes", float("nan"), "nan makes no sense"),
        ("vcpu", "inf", "inf makes no sense"),
        ("vcpu", "1e30", "1e30 makes no sense"),
        ("memory", "64", "quota of memory: expected a size such as 64GiB, or `none` for no limit, got '64'"),
        ("memory", 64, "expected a size such as 64GiB"),
        ("memory", "-64GiB", "expected a size such as 64GiB"),
        ("memory", "64GB/s", "expected a size such as 64GiB"),
        ("memory", "999999999TiB", "999999999TiB makes no sense"),
        ("memory_mib", 64, "there is no quota of 'memory_mib'; there are: nodes, vcpu, memory, disk"),
    ],
)
def test_nonsense_is_told(name: str, amount: Amount, told: str) -> None:
    with pytest.raises(UserError) as error:
        changed(SHOP, ProjectChange({name: amount}))
    assert told in str(error.value)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"max_runs": 0}, "max_runs 0 makes no sense; use 1 to 10000"),
        ({"max_runs": -3}, "max_runs -3"),
        ({"weight": 0.0}, "weight 0 makes no sense; use 0.01 to 1000, where 1 is usual"),
        ({"weight": -1.0}, "weight -1"),
        ({"weight": float("nan")}, "weight nan"),
        ({"weight": float("inf")}, "weight inf"),
    ],
)
def test_shares_that_make_no_sense_are_told(change: Any, told: str) -> None:
    with pytest.raises(UserError) as error:
        changed(SHOP, ProjectChange(**change))
    assert told in str(error.value)


def test_what_is_not_named_stays() -> None:
    assert changed(SHOP, ProjectChange()) == SHOP
    assert changed(SHOP, ProjectChange(provider="")).provider == ""
    assert changed(SHOP, ProjectChange(max_runs=3, weight=2.0)).provider == "lab"


def test_rules_take_the_place_of_the_others() -> None:
    first = changed(SHOP, ProjectChange(rules=(OperatorRule("a"), OperatorRule("b"))))
    second = changed(first, ProjectChange(rules=(OperatorRule("c"),)))
    assert [rule.name for rule in second.rules] == ["c"]
    assert changed(second, ProjectChange(weight=2.0)).rules == second.rules
    assert changed(second, ProjectChange(rules=())).rules == ()


def test_a_projects_rule_cannot_mean_another_project() -> None:
    with pytest.raises(UserError, match=r"rule r: the rules of project shop hold for it alone"):
        changed(SHOP, ProjectChange(rules=(OperatorRule("r", {"project": ("blog",)}),)))
