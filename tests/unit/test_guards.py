"""Every guard refuses what it should, and only that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.adapters.clock import ManualClock
from pipeline.adapters.routers.memory import MemoryRouter
from pipeline.adapters.stores.memory import MemoryStore
from pipeline.domain.blueprint import Priority
from pipeline.domain.environments import Environment, EnvironmentState, Node, NodeState
from pipeline.domain.errors import GuardRefused, UserError
from pipeline.domain.guards import GUARDS, Act, Allowed, Facts, Refused, judge, table
from pipeline.domain.resizing import HEALTHY
from pipeline.domain.resources import SIZES
from pipeline.envs.books import Books
from pipeline.envs.gate import AUDIT, TICK, Asking, Budget, Gate, last_healthy

ASKING = Asking("me", "too many")
OF_CLOUD = Facts(TICK, provider="cloud")
BY_ITSELF = Asking(TICK, "its time ended", again=True)
ROOT = Path(__file__).resolve().parents[2]
#: For each guard, facts that it alone refuses.
BAD = {
    "ownership": Facts("me", marked=False),
    "known": Facts("me", known=False, sightings=1),
    "traffic": Facts("me", in_traffic="router front"),
    "last-node": Facts("me", last_of="web"),
    "protected": Facts("me", owner="you", protected="the demo of Monday"),
    "held": Facts("me", held_until=10.0, now=5.0),
    "budget": Facts("me", spent=3, budget=3),
    "in-use": Facts("me", used_by=("env-1/web-0",)),
    "out-of-service": Facts("me", in_service=True),
    "healthy": Facts("me", unwell="1 of its 2 nodes does not answer"),
    "dead": Facts("me", agent_up=True),
}


def test_each_guard_is_tried() -> None:
    assert list(BAD) == [guard.name for guard in GUARDS]


@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: guard.name)
@pytest.mark.parametrize("act", list(Act))
def test_a_guard_refuses_its_acts_and_no_other(guard: object, act: Act) -> None:
    known = next(one for one in GUARDS if one is guard)
    answer = judge(act, BAD[known.name])
    if act in known.acts:
        assert isinstance(answer, Refused)
        assert (answer.guard, answer.remedy) == (known.name, known.remedy)
        assert answer.why
    else:
        assert answer == Allowed({})


@pytest.mark.parametrize("act", list(Act))
def test_nothing_refuses_when_all_is_well(act: Act) -> None:
    assert judge(act, Facts("me")) == Allowed({})


@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: guard.name)
def test_an_override_with_a_reason_passes_that_guard_unless_it_is_firm(guard: object) -> None:
    known = next(one for one in GUARDS if one is guard)
    act = min(known.acts)
    assert isinstance(judge(act, BAD[known.name], {known.name: "  "}), Refused)
    answer = judge(act, BAD[known.name], {known.name: "it burns"})
    assert isinstance(answer, Refused) if known.firm else answer == Allowed({known.name: "it burns"})


@dataclass(frozen=True)
class Rule:
    """A guard once more, said independently of the table."""

    acts: str
    refuses: Callable[[Facts], bool]
    firm: bool = False
    passing: bool = False


#: In the order in which they are asked.
RULES = {
    "ownership": Rule("destroy rebuild scale-in preempt reap delete-object set-up", lambda f: not f.marked, firm=True),
    "known": Rule("reap delete-object", lambda f: not f.known and f.sightings < 2, firm=True, passing=True),
    "traffic": Rule("destroy rebuild scale-in preempt reap move", lambda f: f.in_traffic != "", passing=True),
    "last-node": Rule("rebuild scale-in move", lambda f: f.last_of != ""),
    "protected": Rule("destroy rebuild scale-in preempt reap", lambda f: f.protected != "" and f.owner != f.who),
    "held": Rule(
        "destroy rebuild scale-in preempt reap", lambda f: not f.given_back and f.now < f.held_until, passing=True
    ),
    "budget": Rule(
        "reap preempt rebuild delete-object destroy",
        lambda f: f.budget is not None and f.budget <= f.spent,
        passing=True,
    ),
    "in-use": Rule("delete-object restart-agent take-out", lambda f: len(f.used_by) > 0, passing=True),
    "out-of-service": Rule("restart-agent", lambda f: f.in_service),
    "healthy": Rule("switch", lambda f: f.unwell != "", passing=True),
    "dead": Rule("evacuate", lambda f: f.agent_up, passing=True),
}
NAMES = st.sampled_from(["me", "you", ""])
FACTS = st.builds(
    Facts,
    who=st.sampled_from(["me", "you"]),
    owner=NAMES,
    provider=NAMES,
    marked=st.booleans(),
    known=st.booleans(),
    sightings=st.integers(0, 3),
    in_traffic=NAMES,
    last_of=NAMES,
    protected=NAMES,
    held_until=st.floats(0, 20),
    given_back=st.booleans(),
    used_by=st.lists(st.text("ab", min_size=1, max_size=2), max_size=7),
    spent=st.integers(0, 4),
    budget=st.none() | st.integers(0, 4),
    in_service=st.booleans(),
    unwell=st.sampled_from(["", "1 of its 2 nodes does not answer"]),
    agent_up=st.booleans(),
    now=st.floats(0, 20),
)
OVERRIDES = st.dictionaries(st.sampled_from(list(RULES)), st.sampled_from(["", "  ", "it burns", "a drill"]))


def test_the_rules_are_the_table() -> None:
    told = {guard.name: (set(guard.acts), guard.firm, guard.passing) for guard in GUARDS}
    assert list(told) == list(RULES)
    assert told == {name: (set(rule.acts.split()), rule.firm, rule.passing) for name, rule in RULES.items()}


@given(FACTS)
def test_a_guard_refuses_what_its_rule_says_and_only_that(facts: Facts) -> None:
    for guard in GUARDS:
        assert bool(guard.check(facts)) == RULES[guard.name].refuses(facts), guard.name


@given(st.sampled_from(list(Act)), FACTS, OVERRIDES)
def test_the_judgement_follows_from_the_rules(act: Act, facts: Facts, overrides: dict[str, str]) -> None:
    refusing = [name for name, rule in RULES.items() if act in rule.acts.split() and rule.refuses(facts)]
    passed = [name for name in refusing if overrides.get(name, "").strip() and not RULES[name].firm]
    left = [name for name in refusing if name not in passed]
    answer = judge(act, facts, overrides)
    if left:
        assert isinstance(answer, Refused)
        assert (answer.guard, answer.passing) == (left[0], RULES[left[0]].passing)
        assert answer.why
    else:
        assert answer == Allowed({name: overrides[name] for name in passed})


@given(st.sampled_from(list(Act)), FACTS, st.sampled_from(list(RULES)))
def test_an_override_counts_for_its_own_guard_alone(act: Act, facts: Facts, name: str) -> None:
    before, after = judge(act, facts), judge(act, facts, {name: "it burns"})
    if isinstance(before, Allowed):
        assert after == Allowed({})
    elif before.guard != name or RULES[name].firm:
        assert after == before
    else:
        assert after != before


STATES = st.sampled_from(
    [NodeState.IN_SERVICE, NodeState.REACHABLE, NodeState.LOST, NodeState.DRAINING, NodeState.GONE]
)
ROLES = st.lists(st.tuples(st.sampled_from(["web", "db"]), STATES), max_size=6)


@given(ROLES, st.integers(0, 6))
def test_the_last_healthy_node_of_a_role_is_known(roles: list[tuple[str, NodeState]], at: int) -> None:
    environment = standing(*roles)
    healthy = [(number, role) for number, (role, state) in enumerate(roles) if state in HEALTHY]
    able = [role for number, (role, state) in enumerate(roles) if number == at and state in {*HEALTHY, "draining"}]
    others = {role for number, role in healthy if number != at}
    assert last_healthy(environment, f"node-{at}") == (able[0] if able and able[0] not in others else "")


def standing(*roles: tuple[str, NodeState]) -> Environment:
    nodes = [
        Node(f"node-{at}", role, "debian-12", SIZES["small"], state=state) for at, (role, state) in enumerate(roles)
    ]
    return Environment(
        "env-1", "shop", "shop", "run-1", "cloud", EnvironmentState.LEASED, tuple(nodes), Priority.PUSH, 0.0, 0.0, 99.0
    )


def test_acts_on_single_nodes_spare_the_last_one() -> None:
    gate = Gate(Books(MemoryStore(ManualClock())), ManualClock())
    two = standing(("web", NodeState.IN_SERVICE), ("web", NodeState.LOST), ("db", NodeState.IN_SERVICE))
    for act in (Act.SCALE_IN, Act.REBUILD):
        gate.pass_(act, "env-1/node-1", gate.facts_of_node(two, "node-1", ASKING), ASKING)
        with pytest.raises(GuardRefused, match="it is the last healthy node of role web; add a node"):
            gate.pass_(act, "env-1/node-0", gate.facts_of_node(two, "node-0", ASKING), ASKING)


def test_traffic_is_a_fact_of_the_routers() -> None:
    router = MemoryRouter("front", {"env-1"})
    gate = Gate(Books(MemoryStore(ManualClock())), ManualClock(), routers=(MemoryRouter("back"), router))
    assert gate.facts_of(standing(), ASKING).in_traffic == "router front"
    router.live.clear()
    assert gate.facts_of(standing(), ASKING).in_traffic == ""
    router.down = True
    assert gate.facts_of(standing(), ASKING).in_traffic.startswith("perhaps router front, which cannot be asked")


def test_the_owner_may_end_what_is_protected() -> None:
    assert judge(Act.DESTROY, Facts("you", owner="you", protected="mine")) == Allowed({})


def test_the_page_of_the_documents_is_the_table() -> None:
    assert table() in (ROOT / "docs/guards.md").read_text()


def test_what_passes_and_what_is_refused_is_told() -> None:
    books = Books(MemoryStore(ManualClock()))
    gate = Gate(books, ManualClock())
    gate.pass_(Act.TAKE_OUT, "machine m1", Facts("me"), Asking("me", "new disk"))
    with pytest.raises(GuardRefused, match="take-out of machine m2: it is in use by env-1/web-0; remove or move"):
        gate.pass_(Act.TAKE_OUT, "machine m2", BAD["in-use"], Asking("me", "new disk"))
    passed, refused = books.store.events(AUDIT)
    assert (passed.type, passed.data["target"], passed.data["why"]) == ("audit.take-out", "machine m1", "new disk")
    assert (refused.data["refused"], refused.data["because"]) == ("in-use", "it is in use by env-1/web-0")


def test_an_override_of_a_guard_that_does_not_exist_is_a_mistake() -> None:
    gate = Gate(Books(MemoryStore(ManualClock())), ManualClock())
    with pytest.raises(UserError, match="there is no guard gard; there are: ownership"):
        gate.pass_(Act.TAKE_OUT, "machine m1", Facts("me"), Asking("me", "x", {"gard": "y"}))


@pytest.mark.parametrize("act", [Act.REAP, Act.PREEMPT, Act.DELETE_OBJECT, Act.DESTROY])
def test_a_budget_is_spent_and_comes_back(act: Act) -> None:
    clock = ManualClock()
    gate = Gate(Books(MemoryStore(clock)), clock, {"cloud": Budget(acts=2, interval_s=30)})
    for number in range(2):
        gate.pass_(act, f"env-{number}", OF_CLOUD, BY_ITSELF)
    assert (gate.spent("cloud"), gate.left("cloud")) == (2, 0)
    with pytest.raises(GuardRefused, match="2 of 2 such acts of this interval are done") as refused:
        gate.pass_(act, "env-3", OF_CLOUD, BY_ITSELF)
    assert refused.value.passing
    gate.pass_(act, "env-3", replace(OF_CLOUD, provider="other"), BY_ITSELF)
    clock.sleep(31)
    gate.pass_(act, "env-3", OF_CLOUD, BY_ITSELF)
    assert gate.spent("cloud") == 1


def test_a_dry_run_spends_nothing_and_an_override_of_the_budget_still_counts() -> None:
    clock = ManualClock()
    gate = Gate(Books(MemoryStore(clock)), clock, {"cloud": Budget(acts=1)})
    gate.pass_(Act.REAP, "env-1", OF_CLOUD, replace(BY_ITSELF, dry_run=True))
    assert gate.spent("cloud") == 0
    gate.pass_(Act.REAP, "env-1", OF_CLOUD, BY_ITSELF)
    with pytest.raises(GuardRefused, match="budget"):
        gate.pass_(Act.REAP, "env-2", OF_CLOUD, replace(BY_ITSELF, dry_run=True))
    gate.pass_(Act.REAP, "env-2", OF_CLOUD, replace(BY_ITSELF, overrides={"budget": "the rack is on fire"}))
    assert gate.spent("cloud") == 2


def test_who_asks_again_is_told_of_once_an_interval_and_a_person_each_time() -> None:
    clock = ManualClock()
    books = Books(MemoryStore(clock))
    gate = Gate(books, clock, {"cloud": Budget(acts=0, interval_s=30)})
    used = replace(BAD["in-use"], provider="cloud")

    def refused(act: Act, target: str, facts: Facts, asking: Asking) -> int:
        with pytest.raises(GuardRefused):
            gate.pass_(act, target, facts, asking)
        return len(books.store.events(AUDIT))

    assert [refused(Act.REAP, target, OF_CLOUD, BY_ITSELF) for target in ("env-1", "env-2", "env-1")] == [1, 1, 1]
    assert [refused(Act.TAKE_OUT, target, used, BY_ITSELF) for target in ("m1", "m2", "m1")] == [2, 3, 3]
    assert [refused(Act.TAKE_OUT, "m1", used, Asking("me", "a new disk")) for _ in range(2)] == [4, 5]
    clock.sleep(31)
    assert refused(Act.REAP, "env-1", OF_CLOUD, BY_ITSELF) == 6
