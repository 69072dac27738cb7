"""What becomes of pull requests, whatever is told of them in whichever order."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.domain import pulls
from pipeline.domain.pulls import Given, Leaving, Moment, Pull, Pushed, Shown, Wanted

NEW = pulls.new("shop", 12, "pr-12", Moment(0.0), "mark")
#: What may happen at a forge: a push of a commit, or a close.
HAPPENINGS = st.lists(st.sampled_from(["push", "close"]), min_size=1, max_size=8)


def pushed(sha: str, at: float, received_at: float = 0.0) -> Pushed:
    return Pushed(
        Moment(at, received_at=received_at), sha, "github", "https://h/a/b", "a/b", "https://h/a/b/12", "t", None
    )


def tell(pull: Pull, happened: tuple[int, str], now: float) -> Pull:
    at, what = happened
    if what == "close":
        return pulls.closed(pull, Moment(float(at), closing=True, received_at=now), now)
    return pulls.pushed(pull, pushed(f"{at:040x}", float(at), now), now)


def ends(pull: Pull) -> tuple[bool, str]:
    """What it comes to in the end."""
    return pull.open, pull.newest


@given(HAPPENINGS, st.randoms(use_true_random=False), st.integers(0, 3))
def test_in_whichever_order_and_however_often_it_is_told_it_comes_to_the_same(
    happenings: list[str], dice: random.Random, again: int
) -> None:
    happened = list(enumerate(happenings, 1))
    in_order = NEW
    for one in happened:
        in_order = tell(in_order, one, 1.0)
    told = [*happened, *(dice.choice(happened) for _ in range(again))]
    dice.shuffle(told)
    pull = NEW
    for now, one in enumerate(told, 1):
        pull = tell(pull, one, float(now))
    assert ends(pull) == ends(in_order)
    last, what = happened[-1]
    assert ends(pull) == ((False, "") if what == "close" else (True, f"{last:040x}"))


@given(HAPPENINGS, st.randoms(use_true_random=False))
def test_every_environment_serves_comes_or_leaves(happenings: list[str], dice: random.Random) -> None:
    """No environment that was asked for is ever forgotten, and never do two serve."""
    pull, asked, gone = NEW, set(), set()
    told = list(enumerate(happenings, 1))
    dice.shuffle(told)
    for now, one in enumerate(told, 1):
        before = pull.wanted
        pull = tell(pull, one, float(now))
        for wanted in {before, pull.wanted} - {None}:
            if wanted is not None and dice.random() < 0.7:  # also one that a newer commit replaced meanwhile
                asked.add(f"env-{wanted.number}")
                pull = pulls.begin(pull, wanted.number, f"env-{wanted.number}", float(now))
        pull = dice.choice([pull, pulls.take_over(pull, float(now)), pulls.failed(pull, "why", float(now))])
        if pull.leaving and dice.random() < 0.5:
            gone.add(pull.leaving[0].environment)
            pull = pulls.left(pull, pull.leaving[0].environment)
        known = [one.environment for one in (pull.coming, pull.serving, *pull.leaving) if one is not None]
        assert set(known) | gone == asked
        assert len(known) == len(set(known))
        if not pull.open:
            assert (pull.wanted, pull.coming, pull.serving) == (None, None, None)


def test_in_the_same_second_a_close_is_last() -> None:
    open_ = pulls.pushed(NEW, pushed("a" * 40, 5.0), 1.0)
    closed = pulls.closed(open_, Moment(5.0, closing=True), 2.0)
    assert not closed.open
    assert pulls.pushed(closed, pushed("b" * 40, 5.0, received_at=9.0), 3.0) is closed


SERVES = replace(NEW, open=True, serving=Given("env-1", "a" * 40), last_number=1)


def test_a_newer_commit_leaves_what_serves_alone_until_its_own_is_ready() -> None:
    asked = pulls.pushed(SERVES, pushed("b" * 40, 5.0), 5.0)
    assert (asked.serving, asked.wanted, asked.leaving) == (SERVES.serving, Wanted(2, "b" * 40), ())
    coming = pulls.begin(asked, 2, "env-2", 6.0)
    assert (coming.serving, coming.coming, coming.wanted) == (SERVES.serving, Given("env-2", "b" * 40), None)
    serves = pulls.take_over(coming, 7.0)
    assert (serves.serving, serves.coming) == (Given("env-2", "b" * 40), None)
    (old,) = serves.leaving
    assert (old.environment, old.drains) == ("env-1", True)


def test_one_that_comes_late_for_its_wish_leaves() -> None:
    asked = pulls.pushed(SERVES, pushed("b" * 40, 5.0), 5.0)
    late = pulls.begin(asked, 1, "env-0", 6.0)
    assert late.wanted == asked.wanted
    assert late.leaving == (Leaving("env-0", 6.0, "a newer commit was pushed meanwhile"),)
    assert pulls.begin(late, 1, "env-0", 7.0) is late


@pytest.mark.parametrize(
    ("repository", "same"),
    [
        ("https://forge.test/acme/shop.git", True),
        ("https://forge.test/acme/shop", True),
        ("git@forge.test:acme/shop.git", True),
        ("ssh://git@Forge.test:2222/acme/shop", True),
        ("https://forge.test/acme/shop-2", False),
        ("https://other.test/acme/shop", False),
        ("/srv/git/shop.git", False),
    ],
)
def test_names_of_other_repositories_are_others(repository: str, same: bool) -> None:
    name = pulls.name_of(12, repository, "https://forge.test/acme/shop")
    assert (name == "pr-12") is same
    assert name == pulls.name_of(12, repository, "https://forge.test/acme/shop")
    assert name.startswith("pr-12")


SHOWN = Shown("http://shop-pr-12.test", "2h")
REMARKED = replace(SERVES, remark=replace(SERVES.remark, id="1"))


@pytest.mark.parametrize(
    ("pull", "text"),
    [
        (NEW, ""),
        (replace(NEW, open=True, wanted=Wanted(1, "b" * 40)), ""),
        (SERVES, "Environment of aaaaaaaaaaaa: http://shop-pr-12.test"),
        (replace(SERVES, coming=Given("env-2", "b" * 40)), "of bbbbbbbbbbbb is being prepared, and takes its place"),
        (pulls.refuse(replace(SERVES, wanted=Wanted(2, "b" * 40)), 2, "no `rm` room"), "no environment: no 'rm' room`"),
        (replace(REMARKED, serving=None), "It has no environment now."),
        (replace(REMARKED, open=False), "The pull request was closed, and its environment with it."),
        (replace(NEW, open=False), ""),
    ],
)
def test_the_comment(pull: Pull, text: str) -> None:
    said = pulls.comment(pull, SHOWN)
    assert text in said
    assert bool(text) == bool(said)


def test_what_others_say_stands_in_one_short_line() -> None:
    refused = pulls.refuse(replace(SERVES, wanted=Wanted(2, "b" * 40)), 2, "`x`\n@everyone " * 100)
    (line,) = [line for line in pulls.comment(refused, SHOWN).splitlines() if "no environment" in line]
    assert line == "`bbbbbbbbbbbb has no environment: 'x'`"
