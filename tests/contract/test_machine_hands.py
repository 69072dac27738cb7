"""What all hands on registered machines keep to: the docstrings of `pipeline.ports.machines`, as tests."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

import pytest

from pipeline.domain.errors import InvalidTransition, PermanentError, TransientError
from pipeline.domain.registered import Lease, Registered, Use
from pipeline.ports.machines import MachineHands, Marks
from tests.plugins.local_nodes import LocalNodes
from tests.plugins.registered_machines import OURS, in_memory, posing, registered

GUEST = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHx1YQ0i7JZ4zYp3Vn0m3f0e1bqkO2dU2Jw8bZ0m1n2o guest"
LEASE = Lease(OURS, "env-1", "web-0", 2_000_000_000.0)


@dataclass
class Subject:
    """Hands, a machine that answers, and one that does not; `failing` is a reset that fails with `words`."""

    hands: MachineHands
    machine: Registered
    dead: Registered
    failing: str
    words: str

    def leased(self, turn: int) -> Registered:
        return replace(self.machine, use=Use.LEASED, lease=LEASE, turn=turn)

    def at(self, turn: int) -> Registered:
        return replace(self.machine, use=Use.DIRTY, turn=turn)


@pytest.fixture(params=["memory", pytest.param("ssh", marks=pytest.mark.local)])
def subject(request: pytest.FixtureRequest) -> Subject:
    made: Subject = request.getfixturevalue(f"{request.param}_subject")
    return made


@pytest.fixture
def memory_subject() -> Subject:
    metal = in_memory(0)
    metal.machines.dead["m2"] = "its power is off"
    one = registered("m1")
    metal.machines.host_keys[one.login.address] = one.login.host_key
    return Subject(metal.hands, one, registered("m2"), "stuck", "stuck")


@pytest.fixture
def ssh_subject(local_nodes: LocalNodes) -> Iterator[Subject]:
    with posing(local_nodes, 1) as (metal, (one,)):
        dead = replace(one, name="m2", login=replace(one.login, port=2222))
        yield Subject(metal.hands, one, dead, "echo stuck; exit 3", "stuck")


def test_a_machine_knows_nothing_at_first(subject: Subject) -> None:
    assert subject.hands.look(subject.machine) == Marks()


def test_a_machine_tells_whose_it_is(subject: Subject) -> None:
    subject.hands.hand_over(subject.leased(1), [GUEST])
    subject.hands.hand_over(subject.leased(1), [GUEST])
    assert subject.hands.look(subject.machine) == Marks(OURS, 1, "env-1", "web-0", LEASE.ends_at)
    subject.hands.take_back(subject.at(2))
    subject.hands.take_back(subject.at(2))
    assert subject.hands.look(subject.machine) == Marks(OURS, 2)


def test_a_mark_is_written_anew_and_nobody_is_let_in_or_out(subject: Subject) -> None:
    leased = subject.leased(1)
    subject.hands.hand_over(leased, [GUEST])
    let_in = replace(leased, reset=f"grep -q '{GUEST}' ~/.ssh/authorized_keys")
    subject.hands.reset(let_in)
    later = replace(leased, lease=replace(LEASE, ends_at=LEASE.ends_at + 3600))
    subject.hands.mark(later)
    subject.hands.mark(later)
    assert subject.hands.look(subject.machine) == Marks(OURS, 1, "env-1", "web-0", LEASE.ends_at + 3600)
    subject.hands.reset(let_in)
    subject.hands.take_back(subject.at(2))
    with pytest.raises(InvalidTransition, match="later turn"):
        subject.hands.mark(later)
    assert subject.hands.look(subject.machine) == Marks(OURS, 2)


def test_what_is_late_is_refused(subject: Subject) -> None:
    subject.hands.take_back(subject.at(5))
    with pytest.raises(InvalidTransition, match="later turn"):
        subject.hands.hand_over(subject.leased(4), [GUEST])
    with pytest.raises(InvalidTransition, match="later turn"):
        subject.hands.take_back(subject.at(4))
    assert subject.hands.look(subject.machine) == Marks(OURS, 5)


def test_a_machine_that_is_nobodys_is_handed_to_nobody(subject: Subject) -> None:
    with pytest.raises(InvalidTransition, match="leased to nobody"):
        subject.hands.hand_over(subject.at(1), [GUEST])
    with pytest.raises(InvalidTransition, match="leased to nobody"):
        subject.hands.mark(subject.at(1))


def test_a_machine_that_is_forgotten_may_be_anybodys(subject: Subject) -> None:
    subject.hands.take_back(subject.at(1))
    subject.hands.forget(subject.at(2))
    assert subject.hands.look(subject.machine).owner == ""


def test_a_reset_says_why_it_failed(subject: Subject) -> None:
    subject.hands.reset(replace(subject.machine, reset="true"))
    with pytest.raises(PermanentError, match=subject.words):
        subject.hands.reset(replace(subject.machine, reset=subject.failing))


def test_who_does_not_answer_is_named(subject: Subject) -> None:
    assert subject.hands.greet([subject.machine]) == {}
    missed = subject.hands.greet([subject.machine, subject.dead])
    assert list(missed) == ["m2"]
    assert missed["m2"]
    assert subject.hands.greet([]) == {}


def test_a_dead_machine_may_answer_later(subject: Subject) -> None:
    leased = replace(subject.dead, use=Use.LEASED, lease=LEASE, turn=1)
    hands = subject.hands
    for act in (hands.look, hands.mark, hands.take_back, hands.reset, partial(hands.hand_over, keys=[GUEST])):
        with pytest.raises(TransientError, match="m2"):
            act(leased)


def test_a_host_key_is_shown_as_it_is_believed(subject: Subject) -> None:
    login = subject.machine.login
    assert subject.hands.shown_host_key(login.address, login.port) == login.host_key
    with pytest.raises(TransientError, match="2222"):
        subject.hands.shown_host_key("127.0.0.1", 2222)


def test_the_key_of_the_service_is_one_line(subject: Subject) -> None:
    algorithm, *rest = subject.hands.key().split()
    assert (algorithm, bool(rest), "\n" in subject.hands.key()) == ("ssh-ed25519", True, False)
