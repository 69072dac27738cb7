"""Reads scenarios: the shipped ones by name, others by path."""

from __future__ import annotations

from pathlib import Path

from pipeline.domain.errors import UserError
from pipeline.simulation.fields import Fields, duration, hours, number, seed, some_time, weights
from pipeline.simulation.happenings import Known, events_of
from pipeline.simulation.machines import inventory_of
from pipeline.simulation.scenario import Deaths, Metrics, Scenario, Stream
from pipeline.simulation.shapes import shapes_of

#: The scenarios that come with Greenroom.
SHIPPED = Path(__file__).parent / "scenarios"


def load(name: str) -> Scenario:
    """The shipped scenario of that name, or the one in that file; UserError says what is wrong with it."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    path = SHIPPED / f"{name}.yml" if (SHIPPED / f"{name}.yml").is_file() else Path(name)
    try:
        tree = YAML(typ="rt").load(path.read_text(encoding="utf-8"))
    except OSError as error:
        shipped = sorted(one.stem for one in SHIPPED.glob("*.yml"))
        raise UserError(
            f"scenario {name} cannot be read: {error.strerror}; give a file, or one of {', '.join(shipped)}"
        ) from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8: {error}") from error
    except YAMLError as error:
        raise UserError(f"{path} is no YAML: {error}") from error
    return scenario_of(tree, path.stem, str(path))


def scenario_of(tree: object, name: str, source: str | None = None) -> Scenario:
    """The scenario that a tree of YAML says; UserError names the first key that is wrong, and its line in `source`."""
    with Fields(tree, source or name) as top:
        inventory = inventory_of(top.inner("inventory"))
        projects = top.take("projects", weights)
        shapes = shapes_of(top, inventory, projects)
        known = Known(inventory, shapes, projects)
        return Scenario(
            name=name,
            seed=top.take("seed", seed, 0),
            lasts_s=top.take("lasts", some_time),
            inventory=inventory,
            projects=projects,
            shapes=shapes,
            streams=tuple(_stream(one, known) for one in top.each("arrivals")),
            events=tuple(event for one in top.each("events") for event in events_of(one, known)),
            deaths=_deaths(top.inner("deaths")),
            metrics=_metrics(top.inner("metrics")),
            tick_s=top.take("tick", some_time, 1.0),
        )


def _metrics(fields: Fields) -> Metrics:
    with fields:
        return Metrics(fields.take("lag", duration, 20.0), fields.take("every", some_time, 60.0))


def _deaths(fields: Fields) -> Deaths:
    with fields:
        return Deaths(fields.take("per_hour", number, 0.0), fields.take("back_after", duration, 3600.0))


def _stream(fields: Fields, known: Known) -> Stream:
    with fields:
        return known.mixed(fields, fields.take("per_hour", hours))
