"""Proof that nothing is left: what bears the demo's mark before, while nodes are held, and after."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from pipeline.cli.output import FAILED, Complaint, Output

Traces = Mapping[str, list[str]]
#: The kernel forgets links and control groups a moment after they were removed, in seconds.
SETTLE_S = 5.0
LOOK_S = 0.1
#: Kinds of traces that nodes of this machine leave while they stand, and how those of a provider's nodes are called.
HERE = ("network namespaces", "cgroups")
ELSEWHERE = "nodes at "


def look() -> Traces:
    """What this machine and the providers show of the deployment that the environment names."""
    from pipeline.bootstrap import build

    app = build()
    elsewhere = [name for name, provider in app.settings.providers.items() if provider.driver != "local"]
    return {**app.traces(), **{f"{ELSEWHERE}{name}": app.standing(name) for name in elsewhere}}


@dataclass
class Proof:
    """Looks at moments, each with its name."""

    moments: dict[str, Traces] = field(default_factory=dict)

    def note(self, moment: str) -> None:
        self.moments[moment] = look()

    def note_end(self, moment: str) -> None:
        """Look until nothing is there, for a moment at most."""
        deadline = time.monotonic() + SETTLE_S
        self.note(moment)
        while any(self.moments[moment].values()) and time.monotonic() < deadline:
            time.sleep(LOOK_S)
            self.note(moment)

    def show(self, out: Output) -> None:
        kinds = next(iter(self.moments.values()))
        rows = [(kind, *(str(len(found[kind])) for found in self.moments.values())) for kind in kinds]
        out.table(("with the demo's mark", *self.moments), rows)

    def check(self) -> None:
        """The command ends when something is left, or when the nodes were not seen while they were there."""
        first, held, last = self.moments.values()
        left = [f"{kind}: {one}" for moment in (first, last) for kind, found in moment.items() for one in found]
        if left:
            raise Complaint("something is left:\n  " + "\n  ".join(left), FAILED)
        elsewhere = [kind for kind in held if kind.startswith(ELSEWHERE)]
        if not all(held[kind] for kind in ("processes", *(elsewhere or HERE))):
            raise Complaint("the held nodes could not be seen, so this proves nothing", FAILED)
