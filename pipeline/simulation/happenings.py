"""Reads what happens in a scenario beside the usual load: storms, losses, bad machines."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from pipeline.domain.blueprint import Priority
from pipeline.domain.inventory import Inventory
from pipeline.simulation.fields import Fields, duration, names, nearest, one_of, some_time, weights, whole
from pipeline.simulation.scenario import Bad, Outage, Shape, Storm, Stream, Subject

Event = Storm | Outage | Bad


@dataclass(frozen=True)
class Known:
    """What the rest of the scenario declared, for events to name."""

    inventory: Inventory
    shapes: Mapping[str, Mapping[str, Shape]]
    projects: Mapping[str, float]

    def mixed(self, fields: Fields, per_hour: tuple[float, ...]) -> Stream:
        """What arrives, of which shapes and projects."""
        stream = Stream(
            priority=fields.take("priority", one_of(Priority)),
            per_hour=per_hour,
            shapes=fields.take("shapes", weights),
            projects=fields.take("projects", weights, dict(self.projects)),
        )
        _all_known(fields, "shapes", stream.shapes, self.shapes)
        _all_known(fields, "projects", stream.projects, self.projects)
        return stream

    def machines(self, fields: Fields) -> tuple[str, ...]:
        """The machines that `machine` names."""
        wanted = fields.take("machine", names)
        _all_known(fields, "machine", wanted, [machine.name for machine in self.inventory.machines])
        return wanted

    def images(self) -> frozenset[str]:
        """Every image that a node of a shape is made of."""
        shapes = (shape for by_project in self.shapes.values() for shape in by_project.values())
        return frozenset(role.image for shape in shapes for role in shape.roles)

    def zones(self, fields: Fields) -> tuple[str, ...]:
        """The zones that `zone` names."""
        wanted = fields.take("zone", names)
        _all_known(fields, "zone", wanted, [zone.name for zone in self.inventory.zones])
        return wanted


def _all_known(fields: Fields, key: str, wanted: Iterable[str], known: Iterable[str]) -> None:
    there = set(known)
    for name in wanted:
        if name not in there:
            raise fields.wrong(key, f"no {key.removesuffix('s')} {name}{nearest(name, there)}")


def events_of(fields: Fields, known: Known) -> Iterator[Event]:
    """What one entry of `events` stands for: several outages for machines that flap."""
    with fields:
        kind = fields.take("what", _kind)
        yield from _KINDS[kind](fields, known, fields.take("at", duration))


def _kind(value: object) -> str:
    if value not in _KINDS:
        raise ValueError(f"expected {' or '.join(_KINDS)}, got {value!r}{nearest(str(value), _KINDS)}")
    return str(value)


def _storm(fields: Fields, known: Known, at: float) -> Iterator[Event]:
    runs, over_s = fields.take("runs", whole), fields.take("over", duration)
    yield Storm(at, runs, over_s, known.mixed(fields, ()))


def _zone_lost(fields: Fields, known: Known, at: float) -> Iterator[Event]:
    zones, back_s = known.zones(fields), fields.take("back_after", some_time)
    machines = frozenset(one.name for one in known.inventory.machines if one.zone in zones)
    yield Outage(at, machines, back_s, f"{', '.join(zones)} lost")


def _machine_lost(fields: Fields, known: Known, at: float) -> Iterator[Event]:
    yield Outage(at, frozenset(known.machines(fields)), fields.take("back_after", some_time), "lost")


def _machine_flaps(fields: Fields, known: Known, at: float) -> Iterator[Event]:
    machines, times = frozenset(known.machines(fields)), fields.take("times", whole)
    down_s, up_s = fields.take("down", some_time), fields.take("up", some_time)
    for turn in range(times):
        yield Outage(at + turn * (down_s + up_s), machines, down_s, "flaps")


def _machine_bad(fields: Fields, known: Known, at: float) -> Iterator[Event]:
    yield Bad(at, Subject.MACHINE, known.machines(fields), fields.take("back_after", some_time))


def _shape_bad(fields: Fields, known: Known, at: float) -> Iterator[Event]:
    wanted = fields.take("shape", names)
    _all_known(fields, "shape", wanted, known.shapes)
    yield Bad(at, Subject.SHAPE, wanted, fields.take("back_after", some_time))


def _image_bad(fields: Fields, known: Known, at: float) -> Iterator[Event]:
    wanted = fields.take("image", names)
    _all_known(fields, "image", wanted, known.images())
    yield Bad(at, Subject.IMAGE, wanted, fields.take("back_after", some_time))


_KINDS: Mapping[str, Callable[[Fields, Known, float], Iterator[Event]]] = {
    "storm": _storm,
    "zone-lost": _zone_lost,
    "machine-lost": _machine_lost,
    "machine-flaps": _machine_flaps,
    "machine-bad": _machine_bad,
    "shape-bad": _shape_bad,
    "image-bad": _image_bad,
}
