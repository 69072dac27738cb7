"""Answers of the API as text for a person."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pipeline.cli import wiring
from pipeline.cli.output import Output

if TYPE_CHECKING:
    from rich.table import Table

Json = Mapping[str, Any]
COLOURS = {
    "passed": "green", "failed": "red", "error": "bold red", "cancelled": "yellow", "superseded": "yellow",
    "running": "cyan", "finishing": "cyan", "held": "yellow", "skipped": "dim", "pending": "dim",
}  # fmt: skip
SHORT_SHA = 10
#: States of an environment of which nothing exists any more.
GONE = frozenset({"destroyed", "rejected", "withdrawn"})
#: States in which the reason says why there is no place.
PLACELESS = frozenset({"requested", "rejected"})


def coloured(word: str) -> str:
    colour = COLOURS.get(word)
    return f"[{colour}]{word}[/]" if colour else word


def plain(text: object) -> str:
    """Text of others, whose square brackets mean nothing."""
    from rich.markup import escape

    return escape(str(text))


def seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def moment(epoch: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(epoch))


def ago(epoch: float, now: float) -> str:
    """How long ago, in the unit that fits."""
    passed = max(0, int(now - epoch))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if passed >= size:
            return f"{passed // size} {unit} ago"
    return f"{passed} s ago"


def outcome(run: Json) -> str:
    """A run's verdict, or its state while there is none."""
    return str(run["verdict"] or run["state"])


def duration(run: Json, now: float) -> float | None:
    """Seconds from a run's start to its end or to now."""
    if run["started_at"] is None:
        return None
    return float((run["finished_at"] or now) - run["started_at"])


def runs(out: Output, found: Sequence[Json]) -> None:
    now = time.time()
    rows = [
        (
            run["id"], coloured(outcome(run)), plain(run["project"]), plain(run["branch"]), run["sha"][:SHORT_SHA],
            run["kind"], seconds(duration(run, now)), ago(run["created_at"], now),
        )
        for run in found
    ]  # fmt: skip
    out.table(("run", "verdict", "project", "ref", "commit", "by", "seconds", "when"), rows)


def stages(run: Json, now: float | None = None) -> Table:
    """The stages with their seconds; those that run count on to `now`."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table("stage", "state", "seconds", "attempts", "reason", box=SIMPLE_HEAD, pad_edge=False)
    for stage in run["stages"]:
        spent = seconds(_spent(stage, now))
        table.add_row(stage["name"], coloured(stage["state"]), spent, _attempts(stage), plain(_first(stage["reason"])))
    return table


def _first(text: str) -> str:
    """The first line, with a sign that there are more."""
    first, *others = text.splitlines() or [""]
    return f"{first} …" if others else first


def _spent(stage: Json, now: float | None) -> float | None:
    starts = [attempt["started_at"] for attempt in stage["attempts"] if attempt["started_at"] is not None]
    if stage["state"] == "running" and starts and now is not None:
        return now - float(min(starts))
    return None if stage["seconds"] is None else float(stage["seconds"])


def _attempts(stage: Json) -> str:
    count = len(stage["attempts"])
    return str(count) if count > 1 else ""


def headline(run: Json) -> str:
    what = f"{run['id']}  {coloured(outcome(run))}  {plain(run['project'])}  {plain(run['branch'])}"
    return f"{what}  {run['sha'][:SHORT_SHA]}"


def result(run: Json) -> str:
    """One sentence at the end of a run."""
    spent = seconds(duration(run, time.time()))
    why = f": {plain(run['reason'])}" if run["reason"] else ""
    return f"{run['id']} {coloured(outcome(run))}{f' in {spent} s' if spent else ''}{why}"


def run(out: Output, one: Json, environment: Json | None, reports: Sequence[Json]) -> None:
    """Everything about one run."""
    out.show(headline(one))
    _facts(out, one)
    out.console().print(stages(one, time.time()), soft_wrap=False)
    _tests(out, one, reports)
    if environment is not None:
        _environment(out, one["id"], environment)


def _facts(out: Output, one: Json) -> None:
    facts = {
        "reason": one["reason"],
        "repository": one["repository"],
        "message": (one["message"].splitlines() or [""])[0],
        "by": f"{one['kind']} {one['actor']}".strip(),
        "created": moment(one["created_at"]),
        "again of": one["rerun_of"],
        "superseded": one["superseded_by"],
    }
    for name, value in facts.items():
        for number, line in enumerate(str(value or "").splitlines()):
            out.show(f"  {name if number == 0 else '':<11}{plain(line)}")


def _tests(out: Output, one: Json, reports: Sequence[Json]) -> None:
    counts = one["tests"]
    if not any(counts.values()):
        return
    out.show("tests: " + ", ".join(f"{count} {name}" for name, count in counts.items() if count))
    for report in reports:
        for case in report["cases"]:
            if case["status"] in {"failed", "error"}:
                where = plain(case["classname"] or case["suite"] or report["name"])
                out.show(f"  {coloured(case['status'])} {where}: {plain(case['name'])}")
                out.show("".join(f"      {plain(line)}\n" for line in case["message"].splitlines()[:5]).rstrip("\n"))


def _environment(out: Output, run_id: str, environment: Json) -> None:
    state = environment["state"]
    out.show(f"environment {environment['id']} at {environment['provider']}: {coloured(state)}")
    if environment["fault"]:
        out.show(f"  {plain(environment['fault'])}")
    if state in PLACELESS:
        for line in environment["reason"].splitlines():
            out.show(f"  {plain(line)}")
    if state in GONE:
        return
    if environment["notice"] is not None:
        notice = environment["notice"]
        out.show(f"  goes at {moment(notice['at'])}: {plain(notice['reason'])}")
    rows = [
        (node["name"], node["state"], node["address"] or "", node["zone"], node["machine"], plain(node["fault"]))
        for node in environment["nodes"]
    ]
    out.table(("node", "state", "address", "zone", "machine", "fault"), rows)
    for line in wiring.of_nodes(environment["nodes"]):
        out.show(f"  {plain(line)}")
    for note in environment["notes"]:
        out.say(plain(note))
    if state == "held":
        out.show(f"  held until {moment(environment['ends_at'])}")
        out.show(f"  log in:    greenroom ssh {run_id}\n  give back: greenroom release {run_id}")


def machine_state(one: Json) -> str:
    """Its state, and until when or under which condition, where it has one."""
    if one["probation"]:
        return f"{one['state']}, on probation"
    return f"{one['state']} until {moment(one['back_at'])}" if one["back_at"] else str(one["state"])


def environments(out: Output, found: Sequence[Json]) -> None:
    rows = [
        (
            one["id"], coloured(one["state"]), plain(one["project"]), one["owner"], one["provider"],
            str(len(one["nodes"])), "" if one["state"] in GONE else moment(one["ends_at"]),
        )
        for one in found
    ]  # fmt: skip
    out.table(("environment", "state", "project", "run", "provider", "nodes", "until"), rows)


def triggers(out: Output, found: Sequence[Json]) -> None:
    now = time.time()
    rows = [
        (
            one["id"], one["state"], plain(one["project"]), one["kind"], plain(one["branch"]), one["sha"][:SHORT_SHA],
            one["run"] or plain(one["reason"]), ago(one["received_at"], now),
        )
        for one in found
    ]  # fmt: skip
    out.table(("trigger", "state", "project", "kind", "ref", "commit", "run or reason", "when"), rows)


def projects(out: Output, found: Sequence[Json]) -> None:
    rows = [
        (
            one["name"], plain(one["repository"]), one["provider"], "yes" if one["reports_status"] else "no",
            _in_use(one["quota"], "nodes"), f"{one['active_runs']} of {one['max_runs']}", moment(one["created_at"]),
        )
        for one in found
    ]  # fmt: skip
    out.table(("project", "repository", "provider", "reports status", "nodes", "runs", "since"), rows)


def _in_use(quota: Json, name: str) -> str:
    """`3 of 20`, or `3` where there is no limit."""
    limit, used = quota[name]["limit"], _amount(name, quota[name]["used"])
    return used if limit is None else f"{used} of {_amount(name, limit)}"


def _amount(name: str, value: float) -> str:
    if name == "memory_mib":
        return f"{value / 1024:g} GiB"
    return f"{value:g} GiB" if name == "disk_gib" else f"{value:g}"


def project(out: Output, one: Json) -> None:
    """Everything about one project."""
    facts = {
        "repository": one["repository"],
        "provider": one["provider"],
        "api": one["api_url"],
        "since": moment(one["created_at"]),
        "weight": f"{one['weight']:g}",
        "keys from": ", ".join(one["key_forges"]),
    }
    out.show(plain(one["name"]))
    for name, value in facts.items():
        if value:
            out.show(f"  {name:<11}{plain(value)}")
    limits = [
        (name.partition("_")[0] if name != "floating_addresses" else "floating addresses", *_limit(one["quota"], name))
        for name in one["quota"]
    ]
    out.table(("quota", "in use", "limit"), [*limits, ("runs", str(one["active_runs"]), str(one["max_runs"]))])
    if one["rules"]:
        rules(out, one["rules"])


def _limit(quota: Json, name: str) -> tuple[str, str]:
    limit = quota[name]["limit"]
    return _amount(name, quota[name]["used"]), "none" if limit is None else _amount(name, limit)


def rules(out: Output, found: Sequence[Json]) -> None:
    """The rules of a project."""
    rows = [(plain(one["name"]), plain(_matches(one["match"]) or "everything"), plain(_lays(one))) for one in found]
    out.table(("rule", "for", "says"), rows)


def _matches(match: Json) -> str:
    return ", ".join(f"{key} {' or '.join(values)}" for key, values in match.items())


def _lays(rule: Json) -> str:
    said = [f"{stance} {_matches(rule[stance])}" for stance in ("require", "forbid", "prefer") if rule[stance]]
    said += [f"apart from {', '.join(rule['apart_from'])}"] if rule["apart_from"] else []
    said += [f"at most {rule['max_per_zone']} in a zone"] if rule["max_per_zone"] else []
    return "; ".join(said)
