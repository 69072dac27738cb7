"""Checked data to a blueprint."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pipeline.domain.blueprint import (
    Artifact,
    Blueprint,
    CommandSpec,
    ConfigureSpec,
    DeploySpec,
    DestroySpec,
    EnvironmentSpec,
    Missed,
    Overlap,
    Priority,
    PullRequestFilter,
    PushFilter,
    QosSpec,
    Readiness,
    RoleSpec,
    ScheduleSpec,
    TestinfraSpec,
    Triggers,
)
from pipeline.domain.durations import parse_duration
from pipeline.domain.qos import QosProfile, profile_of
from pipeline.domain.resources import parse_size
from pipeline.domain.rules import (
    HIGH_IO,
    Affinity,
    Attribute,
    BareMetal,
    PlacementRules,
    Spread,
    Stance,
    Strategy,
    Within,
)
from pipeline.domain.wiring import Custom, Network, Opening, parse_cidr, parse_opening

Data = Mapping[str, Any]
Profiles = Mapping[str, QosProfile]


def blueprint(data: Data, profiles: Profiles) -> Blueprint:
    """The blueprint of data without findings."""
    return Blueprint(
        service=data["service"],
        environment=_environment(data["environment"], profiles),
        triggers=_triggers(data["on"]) if "on" in data else Triggers(),
        configure=_configure(data.get("configure", {})),
        deploy=tuple(_deployment(item) for item in data.get("deploy", ())),
        test=tuple(_test(item) for item in data["test"]),
        destroy=_destroy(data.get("destroy", {})),
        artifacts=tuple(Artifact(**item) for item in data.get("artifacts", ())),
        **_seconds(data, timeout="timeout_s"),
    )


def _seconds(data: Data, **names: str) -> dict[str, Any]:
    """Durations that are given, under their field's name."""
    return {field: parse_duration(data[key]) for key, field in names.items() if key in data}


def _limits(data: Data) -> dict[str, Any]:
    return _seconds(data, timeout="timeout_s", silence="silence_s")


def _given(data: Data, *names: str) -> dict[str, Any]:
    return {name: data[name] for name in names if name in data}


def _tuples(data: Data | None) -> dict[str, tuple[str, ...]]:
    return {name: tuple(value) for name, value in (data or {}).items()}


def _triggers(data: Data) -> Triggers:
    return Triggers(
        push=_push(data["push"] or {}) if "push" in data else None,
        pull_request=_pull_request(data["pull_request"] or {}) if "pull_request" in data else None,
        schedule=tuple(_schedule(item) for item in data.get("schedule", ())),
    )


def _push(data: Data) -> PushFilter:
    patterns = {name: given for name, given in data.items() if name != "staging"}
    return PushFilter(**_tuples(patterns), staging=data.get("staging", ""))


def _pull_request(data: Data) -> PullRequestFilter:
    patterns = {name: data[name] for name in ("branches", "paths_ignore") if name in data}
    ttl_s = parse_duration(data["ttl"]) if "ttl" in data else None
    environment, forks = data.get("environment", False), data.get("forks", False)
    return PullRequestFilter(**_tuples(patterns), environment=environment, ttl_s=ttl_s, forks=forks)


def _schedule(data: Data) -> ScheduleSpec:
    return ScheduleSpec(
        data["cron"],
        data["branch"],
        Priority(data.get("priority", Priority.NIGHTLY)),
        data.get("timezone", "UTC"),
        Overlap(data.get("overlap", Overlap.SKIP)),
        Missed(data.get("missed", Missed.RUN_ONCE)),
    )


def _environment(data: Data, profiles: Profiles) -> EnvironmentSpec:
    shared = _given(data, "near")
    roles = tuple(_role(name, {**shared, **(role or {})}, profiles) for name, role in data["roles"].items())
    return EnvironmentSpec(
        image=data["image"],
        roles=roles,
        provider=data.get("provider"),
        within=Within(data.get("within", Within.ANYWHERE)),
        strategy=Strategy(data.get("strategy", Strategy.PACK)),
        networks=tuple(Network(name, **told) for name, told in data.get("networks", {}).items()),
    )


def _role(name: str, data: Data, profiles: Profiles) -> RoleSpec:
    return RoleSpec(
        name=name,
        run_list=tuple(data.get("run_list", ())),
        qos=_qos(data.get("qos", {}), profiles),
        rules=_rules(data),
        hugepages_mib=round(parse_size(data["hugepages"])) if "hugepages" in data else 0,
        openings=tuple(_opening(one) for one in data.get("open", ())),
        networks=_networks(data.get("networks", ())),
        custom=Custom(**data.get("server", {})),
        **_given(data, "count", "size", "image", "script", "attributes", "virtual_address", "floating"),
    )


def _opening(told: Data | str) -> Opening:
    return parse_opening(told) if isinstance(told, str) else parse_opening(told["port"], parse_cidr(told["from"]))


def _networks(told: Data | Sequence[str]) -> dict[str, tuple[str, ...]]:
    if not isinstance(told, Mapping):
        return dict.fromkeys(told, ())
    return {name: (given,) if isinstance(given, str) else tuple(given) for name, given in told.items()}


def _rules(data: Data) -> PlacementRules:
    return PlacementRules(
        affinities=tuple(_affinities(data)),
        spread=Spread(data.get("spread", Spread.NONE)),
        apart_from=tuple(data.get("apart_from", ())),
        bare_metal=_bare_metal(data),
        **_near(data.get("near")),
        **_given(data, "max_per_zone", "workload"),
    )


def _near(near: Data | str | None) -> dict[str, Any]:
    """A role of the environment, or a service that stands outside of it."""
    if isinstance(near, str):
        return {"near": near}
    return {"near_service": near["service"]} if near is not None else {}


def _affinities(data: Data) -> Iterator[Affinity]:
    """Hard rules first, in the order in which they are told."""
    for stance in (Stance.REQUIRE, Stance.FORBID, Stance.PREFER):
        for attribute, values in data.get(stance, {}).items():
            yield Affinity(stance, Attribute(attribute), (values,) if isinstance(values, str) else tuple(values))


def _bare_metal(data: Data) -> BareMetal | None:
    """What the role says itself, else what its workload wants."""
    if "bare_metal" in data:
        return BareMetal(data["bare_metal"])
    return BareMetal.WANTED if data.get("workload") == HIGH_IO else None


def _qos(data: Data | str, profiles: Profiles) -> QosProfile:
    if isinstance(data, str):
        return profiles[data]
    base = profiles[data["profile"]] if "profile" in data else QosProfile()
    return profile_of({key: value for key, value in data.items() if key != "profile"}, base)


def _configure(data: Data) -> ConfigureSpec:
    with_ = {"with_": data["with"]} if "with" in data else {}
    return ConfigureSpec(**with_, **_given(data, "cookbooks", "attributes", "idempotent"), **_limits(data))


def _deployment(data: Data) -> DeploySpec:
    return DeploySpec(
        role=data["role"],
        to=data["to"].rstrip("/"),
        run=tuple(data.get("run", ())),
        ready=_readiness(data["ready"]) if "ready" in data else None,
        **_limits(data),
    )


def _readiness(data: Data) -> Readiness:
    return Readiness(**_given(data, "http", "tcp", "run"), **_seconds(data, within="within_s"))


def _test(data: Data) -> TestinfraSpec | CommandSpec | QosSpec:
    if "qos" in data:
        return QosSpec(data["qos"] if isinstance(data["qos"], str) else "all")
    return _testinfra(data) if "testinfra" in data else _command(data)


def _testinfra(data: Data) -> TestinfraSpec:
    return TestinfraSpec(path=data["testinfra"], roles=tuple(data.get("roles", ())), **_limits(data))


def _command(data: Data) -> CommandSpec:
    return CommandSpec(**_given(data, "run", "on", "junit"), **_limits(data))


def _destroy(data: Data) -> DestroySpec:
    return DestroySpec(**_seconds(data.get("on_failure", {}), hold="hold_on_failure_s"))
