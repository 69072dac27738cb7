"""One page of HTML with charts in it; it loads nothing from anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from pipeline.domain.blueprint import Priority
from pipeline.simulation.tally import Sample, Tally, spread

WIDTH, HEIGHT, LEFT = 860, 200, 60
COLOURS = ("#2563eb", "#d97706", "#059669")
Line = tuple[str, str, Sequence[float]]


def page(name: str, zones: Sequence[str], tally: Tally, text: str) -> str:
    """The whole page; `text` is what the command printed."""
    samples = tally.samples
    charts = [
        _chart("Promised share of what is usable", samples, _utilisation(samples), unit="%"),
        _chart("Runs that wait, by priority", samples, _queues(samples)),
        _waits(tally),
        _zones(samples, zones),
    ]
    title = f"Greenroom simulation: {escape(name)}"
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        "<style>body{font:14px sans-serif;max-width:960px;margin:2em auto}svg{width:100%}text{font-size:11px}</style>"
        f"<h1>{title}</h1><pre>{escape(text)}</pre>{''.join(charts)}</html>\n"
    )


def _utilisation(samples: Sequence[Sample]) -> list[Line]:
    return [
        ("vcpu", COLOURS[0], [100 * one.vcpu for one in samples]),
        ("memory", COLOURS[1], [100 * one.memory for one in samples]),
    ]


def _queues(samples: Sequence[Sample]) -> list[Line]:
    return [
        (str(priority), colour, [float(one.waiting.get(priority, 0)) for one in samples])
        for priority, colour in zip(Priority, COLOURS, strict=True)
    ]


def _figure(title: str, height: int, body: str) -> str:
    picture = f'<svg viewBox="0 0 {WIDTH + LEFT + 20} {height + 30}" role="img" aria-label="{escape(title)}">'
    return f"<h2>{escape(title)}</h2>{picture}{body}</svg>"


def _chart(title: str, samples: Sequence[Sample], lines: Sequence[Line], unit: str = "") -> str:
    top = max((value for _, _, values in lines for value in values), default=0.0) or 1.0
    last = max(samples[-1].at, 1.0)
    body = f'<path d="M{LEFT} 0V{HEIGHT}H{LEFT + WIDTH}" fill="none" stroke="#999"/>'
    body += f'<text x="0" y="10">{top:.0f}{unit}</text><text x="0" y="{HEIGHT}">0</text>{_hours(last, HEIGHT)}'
    for number, (label, colour, values) in enumerate(lines):
        points = " ".join(
            f"{LEFT + WIDTH * one.at / last:.1f},{HEIGHT - HEIGHT * value / top:.1f}"
            for one, value in zip(samples, values, strict=True)
        )
        body += f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5"/>'
        body += f'<text x="{LEFT + 10 + 110 * number}" y="12" fill="{colour}">{label}</text>'
    return _figure(title, HEIGHT, body)


def _hours(last: float, height: int) -> str:
    marks = [last * part / 4 for part in range(5)]
    return "".join(
        f'<text x="{LEFT + WIDTH * at / last - 8:.0f}" y="{height + 16}">{at / 3600:.1f} h</text>' for at in marks
    )


def _waits(tally: Tally) -> str:
    body, y = "", 0
    waits = {priority: spread(tally.waits[priority]) for priority in Priority if tally.waits[priority]}
    top = max((one["max"] for one in waits.values()), default=1.0) or 1.0
    for priority, one in waits.items():
        for key, colour in zip(("median", "p95", "max"), COLOURS, strict=True):
            width = (WIDTH - 200) * one[key] / top
            body += f'<rect x="140" y="{y + 3}" width="{width:.1f}" height="12" fill="{colour}"/>'
            body += f'<text x="0" y="{y + 13}">{priority} {key}</text>'
            body += f'<text x="{145 + width:.1f}" y="{y + 13}">{one[key]:.1f} s</text>'
            y += 18
    return _figure("Waiting time", y, body)


def _zones(samples: Sequence[Sample], zones: Sequence[str]) -> str:
    """A row a zone, a column a sample: the darker, the more of its vcpu is promised."""
    row, width = 10, WIDTH / len(samples)
    body = ""
    for z, name in enumerate(zones):
        body += f'<text x="0" y="{z * row + 9}">{escape(name)}</text>'
        for n, sample in enumerate(samples):
            share = min(1.0, sample.zones[z])
            body += (
                f'<rect x="{LEFT + n * width:.1f}" y="{z * row}" width="{width:.1f}" height="{row - 1}" '
                f'fill="#1e3a8a" fill-opacity="{share:.2f}"/>'
            )
    return _figure("Promised vcpu of each zone", len(zones) * row, body)
