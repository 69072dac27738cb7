"""One page of HTML with the result of a simulation; it loads nothing from anywhere, in the light and in the dark."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from pipeline.domain.blueprint import Priority
from pipeline.domain.durations import format_duration
from pipeline.simulation import charts
from pipeline.simulation.charts import Bar, Line, Mark, Times
from pipeline.simulation.scenario import Bad, Outage, Scenario, Storm, Subject
from pipeline.simulation.tally import Tally
from pipeline.simulation.telling import rows, seconds

#: Marks on the time axis: more of them hide what they mark.
MOST_MARKS = 12
_STYLE = """
:root{--ink:#1f2933;--soft:#52606d;--paper:#fff;--tile:#f3f5f8;--rule:#d5dbe3;--a:#1d5fd1;--b:#b45309;--c:#0f7b5f;
--heat:#123c8c;--mark:#a3162e;--bad:#a3162e}
@media(prefers-color-scheme:dark){:root{--ink:#e6eaf0;--soft:#a3b0bf;--paper:#14181e;--tile:#1f262f;--rule:#38424f;
--a:#78aefc;--b:#f5b04c;--c:#4fd1a5;--heat:#8fbcff;--mark:#ff8a9a;--bad:#ff8a9a}}
:root{color-scheme:light dark}
body{font:15px/1.5 system-ui,sans-serif;max-width:1060px;margin:2rem auto;padding:0 1rem;color:var(--ink);
background:var(--paper)}
h1{font-size:1.6rem;margin:0}h2{font-size:1.15rem;margin:2rem 0 .5rem}p{color:var(--soft);margin:.2rem 0 1rem}
.tiles{display:grid;grid-template-columns:repeat(auto-fill,minmax(190px,1fr));gap:.7rem;padding:0;margin:1rem 0}
.tiles div{background:var(--tile);border-radius:8px;padding:.7rem .9rem}
dt{color:var(--soft);font-size:.85rem}dd{margin:0;font-size:1.35rem;font-weight:600}dd small{font-size:.8rem;
font-weight:400;color:var(--soft);display:block}.bad dd{color:var(--bad)}
figure{margin:1.8rem 0}figcaption{font-weight:600}svg{width:100%;height:auto}
text{font-size:12px;fill:var(--soft)}text.name{fill:var(--ink);font-size:13px}text.axis{font-size:12px}
.grid{stroke:var(--rule);stroke-width:.7;fill:none}.frame{stroke:var(--soft);fill:none}
.line{fill:none;stroke-width:2;stroke-linejoin:round}.a{stroke:var(--a)}.b{stroke:var(--b);stroke-dasharray:7 3}
.c{stroke:var(--c);stroke-dasharray:2 3}.bar{stroke:none}.bar.a{fill:var(--a)}.bar.b{fill:var(--b)}.bar.c{fill:var(--c)}
.heat{fill:var(--heat)}path.mark{stroke:var(--mark);stroke-dasharray:3 3;fill:none}text.mark{fill:var(--mark);
font-weight:600}
.legend{font-size:.85rem;color:var(--soft);margin:.1rem 0 .3rem}.key{margin-right:1.2rem}
.key i{display:inline-block;width:22px;height:0;border-top:3px solid;vertical-align:middle;margin-right:.4rem}
.key.a i{border-color:var(--a)}.key.b i{border-color:var(--b)}.key.c i{border-color:var(--c)}
.key.stroke.b i{border-top-style:dashed}.key.stroke.c i{border-top-style:dotted}.key.fill i{border-top-width:11px}
.shades i{display:inline-block;width:16px;height:11px;background:var(--heat)}
table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.3rem .8rem .3rem 0;vertical-align:top;
border-bottom:1px solid var(--rule)}th{font-weight:600;white-space:nowrap}ol{color:var(--soft);padding-left:1.4rem}
"""


def page(scenario: Scenario, tally: Tally, summary: Mapping[str, Any], speed: Mapping[str, float]) -> str:
    """The whole page."""
    title = f"Greenroom simulation: {escape(scenario.name)}"
    times = Times([sample.at for sample in tally.samples], _marks(scenario))
    body = (
        f"<header><h1>{title}</h1><p>{escape(_about(scenario))}</p></header>"
        f"<main>{_tiles(summary, speed)}<h2>What happened</h2>{_happened(scenario, times.marks)}"
        f"{_charts(scenario, tally, times)}<h2>All figures</h2>{_table(summary, speed)}</main>"
    )
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">'
    return (
        f'<!doctype html>\n<html lang="en"><head>{head}<title>{title}</title><style>{_STYLE}</style></head>'
        f"<body>{body}</body></html>\n"
    )


def _about(scenario: Scenario) -> str:
    inventory = scenario.inventory
    return (
        f"{format_duration(scenario.lasts_s)} of virtual time on {len(inventory.machines)} machines in "
        f"{len(inventory.zones)} zones, for {len(scenario.projects)} projects; seed {scenario.seed}"
    )


def _marks(scenario: Scenario) -> list[Mark]:
    found = []
    for event in sorted(scenario.events, key=lambda event: event.at):
        if isinstance(event, Storm):
            found.append(Mark(event.at, f"{event.runs} runs arrive within {format_duration(event.over_s)}"))
        elif isinstance(event, Outage):
            count = len(event.machines)
            what = next(iter(event.machines)) if count == 1 else f"{count} machines"
            found.append(Mark(event.at, f"{what}: {event.why}, back after {format_duration(event.back_s)}"))
        elif isinstance(event, Bad):
            whose = "on" if event.subject is Subject.MACHINE else f"of {event.subject}"
            found.append(Mark(event.at, f"every build {whose} {', '.join(event.names)} fails"))
    return found[:MOST_MARKS]


def _happened(scenario: Scenario, marks: Sequence[Mark]) -> str:
    deaths = f"Of all machines, {scenario.deaths.per_hour:g} an hour die by chance."
    usual = "The usual load." if not scenario.deaths.per_hour else f"The usual load. {deaths}"
    told = "".join(f"<li>{charts.clock(mark.at)} {escape(mark.label)}</li>" for mark in marks)
    return f"<p>{usual}</p><ol>{told}</ol>" if marks else f"<p>{usual}</p>"


def _tiles(summary: Mapping[str, Any], speed: Mapping[str, float]) -> str:
    runs, use, hot, fair = summary["runs"], summary["utilisation"], summary["hot_spots"], summary["fairness"]
    waits = summary["waiting_s"]
    broken = (
        summary["guaranteed_wrongly_refused"] + summary["overbooked_machines"] + sum(summary["broken_rules"].values())
    )
    tiles = [
        ("Runs placed", f"{runs['placed']:,}", f"{runs['waiting']:,} wait at the end"),
        (
            "Placements/s",
            f"{speed['placements_per_s']:,.0f}",
            f"{speed['nodes_per_s']:,.0f} nodes/s, in real time",
        ),
        ("vCPU promised", f"{use['vcpu_mean']:.0%}", f"on average; {use['vcpu_peak']:.0%} at most"),
        *(
            (f"Waiting, {priority}", seconds(one["p95"]), f"95 of 100 at most; longest {seconds(one['max'])}")
            for priority, one in waits.items()
        ),
        ("Fairness", f"{fair['jain']:.3f}" if fair["contended_s"] else "-", "1 is even; while several projects wait"),
        ("Preemptions", f"{sum(summary['preemptions'].values()):,}", "environments taken back for guaranteed ones"),
        ("Hot spots", f"{hot['machine_samples']:,}", f"of {hot['of_samples']:,} measurements of machines"),
        ("Promises broken", f"{broken:,}", "overbooked, a rule broken, or wrongly refused"),
    ]
    shown = "".join(
        f"<div{_bad(name, broken)}><dt>{escape(name)}</dt><dd>{escape(value)}<small>{escape(what)}</small></dd></div>"
        for name, value, what in tiles
    )
    return f'<dl class="tiles">{shown}</dl>'


def _bad(name: str, broken: int) -> str:
    return ' class="bad"' if broken and name == "Promises broken" else ""


def _charts(scenario: Scenario, tally: Tally, times: Times) -> str:
    samples = tally.samples
    use = [
        Line("vCPU", "a", [100 * one.vcpu for one in samples]),
        Line("memory", "b", [100 * one.memory for one in samples]),
    ]
    waiting = [
        Line(str(priority), kind, [float(one.waiting.get(priority, 0)) for one in samples])
        for priority, kind in zip(Priority, "abc", strict=True)
    ]
    drawn = [
        charts.lines("Promised of what is usable", "% of usable", times, use, 100.0),
        charts.lines("Runs that wait, by priority", "runs", times, waiting),
        _waits(tally),
        _refusals(tally),
    ]
    if tally.measured:
        hot = [Line("hot machines", "a", [float(one.hot) for one in samples])]
        drawn.append(charts.lines("Machines above their limit of real load", "machines", times, hot))
    return "".join(drawn) + _zones(scenario, tally, times)


def _waits(tally: Tally) -> str:
    summary = tally.summary()["waiting_s"]
    top = max([one["max"] for one in summary.values()], default=1.0)
    groups = [
        (
            str(priority),
            [
                Bar(label, kind, one[key], seconds(one[key]))
                for key, label, kind in (("median", "median", "a"), ("p95", "95 of 100", "b"), ("max", "longest", "c"))
            ],
        )
        for priority, one in summary.items()
    ]
    return charts.bars(
        "Waiting for a place, by priority", "time, logarithmic", groups, lambda one: math.log1p(one) / math.log1p(top)
    )


def _refusals(tally: Tally) -> str:
    if not tally.refusals:
        return ""
    most = tally.refusals.most_common(8)
    groups = [(reason[:40], [Bar("runs", "a", count, f"{count:,} runs")]) for reason, count in most]
    return charts.bars("Runs refused at first, by reason", "runs", groups, lambda one: one / most[0][1])


def _zones(scenario: Scenario, tally: Tally, times: Times) -> str:
    zones = [
        (zone.name, [sample.zones[at] for sample in tally.samples]) for at, zone in enumerate(scenario.inventory.zones)
    ]
    fullest = max(zones, key=lambda zone: max(zone[1]))
    told = f"a row for each of {len(zones)} zones; the fullest was {fullest[0]} with {max(fullest[1]):.0%}"
    return charts.heat("Promised vCPU of each zone", times, zones, told)


def _table(summary: Mapping[str, Any], speed: Mapping[str, float]) -> str:
    told = "".join(
        f"<tr><th scope='row'>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in rows(summary, speed)
    )
    return f"<table><tbody>{told}</tbody></table>"
