"""What became of a trigger between its delivery and its run."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from pipeline.domain.blueprint import Priority
from pipeline.domain.triggers import Trigger


class TriggerState(StrEnum):
    """`received`: stored, and its greenroom.yml not read yet."""

    RECEIVED = "received"
    PLANNED = "planned"
    IGNORED = "ignored"


@dataclass(frozen=True)
class TriggerRecord:
    """One trigger that was taken. `due_at`: when to plan it (again), epoch seconds; `reason`: why it was ignored.

    `handed`: how often the tick asked for its plan since it was last put off; each time its worker was lost.
    `priority`: who asked for it says who goes first; None: its kind does.
    """

    id: str
    project: str
    trigger: Trigger
    delivery_id: str
    received_at: float
    state: TriggerState = TriggerState.RECEIVED
    reason: str = ""
    run_id: str = ""
    tries: int = 0
    handed: int = 0
    due_at: float = 0.0
    priority: Priority | None = None
