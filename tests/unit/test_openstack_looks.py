"""Whoever waits for servers shares the lists of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from pipeline.adapters.drivers.openstack.looks import LOOK_S, Looks


class Listed:
    """Answers with the number of the list, and keeps when each was asked for."""

    def __init__(self) -> None:
        self.asked: list[float] = []

    def __call__(self) -> Sequence[int]:
        self.asked.append(time.monotonic())
        return [len(self.asked)]


def test_those_who_wait_at_a_time_share_one_list() -> None:
    list_, ready = Listed(), threading.Barrier(8)
    looks = Looks(list_)
    looks.after(time.monotonic())

    def wait(_: int) -> Sequence[int]:
        moment = time.monotonic()
        ready.wait()
        return looks.after(moment)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(wait, range(8))) == [[2]] * 8
    assert list_.asked[1] - list_.asked[0] >= LOOK_S


def test_a_list_is_never_older_than_what_is_waited_for() -> None:
    list_ = Listed()
    looks, before = Looks(list_), time.monotonic()
    looks.after(before)
    moment = time.monotonic()
    assert looks.after(before) == [1]
    assert looks.after(moment) == [2]
    assert list_.asked[1] > moment
