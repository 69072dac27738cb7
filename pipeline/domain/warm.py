"""What is noted of an environment that was built for a warm pool: of what it is, how it fares, when it was claimed."""

from __future__ import annotations

from dataclasses import dataclass

#: Seconds between two looks whether the nodes of a ready environment answer, and after a look at which one did not.
CHECK_S = 30.0
AGAIN_S = 5.0
#: So many looks in a row without an answer, and it is taken back.
MOST_SILENT = 2
#: Seconds after which a claim that was not confirmed is finished, or taken back, by whoever finds it.
CLAIM_S = 10.0


@dataclass(frozen=True)
class Warm:
    """Built for `pool`, of what has the fingerprint `made_of`; it is kept ready for `max_age_s`. Times are epoch
    seconds.

    `checked_at`: when its nodes were asked last, 0: never. `silent` counts looks in a row at which one did not answer,
    and `fault` is what was said then.

    `claimed_at`: when it was handed out, to a request that came at `asked_at`; `keyed_at`: when the keys of whoever
    asked were confirmed on every node, and no others. 0: not yet.
    """

    pool: str
    made_of: str
    max_age_s: float
    checked_at: float = 0.0
    silent: int = 0
    fault: str = ""
    asked_at: float = 0.0
    claimed_at: float = 0.0
    keyed_at: float = 0.0

    @property
    def check_due_at(self) -> float:
        """When its nodes are to be asked."""
        if not self.checked_at:
            return 0.0
        return self.checked_at + (AGAIN_S if self.silent else CHECK_S)

    @property
    def well(self) -> bool:
        """Whether its nodes answered when they were asked last."""
        return self.checked_at > 0 and not self.silent
