"""A morning report as one page of HTML; it loads nothing from anywhere, in the light and in the dark."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from pipeline.api.morning_text import CUT, NOTHING, counts, headline, title, why_not
from pipeline.domain.moments import to_the_minute
from pipeline.domain.mornings import MorningReport, ServiceReport, Slow

_STYLE = """
:root{--ink:#1f2933;--soft:#52606d;--paper:#fff;--rule:#d5dbe3;--bad:#a3162e;--good:#0f7b5f;color-scheme:light dark}
@media(prefers-color-scheme:dark){:root{--ink:#e6eaf0;--soft:#a3b0bf;--paper:#14181e;--rule:#38424f;--bad:#ff8a9a;
--good:#4fd1a5}}
body{font:15px/1.5 system-ui,sans-serif;max-width:1060px;margin:2rem auto;padding:0 1rem;color:var(--ink);
background:var(--paper)}
h1{font-size:1.5rem;margin:0}h2{font-size:1.15rem;margin:2.2rem 0 .2rem}h3{font-size:.95rem;margin:1rem 0 .2rem}
p{color:var(--soft);margin:.2rem 0}.bad{color:var(--bad)}.good{color:var(--good)}
table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.25rem .8rem .25rem 0;vertical-align:top;
border-bottom:1px solid var(--rule);overflow-wrap:anywhere}th{font-weight:600;color:var(--soft)}
"""
Row = Sequence[str]


def page(report: MorningReport) -> str:
    """The whole page; every text of others is escaped in `_table` or where it is put in."""
    left = "".join(f'<li class="bad">{escape(why_not(one))}</li>' for one in report.not_started)
    body = f"<h2>Not started</h2><ul>{left}</ul>" if left else ""
    body += "".join(_section(service) for service in report.services) or f"<p>{NOTHING}</p>"
    end = "" if report.whole else f"<p>{CUT}</p>"
    when = f"{to_the_minute(report.since)} to {to_the_minute(report.until)}"
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">'
    return (
        f'<!doctype html><html lang="en"><head>{head}<title>{escape(headline(report))}</title>'
        f"<style>{_STYLE}</style></head><body><header><h1>{escape(headline(report))}</h1><p>{escape(when)}</p></header>"
        f"<main>{body}{end}</main></body></html>\n"
    )


def _section(service: ServiceReport) -> str:
    mood = "bad" if service.bad_runs else "good" if service.runs else ""
    return "".join(
        (
            f"<section><h2>{escape(title(service))}</h2>",
            f'<p class="{mood}">{escape(counts(service))}</p>',
            _table("Not passed", ("run", "verdict", "branch", "commit", "reason"), _bad_runs(service)),
            _table("New failures", ("test", "branch", "since", "commit", "passed in", "message"), _failures(service)),
            _table("Flaky tests", ("test", "passed", "failed", "why"), _flaky(service)),
            _table("Slowest tests", ("test", "seconds", "run"), _slow(service.slowest_tests)),
            _table("Slowest stages", ("stage", "seconds", "run"), _slow(service.slowest_stages)),
            "</section>",
        )
    )


def _bad_runs(service: ServiceReport) -> Iterable[Row]:
    return ((one.run, one.verdict, one.branch, one.sha[:10], one.reason) for one in service.bad_runs)


def _failures(service: ServiceReport) -> Iterable[Row]:
    return ((one.test, one.branch, one.run, one.sha[:10], one.passed_in, one.message) for one in service.new_failures)


def _flaky(service: ServiceReport) -> Iterable[Row]:
    return ((one.test, str(one.passed), str(one.failed), one.why) for one in service.flaky)


def _slow(slow: Sequence[Slow]) -> Iterable[Row]:
    return ((one.name, f"{one.seconds:.1f}", one.run) for one in slow)


def _table(head: str, columns: Row, rows: Iterable[Row]) -> str:
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    if not body:
        return ""
    names = "".join(f'<th scope="col">{escape(name)}</th>' for name in columns)
    return f"<h3>{escape(head)}</h3><table><thead><tr>{names}</tr></thead><tbody>{body}</tbody></table>"
