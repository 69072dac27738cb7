"""Charts as SVG: axes with labels and units, a legend, and words for who cannot see them. Colours are the page's."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 900, 220
LEFT, RIGHT, TOP, BOTTOM = 86, 16, 18, 44
#: Steps of a time axis, in seconds.
STEPS_S = (60, 300, 600, 900, 1800, 3600, 7200, 10800, 14400, 21600, 43200, 86400)
#: Shades of a heat map.
SHADES = 10


@dataclass(frozen=True)
class Line:
    """One line of a chart; `kind` is the class of its colour and dashes."""

    label: str
    kind: str
    values: Sequence[float]


@dataclass(frozen=True)
class Mark:
    """Something that happened at a time."""

    at: float
    label: str


@dataclass(frozen=True)
class Times:
    """The horizontal axis: when each value was taken, and what happened."""

    at: Sequence[float]
    marks: Sequence[Mark] = ()

    def x(self, at: float) -> float:
        return LEFT + WIDTH * at / max(self.at[-1], 1.0)


def lines(title: str, unit: str, times: Times, drawn: Sequence[Line], top: float | None = None) -> str:
    """Lines over time; `top` is where the vertical axis ends, if not where the values do."""
    steps = ticks(top or max((value for line in drawn for value in line.values), default=0.0))
    body = _grid(steps, unit) + _time_axis(times, TOP + HEIGHT)
    for line in drawn:
        points = " ".join(
            f"{times.x(at):.1f},{_y(value, steps[-1]):.1f}" for at, value in zip(times.at, line.values, strict=True)
        )
        body += f'<polyline class="line {line.kind}" points="{points}"/>'
    told = "; ".join(f"{line.label}: at most {_amount(max(line.values, default=0.0))} {unit}" for line in drawn)
    return figure(title, told, TOP + HEIGHT + BOTTOM, body, _legend([(line.kind, line.label) for line in drawn]))


@dataclass(frozen=True)
class Bar:
    """One bar with what it says."""

    label: str
    kind: str
    value: float
    told: str


def bars(title: str, axis: str, groups: Sequence[tuple[str, Sequence[Bar]]], scale: Callable[[float], float]) -> str:
    """Horizontal bars in groups; `scale` maps a value to 0...1."""
    body, y, legend = "", TOP, {}
    for name, group in groups:
        body += _text(LEFT + 40, y + 11 * len(group) + 4, name, "end", "name")
        for bar in group:
            width = (WIDTH - 180) * scale(bar.value)
            body += f'<rect class="bar {bar.kind}" x="{LEFT + 50}" y="{y}" width="{max(width, 1):.1f}" height="18"/>'
            body += _text(LEFT + 56 + width, y + 13, bar.told)
            legend[bar.kind] = bar.label
            y += 22
        y += 12
    body += _text(LEFT + 50, y + 14, axis, kind="axis")
    told = "; ".join(f"{name}: " + ", ".join(f"{bar.label} {bar.told}" for bar in group) for name, group in groups)
    return figure(title, told, y + 24, body, _legend(list(legend.items()), "fill") if len(legend) > 1 else "")


def heat(title: str, times: Times, rows: Sequence[tuple[str, Sequence[float]]], told: str) -> str:
    """A row a name, a column a time: the darker, the nearer to 1."""
    height = max(7.0, min(18.0, 480 / max(1, len(rows))))
    every = math.ceil(11 / height)
    body = "".join(
        _text(LEFT - 8, TOP + at * height + height / 2 + 4, name, "end")
        for at, (name, _) in enumerate(rows)
        if at % every == 0
    )
    paths: dict[int, list[str]] = {}
    for at, (_, values) in enumerate(rows):
        for shade, begin, end in _runs(values):
            left, right = _edge(times, begin), _edge(times, end)
            cell = f"M{left:.1f} {TOP + at * height:.1f}h{right - left:.1f}v{height - 1:.1f}H{left:.1f}z"
            paths.setdefault(shade, []).append(cell)
    for shade, cells in sorted(paths.items()):
        body += f'<path class="heat" fill-opacity="{shade / SHADES:.1f}" d="{"".join(cells)}"/>'
    bottom = TOP + len(rows) * height
    return figure(title, told, bottom + BOTTOM, body + _time_axis(times, bottom), _shades())


def figure(title: str, told: str, height: float, body: str, legend: str) -> str:
    """A picture with its title and the same in words."""
    return (
        f"<figure><figcaption>{escape(title)}</figcaption>{legend}"
        f'<svg viewBox="0 0 {LEFT + WIDTH + RIGHT} {height:.0f}" role="img">'
        f"<title>{escape(title)}</title><desc>{escape(told)}</desc>{body}</svg></figure>\n"
    )


def _runs(values: Sequence[float]) -> Iterator[tuple[int, int, int]]:
    """Shade, first and behind last column of neighbours that look the same; what is empty is left out."""
    shades = [min(SHADES, round(value * SHADES)) for value in values]
    begin = 0
    for at in range(1, len(shades) + 1):
        if at == len(shades) or shades[at] != shades[begin]:
            if shades[begin]:
                yield shades[begin], begin, at
            begin = at


def _edge(times: Times, column: int) -> float:
    """Where a column begins: at its time; the last one ends with the axis."""
    return times.x(times.at[min(column, len(times.at) - 1)])


def _legend(entries: Sequence[tuple[str, str]], form: str = "stroke") -> str:
    keys = "".join(f'<span class="key {form} {kind}"><i></i>{escape(label)}</span>' for kind, label in entries)
    return f'<div class="legend" aria-hidden="true">{keys}</div>'


def _shades() -> str:
    steps = "".join(f'<i style="opacity:{shade / SHADES:.1f}"></i>' for shade in range(1, SHADES + 1))
    return f'<div class="legend" aria-hidden="true">0 % <span class="shades">{steps}</span> 100 %</div>'


def _y(value: float, top: float) -> float:
    return TOP + HEIGHT * (1 - min(value, top) / top)


def _grid(steps: Sequence[float], unit: str) -> str:
    body = ""
    for tick in steps:
        y = _y(tick, steps[-1])
        body += f'<path class="grid" d="M{LEFT} {y:.1f}H{LEFT + WIDTH}"/>'
        body += _text(LEFT - 8, y + 4, _amount(tick), "end")
    turned = f'transform="translate(18 {TOP + HEIGHT / 2}) rotate(-90)" text-anchor="middle"'
    return f'{body}<text class="axis" {turned}>{escape(unit)}</text>'


def _time_axis(times: Times, y: float) -> str:
    last = times.at[-1]
    step = next((step for step in STEPS_S if last / step <= 12), STEPS_S[-1])
    body = f'<path class="frame" d="M{LEFT} {y:.1f}H{LEFT + WIDTH}"/>'
    for tick in range(int(last // step) + 1):
        x = times.x(tick * step)
        body += f'<path class="frame" d="M{x:.1f} {y:.1f}v5"/>'
        body += _text(x, y + 18, clock(tick * step), "middle")
    for number, mark in enumerate(times.marks, 1):
        x = times.x(mark.at)
        body += f'<path class="mark" d="M{x:.1f} {TOP}V{y:.1f}"><title>{escape(mark.label)}</title></path>'
        body += _text(x, TOP - 4, str(number), "middle", "mark")
    return body + _text(LEFT + WIDTH / 2, y + 36, "time, h:mm", "middle", "axis")


def _text(x: float, y: float, text: str, anchor: str = "start", kind: str = "") -> str:
    shown = f' class="{kind}"' if kind else ""
    return f'<text{shown} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def clock(seconds: float) -> str:
    """`h:mm` of virtual time."""
    return f"{int(seconds // 3600)}:{int(seconds % 3600 // 60):02d}"


def ticks(top: float) -> list[float]:
    """Round numbers from 0 to at least `top`."""
    raw = max(top, 1e-9) / 4
    power = 10 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * (1 - 1e-9))
    return [step * number for number in range(math.ceil(top / step - 1e-9) + 1)] if top > 0 else [0.0, 1.0]


def _amount(value: float) -> str:
    return f"{value:,.0f}" if value == round(value) or value >= 100 else f"{value:.3g}"
