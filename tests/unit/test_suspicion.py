"""Who is at fault for builds that failed: by example, and in histories at random."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.domain.suspicion import (
    FAILURES,
    MOST,
    SHARE,
    WINDOW_S,
    Build,
    History,
    Judgement,
    forgive,
    judge,
    may_quarantine,
    remember,
    sentence,
)

BROKEN = "no bootable device"


def history(*told: str) -> History:
    """Builds, one a second: `MACHINE SERVICE IMAGE`, with ` !` behind it for one that failed; zones by first letter."""
    builds = []
    for at, line in enumerate(told):
        machine, service, image, *fault = line.split()
        builds.append(Build(machine, machine[0], image, service, float(at), BROKEN if fault else ""))
    return History(tuple(builds))


GOOD = ("a1 shop deb", "a2 shop deb", "b1 shop deb", "b2 shop deb")


@pytest.mark.parametrize(
    ("told", "machines", "images", "services", "provider"),
    [
        (GOOD, [], [], [], False),
        ((*GOOD, "a1 shop deb !", "a1 shop deb !"), [], [], [], False),
        ((*GOOD, "a1 shop deb !", "a1 shop deb !", "a1 shop deb !"), ["a1"], [], [], False),
        ((*GOOD, "a1 shop deb !", "a1 shop deb !", "a1 shop deb", "a1 shop deb !"), [], [], [], False),
        # nothing of it was ever built: it may as well be the service
        ((*GOOD, "a1 new deb !", "a1 new deb !", "a1 new deb !"), [], [], [], False),
        # two that were never built: it is the machine
        ((*GOOD, "a1 new deb !", "a1 other deb !", "a1 new deb !"), ["a1"], [], [], False),
        # others are built where it failed, after that
        ((*GOOD, "a1 new deb !", "a1 new deb !", "a1 shop deb", "a1 new deb !"), [], [], ["new"], False),
        ((*GOOD, "a1 new deb !", "a1 new deb !", "a1 new deb !", "a1 shop deb"), [], [], ["new"], False),
        # it fails on three machines where others succeed
        ((*GOOD, "a1 new deb !", "a2 new deb !", "b1 new deb !"), [], [], ["new"], False),
        ((*GOOD, "a1 x arch !", "a2 y arch !", "b1 z arch !"), [], ["arch"], [], False),
        # it was good once, and is not any more; its faults count against nobody
        ((*GOOD, "a1 x arch", "a1 x arch !", "a2 x arch !", "b1 x arch !", "a1 x arch !"), [], ["arch"], ["x"], False),
        # nothing succeeds, or nothing does any more
        (("a1 shop deb !", "a2 shop deb !", "b1 new arch !"), [], [], [], True),
        ((*GOOD, "a1 shop deb !", "a2 new arch !", "b1 shop deb !"), [], [], [], True),
        ((*GOOD, *(f"{m} shop deb !" for m in ("a1", "a2", "b1", "b2", "a1", "a2"))), [], [], [], True),
    ],
)
def test_who_is_at_fault(
    told: tuple[str, ...], machines: list[str], images: list[str], services: list[str], provider: bool
) -> None:
    judgement = judge(history(*told), float(len(told)))
    assert [list(one) for one in (judgement.machines, judgement.images, judgement.services)] == [
        machines,
        images,
        services,
    ]
    assert bool(judgement.provider) == provider


def test_a_zone_is_suspect_when_several_of_its_machines_fail_while_others_succeed() -> None:
    told = (*GOOD, "a1 shop deb !", "b1 shop deb", "a2 shop deb !", "b1 shop deb", "a3 shop deb !")
    judgement = judge(history(*told), 10.0)
    assert judgement.zones == {"a": f"zone a: 3 of its last 3 builds failed, on 3 machines: {BROKEN}"}
    assert judge(history(*told[:-1]), 10.0).zones == {}
    assert judge(history(*told, "a4 shop deb"), 10.0).zones == {}


def test_the_words_say_what_was_seen() -> None:
    judgement = judge(history(*GOOD, "a1 shop deb !", "a1 shop deb !", "a1 shop deb !"), 10.0)
    assert judgement.machines == {"a1": f"3 of its last 3 builds failed: {BROKEN}"}
    poisoned = judge(history(*GOOD, "a1 new deb !", "a2 new deb !", "b1 new deb !"), 10.0)
    assert poisoned.poison("deb", "new") == (
        "service new is at fault: its last 3 builds failed, on 3 machines where others succeed"
    )
    assert poisoned.poison("deb", "shop") == ""


def test_what_is_old_does_not_count() -> None:
    old = history(*GOOD, "a1 shop deb !", "a1 shop deb !", "a1 shop deb !")
    assert judge(old, WINDOW_S + 5.5) == Judgement()
    assert remember(old, [], WINDOW_S + 100.0) == History()


def test_of_several_successes_the_last_is_kept_and_faults_are_forgiven() -> None:
    builds = remember(history("a1 shop deb", "a1 shop deb !"), [Build("a1", "a", "deb", "shop", 5.0)], 5.0)
    assert [one.at for one in builds.builds] == [1.0, 5.0]
    assert forgive(builds, {"a1"}).builds == builds.builds[1:]


BUILDS = st.lists(
    st.builds(
        Build,
        machine=st.sampled_from(["a1", "a2", "a3", "b1", "b2"]),
        zone=st.just(""),
        image=st.sampled_from(["deb", "arch"]),
        service=st.sampled_from(["shop", "news", "pay"]),
        at=st.floats(0.0, 100.0),
        fault=st.sampled_from(["", BROKEN]),
    ),
    max_size=40,
).map(lambda builds: [Build(b.machine, b.machine[0], b.image, b.service, b.at, b.fault) for b in builds])


@given(BUILDS)
def test_only_what_failed_so_often_in_a_row_is_suspect(builds: list[Build]) -> None:
    judgement = judge(History(tuple(builds)), 100.0)
    in_order = sorted(builds, key=lambda one: one.at)
    for name in judgement.machines:
        clean = [one for one in in_order if one.machine == name and not judgement.poison(one.image, one.service)]
        assert all(one.fault for one in clean[-FAILURES:])
        assert len(clean) >= FAILURES
    if judgement.provider:
        assert not judgement.machines
        assert not judgement.zones


@given(BUILDS, st.integers(0, 3), st.sets(st.sampled_from(["a1", "b1"])))
def test_never_more_than_the_share_goes_and_never_the_only_machine(
    builds: list[Build], out: int, probation: set[str]
) -> None:
    standing = {"a1": "a", "a2": "a", "a3": "a", "b1": "b", "b2": "b"}
    judged = sentence(judge(History(tuple(builds)), 100.0), builds, standing, probation, out)
    whole = len(standing) + out
    assert len(judged.machines) <= max(0, max(1, whole // SHARE) - out)
    assert judged.machines.keys() <= standing.keys()
    alone = sentence(judge(History(tuple(builds)), 100.0), builds, {"a1": "a"}, probation, 0)
    assert alone.machines == {}


@given(st.lists(st.tuples(st.sampled_from(["a1", "a2", "b1", "b2", "c1"]), st.booleans()), max_size=60))
def test_a_poisoned_image_takes_no_machine_with_it(order: list[tuple[str, bool]]) -> None:
    """All else succeeds everywhere; whenever it is judged, no machine is suspect."""
    builds: list[Build] = []
    for at, (machine, bad) in enumerate(order):
        image, service = ("arch", "news") if bad else ("deb", "shop")
        builds.append(Build(machine, machine[0], image, service, float(at), BROKEN if bad else ""))
        judgement = judge(History(tuple(builds)), float(at))
        assert not judgement.machines
        assert not judgement.zones


@given(st.lists(st.tuples(st.sampled_from(["a1", "a2", "b1", "b2"]), st.sampled_from(["shop", "news"])), max_size=80))
def test_a_bad_machine_is_found_and_nothing_else(order: list[tuple[str, str]]) -> None:
    start = [Build(name, name[0], "deb", service, 0.0) for name in ("a2", "b1", "b2") for service in ("shop", "news")]
    told = [
        Build(machine, machine[0], "deb", service, float(at), BROKEN if machine == "a1" else "")
        for at, (machine, service) in enumerate(order, start=1)
    ]
    judgement = judge(History((*start, *told)), float(len(told)))
    failed = sum(1 for one in told if one.fault)
    assert set(judgement.machines) == ({"a1"} if failed >= FAILURES else set())
    assert not judgement.images
    assert not judgement.services


@given(BUILDS)
def test_what_is_remembered_is_bounded(builds: list[Build]) -> None:
    kept = History()
    for build in builds * 20:
        kept = remember(kept, [build], 100.0)
    assert len(kept.builds) <= MOST


@pytest.mark.parametrize(
    ("machines", "out", "more"), [(1, 0, 0), (2, 0, 1), (2, 1, 0), (3, 0, 1), (9, 0, 3), (9, 2, 1), (9, 5, 0)]
)
def test_how_many_may_go(machines: int, out: int, more: int) -> None:
    assert may_quarantine(machines, out) == more


def test_a_zone_goes_as_a_whole_or_not_at_all_and_what_is_spared_is_named() -> None:
    judgement = Judgement(zones={"a": "zone a fails"}, machines={"a1": "3 of its last 3", "a2": "3 of its last 3"})
    failed = [Build(name, "a", "deb", "shop", 1.0, BROKEN) for name in ("a1", "a2")]
    small = {"a1": "a", "a2": "a", "b1": "b"}
    large = {**small, "b2": "b", "b3": "b", "b4": "b"}
    assert sentence(judgement, failed, large).machines == {"a1": "zone a fails", "a2": "zone a fails"}
    one = sentence(judgement, failed, small)
    assert one.machines == {"a1": "3 of its last 3"}
    assert one.spared == "a2: suspect, but 0 of 3 machines are quarantined already"


def test_on_probation_one_fault_is_enough_but_not_that_of_poison() -> None:
    failed = [Build("a1", "a", "deb", "shop", 1.0, BROKEN)]
    standing = {"a1": "a", "b1": "b", "b2": "b"}
    told = {"a1": f"a build failed while it was on probation: {BROKEN}"}
    assert sentence(Judgement(), failed, standing, {"a1"}).machines == told
    assert sentence(Judgement(images={"deb": "poisoned"}), failed, standing, {"a1"}).machines == {}
    assert sentence(Judgement(provider="down"), failed, standing, {"a1"}).machines == {}
