"""`inventory.yml`: the machines of a provider, as an operator declares them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline.domain.durations import parse_duration
from pipeline.domain.errors import UserError
from pipeline.domain.inventory import Aggregate, Inventory, LoadLimits, Machine, MachineKind, Zone, checked, spelled_out
from pipeline.domain.qos import QosClass, disk_rate, network_rate
from pipeline.domain.resources import parse_size
from pipeline.domain.rules import Affinity, Attribute, OperatorRule, Stance

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", re.ASCII)


def _mib(value: object) -> float:
    return parse_size(str(value))


def _network(value: object) -> float:
    return float(network_rate(str(value)))


def _disk(value: object) -> float:
    return float(disk_rate(str(value)))


def _seconds(value: object) -> float:
    return parse_duration(str(value))


def _listed(value: object) -> object:
    return [value] if isinstance(value, str) else value


Size = Annotated[float, BeforeValidator(_mib)]
Network = Annotated[float, BeforeValidator(_network)]
Disk = Annotated[float, BeforeValidator(_disk)]
Names = Annotated[tuple[str, ...], BeforeValidator(_listed)]
Ratios = dict[str, Annotated[float, Field(gt=0)]]
Where = dict[Attribute, Names]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Zone(_Part):
    name: str
    region: str = "default"
    uplink: Network | None = None


class _Aggregate(_Part):
    name: str
    overcommit: Ratios = {}
    features: Names = ()


class _Machine(_Part):
    name: str
    zone: str
    aggregates: Names = ()
    kind: MachineKind = MachineKind.HYPERVISOR
    features: Names = ()
    images: Names = ()
    vcpu: float = Field(ge=0)
    memory: Size
    disk: Size
    disk_read_iops: float | None = Field(default=None, ge=0)
    disk_write_iops: float | None = Field(default=None, ge=0)
    disk_read: Disk | None = None
    disk_write: Disk | None = None
    network: Network | None = None
    overcommit: Ratios = {}
    max_builds: int | None = Field(default=None, ge=1)

    def capacity(self) -> dict[str, float]:
        amounts = {
            "vcpu": self.vcpu,
            "memory_mib": self.memory,
            "disk_gib": self.disk / 1024,
            "disk_read_iops": self.disk_read_iops,
            "disk_write_iops": self.disk_write_iops,
            "disk_read_bytes": self.disk_read,
            "disk_write_bytes": self.disk_write,
            "network_in": self.network,
            "network_out": self.network,
        }
        return {name: amount for name, amount in amounts.items() if amount is not None}


class _Rule(_Part):
    name: str
    match: dict[Literal["project", "service", "role", "workload", "qos_class"], Names] = {}
    require: Where = {}
    prefer: Where = {}
    forbid: Where = {}
    apart_from: Names = ()
    max_per_zone: int | None = Field(default=None, ge=1)


class _Rules(_Part):
    version: Literal[1]
    rules: list[_Rule]


class _Limits(_Part):
    full: Ratios = {}
    drain: Ratios = {}
    stale: Annotated[float, BeforeValidator(_seconds)] = 60.0
    ramp: Annotated[float, BeforeValidator(_seconds)] = 5.0

    def limits(self) -> LoadLimits:
        return LoadLimits(self.full, self.drain, self.stale, self.ramp)


class _File(_Part):
    version: Literal[1]
    zones: list[_Zone]
    aggregates: list[_Aggregate] = []
    machines: list[_Machine]
    overcommit: Ratios = {}
    rules: list[_Rule] = []
    spare_zones: tuple[QosClass, ...] = ()
    limits: _Limits | None = None


def read(path: Path) -> Inventory:
    """The inventory of a file; UserError names every mistake with its place in the file."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8: {error}") from error
    with _mistakes_of(str(path)):
        return _inventory(_File.model_validate(_data(text)))


def read_rules(name: str, text: str, source: str) -> tuple[OperatorRule, ...]:
    """The rules of a text that has nothing else, in the syntax of an inventory's; UserError names every mistake.

    `source` says to a person whose they are: `project shop`.
    """
    with _mistakes_of(name):
        rules = _Rules.model_validate(_data(text)).rules
        twice = [rule for rule, n in Counter(one.name for one in rules).items() if n > 1]
        if twice:
            raise UserError(f"rule {twice[0]} stands there more than once")
        return tuple(_rule(one, f"{source} rule {one.name}") for one in rules)


def _data(text: str) -> Any:
    return YAML(typ="safe", pure=True).load(text)


@contextmanager
def _mistakes_of(name: str) -> Iterator[None]:
    """Let what is wrong with a file leave as UserError."""
    try:
        yield
    except YAMLError as error:
        raise UserError(f"{name} is no YAML: {error}") from error
    except ValidationError as error:
        wrong = (f"  {'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()[:20])
        raise UserError(f"{name} cannot be used:\n" + "\n".join(wrong)) from error
    except UserError as error:
        raise UserError(f"{name}: {error}") from error


def _inventory(file: _File) -> Inventory:
    return checked(
        Inventory(
            machines=tuple(machine for one in file.machines for machine in _machines(one)),
            zones=tuple(Zone(one.name, one.region, one.uplink, one.uplink) for one in file.zones),
            aggregates=tuple(Aggregate(one.name, one.overcommit, frozenset(one.features)) for one in file.aggregates),
            overcommit=file.overcommit,
            rules=tuple(_rule(one, f"operator rule {one.name}") for one in file.rules),
            spare_zones=frozenset(file.spare_zones),
            limits=file.limits.limits() if file.limits else None,
        )
    )


def _machines(one: _Machine) -> Iterator[Machine]:
    for name in spelled_out(one.name):
        if _NAME.fullmatch(name) is None:
            raise UserError(
                f"machine {name!r}: use letters, digits, dots, hyphens and underscores, and one range {{1..9}}"
            )
        yield Machine(
            name,
            one.zone,
            one.capacity(),
            one.aggregates,
            one.kind,
            frozenset(one.features),
            frozenset(one.images),
            overcommit=one.overcommit,
            max_builds=one.max_builds,
        )


def _rule(one: _Rule, source: str) -> OperatorRule:
    stances = ((Stance.REQUIRE, one.require), (Stance.PREFER, one.prefer), (Stance.FORBID, one.forbid))
    affinities = tuple(
        Affinity(stance, attribute, values, source) for stance, where in stances for attribute, values in where.items()
    )
    match = {str(key): values for key, values in one.match.items()}
    return OperatorRule(one.name, match, affinities, one.apart_from, one.max_per_zone)
