"""What comes by chance: runs at the rate of the hour, storms, how long each run is used, and machines that die."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import count
from random import Random

from pipeline.simulation.scenario import Job, Outage, Scenario, Storm, Stream

#: How much uses differ in length: the sigma of a log-normal distribution around the shape's median.
SIGMA = 0.6
HOUR_S = 3600.0


def arrivals(scenario: Scenario) -> list[Job]:
    """Every run of the scenario in the order of its arrival."""
    dice = Random(scenario.seed)  # noqa: S311 - repeatable, and no secret
    numbers = count(1)
    jobs: list[Job] = []
    for stream in scenario.streams:
        jobs += [_job(scenario, stream, at, next(numbers), dice) for at in _poisson(stream, scenario.lasts_s, dice)]
    for storm in scenario.events:
        if isinstance(storm, Storm):
            jobs += [_job(scenario, storm.stream, at, next(numbers), dice) for at in _evenly(storm)]
    return sorted(jobs, key=lambda job: job.since)


def _poisson(stream: Stream, until: float, dice: Random) -> Iterator[float]:
    for hour in range(math.ceil(until / HOUR_S)):
        rate = stream.per_hour[hour % 24] / HOUR_S
        end = min(until, (hour + 1) * HOUR_S)
        at = hour * HOUR_S
        while rate and (at := at + dice.expovariate(rate)) < end:
            yield at


def _evenly(storm: Storm) -> Iterator[float]:
    yield from (storm.at + storm.over_s * number / storm.runs for number in range(storm.runs))


def _job(scenario: Scenario, stream: Stream, at: float, number: int, dice: Random) -> Job:
    project = _one_of(stream.projects, dice)
    shape = scenario.shapes[_one_of(stream.shapes, dice)][project]
    lasts_s = min(shape.most_s, dice.lognormvariate(math.log(max(shape.lasts_s, 1.0)), SIGMA))
    return Job(number, project, stream.priority, shape, at, lasts_s)


def deaths(scenario: Scenario) -> list[Outage]:
    """The machines that die by chance, in the order of their end."""
    dice = Random(f"deaths {scenario.seed}")  # noqa: S311 - repeatable, and no secret
    names = [machine.name for machine in scenario.inventory.machines]
    found: list[Outage] = []
    at = 0.0
    while rate := scenario.deaths.per_hour / HOUR_S:
        at += dice.expovariate(rate)
        if at >= scenario.lasts_s:
            break
        found.append(Outage(at, frozenset({dice.choice(names)}), scenario.deaths.back_s, "died"))
    return found


def _one_of(weighted: Mapping[str, float], dice: Random) -> str:
    return dice.choices(list(weighted), weights=list(weighted.values()))[0]
