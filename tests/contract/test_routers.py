"""The port of routers, kept by the memory twin."""

from __future__ import annotations

import pytest

from pipeline.adapters.routers.memory import MemoryRouter
from pipeline.domain.errors import TransientError
from pipeline.ports.routers import Router


@pytest.fixture
def subject() -> MemoryRouter:
    return MemoryRouter("front")


def test_it_names_what_it_sends_traffic_to(subject: MemoryRouter) -> None:
    router: Router = subject
    assert (router.name, set(router.serving())) == ("front", set())
    subject.live.add("env-1")
    assert set(router.serving()) == {"env-1"}
    subject.live.discard("env-1")
    assert set(router.serving()) == set()


def test_one_that_cannot_be_asked_says_so(subject: MemoryRouter) -> None:
    subject.down = True
    with pytest.raises(TransientError, match="front"):
        subject.serving()
