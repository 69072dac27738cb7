"""The rules of warm pools: how full they are kept, what goes, what may be handed out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.domain import pools, preemption
from pipeline.domain.blueprint import Priority
from pipeline.domain.contracts import Contract
from pipeline.domain.environments import Environment, EnvironmentState, Node, Notice
from pipeline.domain.errors import InvalidTransition, UserError
from pipeline.domain.pools import BACK_OFF_S, MOST_OFF_S, ROUND, Pool
from pipeline.domain.qos import QosClass, QosProfile
from pipeline.domain.resources import Resources
from pipeline.domain.warm import MOST_SILENT, Warm
from pipeline.envs.books import ENVIRONMENTS, POOLED, UNCONFIRMED, pool_index

E = EnvironmentState
NOW = 10_000.0
AGE_S = 3600.0
OUT: Mapping[str, str] = {"m-bad": "quarantined"}
CONTRACT = Contract("ada", "", 7200.0, 86400.0, keys=("ssh-ed25519 AAAA",))


def pool(ready: int = 2, most: int = 5) -> Pool:
    return Pool("pairs", "shop", "pair", ready, most, AGE_S, 0.0, 0.0)


def kept(
    id: str = "env-1",
    state: EnvironmentState = E.READY,
    *,
    made_of: str = "now",
    machine: str = "m-good",
    left_s: float = AGE_S,
    checked_at: float = NOW,
    silent: int = 0,
) -> Environment:
    node = Node("web-0", "web", "debian-12", Resources(1, 512, 5), machine=machine)
    warm = Warm("pairs", made_of, AGE_S, checked_at, silent, "no route" if silent else "")
    return Environment(
        id, "shop", "shop", "", "cloud", state, (node,), Priority.NIGHTLY, 0.0, 0.0, NOW + left_s, warm=warm
    )


@st.composite
def stocks(draw: st.DrawFn) -> Sequence[Environment]:
    count = draw(st.integers(0, 8))
    return [
        kept(
            f"env-{number}",
            draw(st.sampled_from([E.REQUESTED, E.RESERVED, E.BUILDING, E.READY])),
            made_of=draw(st.sampled_from(["now", "before"])),
            machine=draw(st.sampled_from(["", "m-good", "m-bad"])),
            left_s=draw(st.sampled_from([-1.0, 30.0, 600.0])),
            checked_at=draw(st.sampled_from([0.0, NOW])),
            silent=draw(st.integers(0, MOST_SILENT)),
        )
        for number in range(count)
    ]


@dataclass(frozen=True)
class Case:
    pool: Pool
    stock: Sequence[Environment]
    handed_out: int


@st.composite
def cases(draw: st.DrawFn) -> Case:
    most = draw(st.integers(1, 10))
    return Case(pool(draw(st.integers(0, most)), most), draw(stocks()), draw(st.integers(0, 6)))


def planned(case: Case, stock: Sequence[Environment] | None = None, failures: Sequence[float] = ()) -> pools.Plan:
    stock = case.stock if stock is None else stock
    return pools.plan(case.pool, "now", stock, case.handed_out, failures, OUT, NOW)


@given(cases())
def test_never_more_stand_than_a_pool_may_have(case: Case) -> None:
    plan = planned(case)
    if plan.ask:
        assert len(case.stock) + case.handed_out + plan.ask <= case.pool.most
    assert 0 <= plan.ask <= ROUND


@given(cases())
def test_only_what_is_kept_goes_and_what_may_be_handed_out_goes_only_as_surplus(case: Case) -> None:
    plan = planned(case)
    assert plan.back.keys() <= {one.id for one in case.stock}
    able = [one for one in case.stock if pools.may_be_handed_out(one, "now", OUT, NOW)]
    lost = [one for one in able if one.id in plan.back]
    assert not lost or len(able) - len(lost) >= case.pool.ready


@given(cases())
def test_what_is_planned_is_enough(case: Case) -> None:
    """Once it is done nothing more goes, and nothing more is asked for, as far as there is room."""
    plan = planned(case)
    stays = [one for one in case.stock if one.id not in plan.back]
    assert not planned(case, stays).back
    after = [*stays, *(kept(f"new-{number}", E.REQUESTED) for number in range(planned(case, stays).ask))]
    assert planned(case, after).ask == 0
    missing = case.pool.ready - len(after)
    assert missing <= 0 or len(after) + case.handed_out >= case.pool.most


@given(stocks())
def test_without_a_template_everything_goes(stock: Sequence[Environment]) -> None:
    plan = pools.plan(pool(), "", stock, 0, (), OUT, NOW)
    assert (plan.ask, set(plan.back)) == (0, {one.id for one in stock})


@given(stocks())
def test_what_may_be_handed_out_is_well_young_of_now_and_on_a_good_machine(stock: Sequence[Environment]) -> None:
    for one in stock:
        assert one.warm is not None
        good = one.warm.made_of == "now" and one.nodes[0].machine not in OUT
        well = one.warm.checked_at > 0 and one.warm.silent == 0
        expected = one.state is E.READY and good and well and one.ends_at > NOW
        assert pools.may_be_handed_out(one, "now", OUT, NOW) is expected


def test_what_is_told_to_go_is_not_handed_out() -> None:
    told = replace(kept(), notice=Notice(NOW, "env-9", "needs its room"))
    assert not pools.may_be_handed_out(told, "now", OUT, NOW)


def test_a_claim_makes_it_somebodys_until_it_is_confirmed_or_given_up() -> None:
    claimed = pools.claim(kept(), CONTRACT, "", "", NOW - 1, NOW)
    assert (claimed.state, claimed.unclaimed, claimed.ends_at) == (E.LEASED, False, NOW + 7200)
    assert pools.is_unconfirmed(claimed)
    with pytest.raises(InvalidTransition):
        pools.claim(claimed, CONTRACT, "", "", NOW, NOW)
    confirmed = pools.confirm(claimed, NOW + 1)
    assert not pools.is_unconfirmed(confirmed)
    assert confirmed.contract is not None
    assert (confirmed.contract.ready_at, pools.waited(confirmed)) == (NOW + 1, 2.0)
    given_up = pools.give_up(claimed, "no route", NOW)
    assert (given_up.contract, given_up.unclaimed, given_up.ends_at) == (None, False, NOW)


def test_with_a_run_it_is_ready_when_that_is_over() -> None:
    confirmed = pools.confirm(pools.claim(kept(), CONTRACT, "run-1", "", NOW, NOW), NOW)
    assert confirmed.contract is not None
    assert confirmed.contract.ready_at == 0


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        (kept(), {POOLED, pool_index("ready", "pairs")}),
        (kept(checked_at=0.0), {POOLED}),
        (kept(silent=1), {POOLED}),
        (kept(state=E.BUILDING), {POOLED}),
        (replace(kept(state=E.DESTROYING), fault="broken"), {pool_index("failed", "pairs")}),
        (kept(state=E.DESTROYING), set()),
        (pools.claim(kept(), CONTRACT, "", "", NOW, NOW), {pool_index("out", "pairs"), UNCONFIRMED}),
        (
            pools.confirm(pools.claim(kept(), CONTRACT, "", "", NOW, NOW), NOW),
            {pool_index("out", "pairs"), pool_index("hits", "pairs")},
        ),
        (replace(kept(), warm=None, contract=replace(CONTRACT, pool="pairs")), {pool_index("misses", "pairs")}),
    ],
)
def test_where_it_is_found(environment: Environment, expected: set[str]) -> None:
    names = ENVIRONMENTS.put("env-1", environment, 0).indexes
    assert {name for name in names if ":pool" in name or name == UNCONFIRMED} == expected


def test_pauses_after_failures_grow_and_end() -> None:
    pauses = [pools.pause_until([NOW] * number) - NOW for number in range(1, 12)]
    assert pauses[:3] == [BACK_OFF_S, 2 * BACK_OFF_S, 4 * BACK_OFF_S]
    assert pauses[-1] == MOST_OFF_S
    assert planned(Case(pool(), [], 0), failures=[NOW - 1]).ask == 0
    assert planned(Case(pool(), [], 0), failures=[NOW - BACK_OFF_S]).ask == 2


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"name": "No"}, "name 'No'"),
        ({"ready": -1}, "ready: -1"),
        ({"ready": 6}, "max: 5; say at least what is kept ready"),
        ({"most": 501}, "max: 501"),
        ({"max_age_s": 1.0}, "max_age: 1s; say at least 1m"),
    ],
)
def test_what_cannot_be_meant(changes: dict[str, object], told: str) -> None:
    with pytest.raises(UserError, match=told):
        pools.checked(replace(pool(), **changes))  # type: ignore[arg-type]  # some of its fields


def promised(environment: Environment, qos_class: QosClass) -> Environment:
    profile = QosProfile(qos_class=qos_class)
    return environment.with_nodes(replace(node, qos=profile) for node in environment.nodes)


def test_what_nobody_uses_goes_for_everybody_who_does() -> None:
    idle = preemption.candidate(promised(kept(), QosClass.GUARANTEED))
    assert idle is not None
    assert idle.idle
    person = replace(kept("env-2", E.REQUESTED), warm=None, priority=Priority.INTERACTIVE)
    assert preemption.may_take(person, idle)
    assert preemption.may_take(replace(person, priority=Priority.NIGHTLY), idle)
    assert not preemption.may_take(
        promised(kept("env-3", E.REQUESTED), QosClass.GUARANTEED), idle
    )  # a pool takes nobody's place
    mine = pools.claim(promised(kept(), QosClass.GUARANTEED), CONTRACT, "", "", NOW, NOW)
    assert preemption.candidate(mine) is None
    cheap = pools.claim(promised(kept(), QosClass.BEST_EFFORT), CONTRACT, "", "", NOW, NOW)
    may_go = preemption.candidate(cheap)
    assert may_go is not None
    assert not may_go.idle
    assert not preemption.may_take(person, may_go)
