"""Plots as inline SVG: time against size beside the ideal slope, and ratios on one axis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from papers_shared.pages import text

COLOURS = (
    "var(--accent)", "#c2571a", "#6a5acd", "#9a7d0a", "#b03060", "#3d7ab5", "#5b8c3a", "#e377c2", "#8d6248", "#17a2d4",
    "#8fbf00",
)  # fmt: skip
"""As many as a package has networks, compiled ones counted; the first is the package's own."""
STYLE = """<style>
.plot polyline { stroke-width: 2; } .plot .ideal { stroke: var(--soft); stroke-width: 1.2; stroke-dasharray: 5 4; }
.ratio { stroke-width: 5; stroke-linecap: round; } .one { stroke: var(--soft); stroke-width: 1.2; }
.legend { display: flex; flex-wrap: wrap; gap: 2px 14px; font-size: .82rem; color: var(--soft); margin: .4em 0 0; }
.legend i { display: inline-block; width: 1.3em; border-top: 3px solid; vertical-align: middle; margin-right: .4em; }
.legend i.ideal { border-top: 2px dashed var(--soft); }
.met { color: #2e8b57; font-weight: 600; } .missed { color: #c0392b; font-weight: 600; }
.wide { overflow-x: auto; } .wide td, .wide th { white-space: normal; vertical-align: top; }
.prose tr > :last-child { min-width: 20em; }
.wide td:nth-child(2), .targets td { white-space: nowrap; }
figure h3 { margin: 0 0 .6em; }
</style>"""


@dataclass(frozen=True)
class Line:
    name: str
    points: Sequence[tuple[float, float, float, float]]
    """Size, median, smallest and largest round."""


def growth(lines: Sequence[Line], exponent: float, across: str, unit: str, names: Sequence[str]) -> str:
    """Both axes logarithmic; dashed: the first line's smallest size times size^exponent. Bars: the rounds.

    Args:
        names: Of the package's networks, in the order of their colours.
    """
    width, height, left, bottom, pad, top = 420, 260, 54, 40, 18, 22
    sizes = sorted({point[0] for line in lines for point in line.points})
    first = lines[0].points[0]
    ideal = [(size, first[1] * (size / first[0]) ** exponent) for size in (sizes[0], sizes[-1])]
    values = [value for line in lines for point in line.points for value in point[1:]]
    values += [value for _, value in ideal]
    low, high = math.log10(min(values)) - 0.05, math.log10(max(values)) + 0.05
    start, end = math.log(sizes[0]), math.log(sizes[-1] if len(sizes) > 1 else 2 * sizes[0])

    def place(size: float, value: float) -> tuple[float, float]:
        x = left + (math.log(size) - start) / (end - start) * (width - left - pad)
        return x, top + (high - math.log10(value)) / (high - low) * (height - bottom - top)

    parts = []
    for tick in _ticks(10**low, 10**high):
        y = place(sizes[0], tick)[1]
        parts.append(f'<line class="grid" x1="{left}" x2="{width - pad}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{left - 6}" y="{y:.1f}" dy="4" text-anchor="end">{tick:g}</text>')
    for size in sizes:
        x = place(size, 10**low)[0]
        parts.append(f'<text x="{x:.1f}" y="{height - 22}" text-anchor="middle">{size:g}</text>')
    parts.append(
        f'<text x="{(left + width) / 2}" y="{height - 4}" text-anchor="middle">{text(across)}</text>'
    )
    parts.append(f'<text x="4" y="12">{text(unit)}</text>')
    parts.append(f'<polyline class="ideal" points="{_points([place(*point) for point in ideal])}"/>')
    for line in lines:
        colour = colour_of(line.name, names)
        places = [place(point[0], point[1]) for point in line.points]
        parts.append(f'<polyline style="stroke:{colour}" points="{_points(places)}"/>')
        for (x, y), (size, _, least, most) in zip(places, line.points, strict=True):
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" style="fill:{colour}"/>')
            over, under = place(size, most)[1], place(size, least)[1]
            parts.append(
                f'<line style="stroke:{colour}" x1="{x:.1f}" x2="{x:.1f}" y1="{over:.1f}" y2="{under:.1f}"/>'
            )
    about = text(f"{across}: {', '.join(line.name for line in lines)}")
    marks = "".join(_mark(line.name, names) for line in lines)
    return (
        f'<svg class="plot" viewBox="0 0 {width} {height}" role="img" aria-label="{about}">{"".join(parts)}</svg>'
        f'<p class="legend">{marks}<span><i class="ideal"></i>ideal slope</span></p>'
    )


@dataclass(frozen=True)
class Ratio:
    name: str
    median: float
    low: float
    high: float


def ratios(rows: Sequence[tuple[str, Sequence[Ratio]]], names: Sequence[str]) -> str:
    """A row for each case, a mark for each peer with the range of its rounds; the line stands at 1.

    Args:
        names: Of the package's networks, in the order of their colours.
    """
    values = [value for _, row in rows for ratio in row for value in (ratio.low, ratio.high)]
    low, high = math.log(min(0.5, *values)), math.log(max(2.0, *values) * 1.05)
    width, left, step, pad = 860, 330, 12, 26

    def across(value: float) -> float:
        return left + (math.log(value) - low) / (high - low) * (width - left - 60)

    parts, y = [], float(pad)
    for title, row in rows:
        parts.append(
            f'<text x="{left - 12}" y="{y + step * len(row) / 2:.1f}" dy="4" text-anchor="end">{text(title)}</text>'
        )
        for ratio in row:
            colour, y = colour_of(ratio.name, names), y + step
            x = across(ratio.median)
            label = text(f"{ratio.name}: {ratio.median:.2f} ({ratio.low:.2f} to {ratio.high:.2f})")
            parts.append(
                f'<line class="ratio" style="stroke:{colour};opacity:.35" x1="{across(ratio.low):.1f}" '
                f'x2="{across(ratio.high):.1f}" y1="{y - 6:.1f}" y2="{y - 6:.1f}"/>'
                f'<circle cx="{x:.1f}" cy="{y - 6:.1f}" r="4" style="fill:{colour}"><title>{label}</title></circle>'
                f'<text x="{across(ratio.high) + 9:.1f}" y="{y - 6:.1f}" dy="4" style="font-size:10px">'
                f"{ratio.median:.2f}</text>"
            )
        y += 8
    height = y + 6
    ticks = [tick for tick in (0.125, 0.25, 0.5, 1, 2, 4, 8, 16, 32) if low <= math.log(tick) <= high]
    axis = [
        f'<line class="{"one" if tick == 1 else "grid"}" x1="{across(tick):.1f}" x2="{across(tick):.1f}" y1="20" '
        f'y2="{height:.1f}"/><text x="{across(tick):.1f}" y="13" text-anchor="middle">{tick:g}</text>'
        for tick in ticks
    ]
    shown = {ratio.name for _, row in rows for ratio in row}
    marks = "".join(_mark(name, names) for name in names if name in shown)
    return (
        f'<svg class="plot" viewBox="0 0 {width} {height:.0f}" role="img" aria-label="ratios to peers">'
        f'{"".join(axis)}{"".join(parts)}</svg><p class="legend">{marks}</p>'
    )


def colour_of(name: str, names: Sequence[str]) -> str:
    return COLOURS[names.index(name) % len(COLOURS)]


def _mark(name: str, names: Sequence[str]) -> str:
    return f'<span><i style="border-color:{colour_of(name, names)}"></i>{text(name)}</span>'


def _points(places: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in places)


def _ticks(low: float, high: float) -> list[float]:
    """1, 2, 5 x 10^n between the two; powers of ten alone where that were many, two digits where there is none."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found = [factor * 10.0**power for power in powers for factor in (1, 2, 5)]
    inside = [value for value in found if low <= value <= high]
    if not inside:
        return sorted({float(f"{low:.2g}"), float(f"{high:.2g}")})
    return inside if len(inside) <= 8 else [10.0**power for power in powers if low <= 10.0**power <= high]
