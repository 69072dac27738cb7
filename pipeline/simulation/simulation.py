"""Lets a scenario happen: arrivals, placements by the engine of production, builds, ends, losses, measurements."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from time import perf_counter

from pipeline.domain.admission import OVERTAKE_S
from pipeline.domain.inventory import Inventory, Load, MachineState
from pipeline.domain.placement.engine import decide
from pipeline.domain.placement.fleet import Fleet
from pipeline.domain.placement.model import Decision, Infeasible, Placed
from pipeline.simulation.arrivals import arrivals
from pipeline.simulation.fairness import fairness
from pipeline.simulation.ledger import Ledger
from pipeline.simulation.loop import Loop
from pipeline.simulation.queue import Queue
from pipeline.simulation.scenario import Job, MachineBad, Scenario, ZoneLost
from pipeline.simulation.tally import Sample, Tally

#: Samples for the page: so many over the whole time.
SAMPLES = 96
#: A machine that fails so many builds is quarantined.
FAILURES = 3
#: A reason is asked for at most this often for one shape: explaining costs more than deciding.
EXPLAIN_EVERY_S = 300.0
Progress = Callable[[float], None]


class Simulation:
    """One scenario; `tally` says what happened."""

    def __init__(self, scenario: Scenario, progress: Progress | None = None) -> None:
        self.scenario, self.progress = scenario, progress
        self.loop, self.tally = Loop(), Tally()
        self.fleet, self.ledger = Fleet(scenario.inventory), Ledger(scenario.inventory)
        self.queue = Queue(scenario.projects)
        self.standing: dict[str, Job] = {}
        self._bad: set[str] = set()
        self._failures: Counter[str] = Counter()
        self._refused: set[str] = set()
        self._explained: dict[str, tuple[float, str]] = {}
        self._awake = False
        self._judged_at = 0.0
        self._fairness: float | None = None

    def run(self) -> Tally:
        """Let all of it happen."""
        for job in arrivals(self.scenario):
            self.loop.at(job.since, partial(self._arrive, job))
        for event in self.scenario.events:
            if isinstance(event, ZoneLost):
                self.loop.at(event.at, partial(self._lose, event))
            elif isinstance(event, MachineBad):
                self.loop.at(event.at, partial(self._bad.add, event.machine))
                self.loop.at(event.at + event.back_s, partial(self._mend, event.machine))
        if self.scenario.inventory.limits is not None:
            self._know(self.ledger.measure(0.0))  # it was measured before, too
            self._measure()
        self._sample()
        self.loop.run(self.scenario.lasts_s)
        self._judge_fairness()
        self.tally.waiting = len(self.queue.waiting)
        return self.tally

    # -- runs

    def _arrive(self, job: Job) -> None:
        self.tally.runs += 1
        self._wait(job)

    def _wait(self, job: Job) -> None:
        job.since, job.counted = self.loop.now, False
        self.queue.add(job)
        self._wake()

    def _wake(self) -> None:
        if not self._awake and self.queue.waiting:
            self._awake = True
            tick = self.scenario.tick_s
            self.loop.at((math.floor(self.loop.now / tick) + 1) * tick, self._pass)

    def _freed(self) -> None:
        self._refused.clear()
        self._wake()

    def _pass(self) -> None:
        """Place what can be placed, as the scheduler does: who waited long enough is overtaken no more."""
        self._awake = False
        self._judge_fairness()
        for job in self.queue.in_turn(self.loop.now):
            if not self._look(job) and self.loop.now - job.since >= OVERTAKE_S:
                break
        self._fairness = fairness(self.scenario.projects, self.queue.in_use, self.queue.wanted)

    def _look(self, job: Job) -> bool:
        """Whether a run waits no more; a shape that found nothing is not asked again before something was freed."""
        if job.shape.name not in self._refused:
            return self._place(job, self._decide(job))
        self._count_refusal(job, self._explained[job.shape.name][1])
        return False

    def _decide(self, job: Job) -> Decision:
        began = perf_counter()
        decision = decide(self.fleet, job.request, self.loop.now, explain=False)
        took = perf_counter() - began
        self.tally.decisions += 1
        self.tally.decide_s += took
        self.tally.slowest_s = max(self.tally.slowest_s, took)
        return decision

    def _place(self, job: Job, decision: Decision) -> bool:
        if not isinstance(decision, Placed):
            return self._refuse(job)
        now, tally = self.loop.now, self.tally
        self.queue.remove(job)
        self.queue.take(job)
        self.fleet.reserve(job.request, decision, now)
        tally.overbooked += self.ledger.add(job, decision.machines, now)
        self.standing[job.id] = job
        job.attempt += 1
        tally.waits[job.priority].append(now - job.since)
        tally.environments += 1
        tally.nodes += job.shape.use.nodes
        self.loop.at(now + job.shape.builds_s, partial(self._built, job, job.attempt))
        return True

    def _refuse(self, job: Job) -> bool:
        """Count a refusal; whether the run waits no more, as it can never be placed."""
        if job.shape.guaranteed and self.ledger.could_keep(job.shape):
            self.tally.wrongly_refused += 1
        told, reason = self._explained.get(job.shape.name, (-math.inf, ""))
        if self.loop.now - told > EXPLAIN_EVERY_S:
            reason = self._why(job)
            self._explained[job.shape.name] = (self.loop.now, reason)
        self._count_refusal(job, reason)
        if reason.startswith("infeasible"):
            self.queue.remove(job)
            self.tally.infeasible += 1
            return True
        self._refused.add(job.shape.name)
        return False

    def _count_refusal(self, job: Job, reason: str) -> None:
        if not job.counted:
            job.counted = True
            self.tally.refusals[reason] += 1

    def _why(self, job: Job) -> str:
        decision = decide(self.fleet, job.request, self.loop.now, explain=True)
        if isinstance(decision, Placed):
            return "search budget"
        if isinstance(decision, Infeasible):
            return f"infeasible: {decision.explanation.summary}"
        rules: Counter[str] = Counter()
        for group in decision.explanation.groups:
            rules[group.rule] += len(group.machines)
        return rules.most_common(1)[0][0] if rules else "no room"

    def _built(self, job: Job, attempt: int) -> None:
        if self._gone(job, attempt):
            return
        machines = {name for names in self.ledger.placed[job.id].values() for name in names}
        if failed := sorted(machines & self._bad):
            self._fail(job, failed[0])
            return
        self.fleet.built(job.id)
        self.ledger.bear(job, 1)
        self.loop.at(self.loop.now + job.lasts_s, partial(self._end, job, attempt))

    def _end(self, job: Job, attempt: int) -> None:
        if not self._gone(job, attempt):
            self.ledger.bear(job, -1)
            self._remove(job)
            self.tally.finished += 1

    def _gone(self, job: Job, attempt: int) -> bool:
        return job.id not in self.standing or job.attempt != attempt

    def _remove(self, job: Job) -> None:
        del self.standing[job.id]
        self.ledger.remove(job)
        self.fleet.remove(job.id)
        self.queue.give_back(job)
        self._freed()

    # -- what goes wrong

    def _fail(self, job: Job, machine: str) -> None:
        self.tally.failed_builds += 1
        self._failures[machine] += 1
        self._remove(job)
        if self._failures[machine] == FAILURES:
            self.tally.quarantined += 1
            self._change({machine}, MachineState.QUARANTINED, f"{FAILURES} builds failed")
        self._wait(job)

    def _mend(self, machine: str) -> None:
        self._bad.discard(machine)
        self._failures[machine] = 0
        self._change({machine}, MachineState.IN_SERVICE, "")

    def _lose(self, event: ZoneLost) -> None:
        machines = {one.name for one in self.scenario.inventory.machines if one.zone == event.zone}
        self._change(machines, MachineState.DOWN, f"zone {event.zone} is lost")
        for job in list(self.standing.values()):
            if any(machines.intersection(names) for names in self.ledger.placed[job.id].values()):
                self._lose_job(job)
        self.loop.at(event.at + event.back_s, partial(self._change, machines, MachineState.IN_SERVICE, ""))

    def _lose_job(self, job: Job) -> None:
        self.tally.lost += 1
        if not any(one.building for one in self.fleet.standing[job.id]):
            self.ledger.bear(job, -1)
        self._remove(job)
        self._wait(job)

    def _change(self, names: set[str], state: MachineState, reason: str) -> None:
        now = self.loop.now
        machines = self.ledger.inventory.machines
        changed = tuple(one.to(state, now, reason) if one.name in names else one for one in machines)
        inventory: Inventory = replace(self.ledger.inventory, machines=changed)
        self.ledger.inventory = inventory
        self.ledger.down = {at for at, one in enumerate(changed) if one.state is not MachineState.IN_SERVICE}
        self.fleet.replace_inventory(inventory)
        self._freed()

    # -- what is measured

    def _measure(self) -> None:
        loads, metrics = self.ledger.measure(self.loop.now), self.scenario.metrics
        self.loop.at(self.loop.now + metrics.lag_s, partial(self._know, loads))
        hot = self.ledger.hot().nonzero()[0].tolist()
        self.tally.hot_spots += len(hot)
        self.tally.hot_machines.update(hot)
        self.tally.measured += len(loads)
        self.loop.at(self.loop.now + metrics.every_s, self._measure)

    def _know(self, loads: Mapping[str, Load]) -> None:
        self.fleet.set_loads(loads)
        self.ledger.know(loads)
        self._freed()

    def _judge_fairness(self) -> None:
        """The last look left projects with so fair parts, until now."""
        if self._fairness is not None:
            self.tally.fair(self._fairness, self.loop.now - self._judged_at)
        self._judged_at = self.loop.now

    def _sample(self) -> None:
        shares, waiting = self.fleet.utilisation(), self.queue.waiting.values()
        counts = Counter(job.priority for job in waiting)
        self.tally.samples.append(
            Sample(self.loop.now, shares.get("vcpu", 0.0), shares.get("memory_mib", 0.0), counts, self._zones())
        )
        if self.progress is not None:
            self.progress(self.loop.now / self.scenario.lasts_s)
        self.loop.at(self.loop.now + self.scenario.lasts_s / SAMPLES, self._sample)

    def _zones(self) -> tuple[float, ...]:
        used, usable = self.ledger.used[:, 0], self.ledger.usable[:, 0]
        zones = range(len(self.scenario.inventory.zones))
        return tuple(
            float(used[self.ledger.zone == zone].sum() / usable[self.ledger.zone == zone].sum()) for zone in zones
        )
