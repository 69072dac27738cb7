"""The decision: a machine for every node of a request, or why there is none."""

from __future__ import annotations

from pipeline.domain.placement import explain as explanations
from pipeline.domain.placement import proof
from pipeline.domain.placement.attempt import Attempt
from pipeline.domain.placement.fleet import Fleet
from pipeline.domain.placement.model import (
    Decision,
    Explanation,
    Infeasible,
    Placed,
    Request,
    RoleRequest,
    Unschedulable,
)
from pipeline.domain.placement.search import TRIES, Found, search
from pipeline.domain.placement.whatif import emptied
from pipeline.domain.rules import BareMetal


def decide(fleet: Fleet, request: Request, now: float, *, explain: bool = True, tries: int = TRIES) -> Decision:
    """Place all nodes or none; the fleet is left as it was. Without `explain`, a refusal says only that it is one."""
    fleet.age(now)
    wrong = proof.nonsense(fleet, request)
    if wrong is not None:
        return Infeasible(wrong)
    answer = search(fleet, request, tries)
    if isinstance(answer, Found):
        return _placed(fleet, request, answer.attempt)
    if not explain:
        return Unschedulable(Explanation(request.roles[0].role, "there is no room now"))
    never = proof.infeasible(fleet, request)
    if never is not None:
        return Infeasible(never)
    return Unschedulable(explanations.explain(fleet, request, answer.attempt))


def worth_waiting(fleet: Fleet, request: Request) -> bool:
    """Whether the request would be placed if all that stands were given back, with machines in the states they are in:
    only then is it of any use to keep room free for it.
    """
    return isinstance(search(emptied(fleet, healthy=False), request), Found)


def _placed(fleet: Fleet, request: Request, attempt: Attempt) -> Placed:
    machines = {
        role.role: tuple(fleet.machines[row].name for row in attempt.chosen[role.role]) for role in request.roles
    }
    notes = [note for role in request.roles for note in _fall_back(fleet, role, attempt.chosen[role.role])]
    apart = {role.role: role.rules.apart_from for role in request.roles if role.rules.apart_from}
    return Placed(machines, tuple(notes), apart)


def _fall_back(fleet: Fleet, role: RoleRequest, rows: list[int]) -> list[str]:
    """What a person should know of a role that wanted bare metal and did not get it."""
    if role.rules.bare_metal is not BareMetal.WANTED or fleet.bare[rows].all():
        return []
    virtual = len(rows) - int(fleet.bare[rows].sum())
    there = int(fleet.bare.sum())
    why = f"none of the {there} bare-metal machines was free" if there else "there is no bare-metal machine"
    return [f"role {role.role}: {virtual} of {role.count} nodes fell back to virtual machines, since {why}"]
