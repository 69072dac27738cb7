"""Lets a scenario happen: arrivals, placements by the engine of production, builds, ends, losses, measurements."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from time import perf_counter

from pipeline.domain.admission import OVERTAKE_S
from pipeline.domain.environments import MAX_AGAIN
from pipeline.domain.inventory import Inventory, Load
from pipeline.domain.placement.engine import decide, worth_waiting
from pipeline.domain.placement.fleet import Fleet
from pipeline.domain.placement.model import Decision, Infeasible, Placed, Request
from pipeline.domain.preemption import MOST_TIMES, Candidate, preempt
from pipeline.domain.suspicion import Build
from pipeline.simulation.arrivals import arrivals, deaths
from pipeline.simulation.fairness import fairness
from pipeline.simulation.judge import Judge
from pipeline.simulation.ledger import Ledger
from pipeline.simulation.loop import Loop
from pipeline.simulation.outages import Outages
from pipeline.simulation.queue import Queue
from pipeline.simulation.scenario import Bad, Job, Outage, Scenario, Shape, Subject
from pipeline.simulation.suspects import Suspects
from pipeline.simulation.tally import Sample, Tally

#: Samples for the page: so many over the whole time.
SAMPLES = 96
#: Seconds for which a run waits for room away from the machines where it failed, as in production.
AVOID_S = 60.0
#: A reason is asked for at most this often for one shape: explaining costs more than deciding.
EXPLAIN_EVERY_S = 300.0
Progress = Callable[[float], None]


class Simulation:
    """One scenario; `tally` says what happened."""

    def __init__(self, scenario: Scenario, progress: Progress | None = None) -> None:
        self.scenario, self.progress = scenario, progress
        self.loop, self.tally = Loop(), Tally()
        self.fleet, self.ledger = Fleet(scenario.inventory), Ledger(scenario.inventory)
        self.judge, self.outages = Judge(self.ledger), Outages(scenario.inventory)
        self.queue = Queue(scenario.projects)
        self.standing: dict[str, Job] = {}
        self.suspects = Suspects()
        self._bad: set[tuple[Subject, str]] = set()
        self._probation: set[str] = set()
        self._worth: dict[tuple[Shape, tuple[str, ...]], bool] = {}
        self._refused: set[Shape] = set()
        self._explained: dict[Shape, tuple[float, str]] = {}
        self._awake = False
        self._hot = 0
        self._judged_at = 0.0
        self._fairness: float | None = None

    def run(self) -> Tally:
        """Let all of it happen."""
        for job in arrivals(self.scenario):
            self.loop.at(job.since, partial(self._arrive, job))
        for event in (*self.scenario.events, *deaths(self.scenario)):
            if isinstance(event, Outage):
                self.loop.at(event.at, partial(self._lose, event))
            elif isinstance(event, Bad):
                self.loop.at(event.at, partial(self._bad.update, event.faults))
                self.loop.at(event.at + event.back_s, partial(self._bad.difference_update, event.faults))
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
        """Place what can be placed, as the scheduler does: who waited long enough is overtaken no more, unless room
        that is kept free would never be enough.
        """
        self._awake = False
        self._judge_fairness()
        for job in self.queue.in_turn(self.loop.now):
            if not self._look(job) and self.loop.now - job.since >= OVERTAKE_S and self._worth_waiting(job):
                break
        self._fairness = fairness(self.scenario.projects, self.queue.in_use, self.queue.wanted)

    def _worth_waiting(self, job: Job) -> bool:
        """Asked of the engine once for all runs that ask alike, until the inventory changes."""
        key = job.shape, job.avoid
        if key not in self._worth:
            self._worth[key] = worth_waiting(self.fleet, job.request)
        return self._worth[key]

    def _look(self, job: Job) -> bool:
        """Whether a run waits no more; a shape that found nothing is not asked again before something was freed."""
        if job.avoid or job.shape not in self._refused:
            return self._place(job, self._decide(job))
        self._count_refusal(job, self._explained[job.shape][1])
        return False

    def _decide(self, job: Job) -> Decision:
        """Away from the machines where it failed, unless that can never be, or takes too long."""
        decision = self._timed(job.request, explain=bool(job.avoid))
        late = not isinstance(decision, Placed) and not self._keeps_away(job)
        if job.avoid and (late or isinstance(decision, Infeasible)):
            return self._timed(job.anywhere)
        return decision

    def _keeps_away(self, job: Job) -> bool:
        return bool(job.avoid) and self.loop.now - job.since <= AVOID_S

    def _timed(self, request: Request, *, explain: bool = False) -> Decision:
        began = perf_counter()
        decision = decide(self.fleet, request, self.loop.now, explain=explain)
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
        tally.overbooked += self.ledger.add(job, decision.machines)
        tally.broken.update(self.judge.broken(job))
        self.standing[job.id] = job
        job.attempt += 1
        job.placed_at = now
        tally.waits[job.priority].append(now - job.since)
        tally.environments += 1
        tally.nodes += job.shape.use.nodes
        self.loop.at(now + job.shape.builds_s, partial(self._built, job, job.attempt))
        return True

    def _refuse(self, job: Job) -> bool:
        """Take others back for it, or count a refusal; whether the run waits no more."""
        if job.shape.guaranteed:
            if (found := self._preempt(job)) is not None:
                return self._place(job, found)
            avoid = job.avoid if self._keeps_away(job) else ()
            self.tally.wrongly_refused += self.judge.could_keep(job.shape, self._candidates(), avoid)
        if job.avoid:
            self._count_refusal(job, "no room away from where it failed")
            return False
        told, reason = self._explained.get(job.shape, (-math.inf, ""))
        if self.loop.now - told > EXPLAIN_EVERY_S:
            reason = self._why(job)
            self._explained[job.shape] = (self.loop.now, reason)
        self._count_refusal(job, reason)
        if reason.startswith("infeasible"):
            self.queue.remove(job)
            self.tally.infeasible += 1
            return True
        self._refused.add(job.shape)
        return False

    def _preempt(self, job: Job) -> Placed | None:
        """Take back best-effort environments for a guaranteed run, at once and without grace; where it stands then."""
        candidates = [Candidate(one.id, one.priority, one.placed_at, one.preempted) for one in self._candidates()]
        found = preempt(self.fleet, job.request, candidates, self.loop.now)
        if found is None:
            return None
        for victim in [self.standing[name] for name in found.victims]:
            self.tally.preemptions[victim.priority] += 1
            self._remove(victim)
            victim.preempted += 1
            self._wait(victim)
        return found.placed

    def _candidates(self) -> list[Job]:
        """What may be taken back for a guaranteed run."""
        return [one for one in self.standing.values() if one.shape.best_effort and one.preempted < MOST_TIMES]

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
        builds = self._builds(job)
        if failed := {one.machine: one for one in builds if one.fault}:
            self._fail(job, list(failed.values()))
            return
        self.suspects.succeeded(builds, self.loop.now)
        self._prove(self._probation.intersection(one.machine for one in builds))
        self.fleet.built(job.id, self.loop.now)
        self.ledger.built(job, self.loop.now)
        self.loop.at(self.loop.now + job.lasts_s, partial(self._end, job, attempt))

    def _end(self, job: Job, attempt: int) -> None:
        if not self._gone(job, attempt):
            self._remove(job)
            self.tally.finished += 1

    def _gone(self, job: Job, attempt: int) -> bool:
        return job.id not in self.standing or job.attempt != attempt

    def _remove(self, job: Job) -> None:
        del self.standing[job.id]
        building = any(one.building for one in self.fleet.remove(job.id))
        if not building:
            self.ledger.bear(job, -1)
        self.ledger.remove(job, building=building)
        self.queue.give_back(job)
        self._freed()

    # -- what goes wrong

    def _builds(self, job: Job) -> list[Build]:
        """What came of the build of each node."""
        service = f"{job.project}/{job.shape.request.service}"
        found = []
        for role, row in self.ledger.nodes_of(job):
            machine = self.ledger.inventory.machines[row]
            causes = (Subject.MACHINE, machine.name), (Subject.SHAPE, job.shape.name), (Subject.IMAGE, role.image)
            fault = "" if self._bad.isdisjoint(causes) else "it is bad"
            found.append(Build(machine.name, machine.zone, role.image, service, self.loop.now, fault))
        return found

    def _fail(self, job: Job, failed: Sequence[Build]) -> None:
        """Place it again, away from where it failed, unless that is no use."""
        self.tally.failed_builds += 1
        self._remove(job)
        verdict = self.suspects.failed(failed, self.outages.inventory, self.loop.now)
        self._quarantine(verdict.sentence.machines)
        if verdict.poison:
            self.tally.given_up[verdict.poison.partition(":")[0]] += 1
        elif job.placed_again >= MAX_AGAIN:
            self.tally.given_up[f"their builds failed {MAX_AGAIN + 1} times"] += 1
        else:
            job.placed_again += 1
            job.avoid = tuple(dict.fromkeys((*job.avoid, *(one.machine for one in failed))))
            self._wait(job)

    def _quarantine(self, machines: Mapping[str, str]) -> None:
        if not machines:
            return
        self.tally.quarantines.update(machines.keys())
        self._probation.difference_update(machines)
        inventory = self.outages.quarantine(machines, self.loop.now)
        self._change(inventory)
        for one in inventory.machines:
            if one.name in machines and one.back_at is not None:
                self.loop.at(one.back_at, partial(self._release, one.name))

    def _release(self, machine: str) -> None:
        self._probation.add(machine)
        self._change(self.outages.release(machine, self.loop.now))

    def _prove(self, machines: Collection[str]) -> None:
        if machines:
            self.tally.proved += len(machines)
            self._probation.difference_update(machines)
            self._change(self.outages.prove(machines, self.loop.now))

    def _lose(self, event: Outage) -> None:
        self._change(self.outages.begin(event.machines, self.loop.now, event.why))
        for job in list(self.standing.values()):
            if any(not event.machines.isdisjoint(names) for names in self.ledger.placed[job.id].values()):
                self.tally.lost += 1
                self._remove(job)
                self._wait(job)
        self.loop.at(event.at + event.back_s, partial(self._return, event.machines))

    def _return(self, machines: Iterable[str]) -> None:
        self._change(self.outages.end(machines, self.loop.now))

    def _change(self, inventory: Inventory) -> None:
        self._worth.clear()
        self.ledger.change(inventory)
        self.fleet.replace_inventory(inventory)
        self._freed()

    # -- what is measured

    def _measure(self) -> None:
        loads, metrics = self.ledger.measure(self.loop.now), self.scenario.metrics
        self.loop.at(self.loop.now + metrics.lag_s, partial(self._know, loads))
        hot = self.ledger.hot().nonzero()[0].tolist()
        self._hot = len(hot)
        self.tally.hot_spots += self._hot
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
            Sample(
                self.loop.now, shares.get("vcpu", 0.0), shares.get("memory_mib", 0.0), counts, self._zones(), self._hot
            )
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
