"""The page of `fanet demo`: one HTML file that needs nothing else, neither scripts nor a network."""

from __future__ import annotations

import base64
import html
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

RGB = tuple[int, int, int]
Points = Sequence[tuple[float, float]]

STYLE = Path(__file__).with_name("demo_page.css")


@dataclass(frozen=True)
class Scene:
    """One picture of the gallery, four drawings of one size."""

    name: str
    miou: float
    image: Image.Image
    truth: Image.Image
    prediction: Image.Image
    errors: Image.Image


@dataclass(frozen=True)
class Curve:
    name: str
    style: str
    """CSS class of the line: `a` (main), `faint` or `dashed`."""
    points: Points


@dataclass(frozen=True)
class ClassRow:
    """IoU as fractions; None where the class occurs neither in the truth nor in the prediction."""

    name: str
    colour: RGB
    iou: float | None
    baseline: float | None


@dataclass(frozen=True)
class Page:
    headline: str
    summary: str
    figures: Sequence[tuple[str, str, str]]
    """(label, value, remark)"""
    scenes: Sequence[Scene]
    error_colours: Sequence[tuple[str, RGB]]
    loss: Sequence[Curve]
    miou: Sequence[Curve]
    classes: Sequence[ClassRow]
    commands: Sequence[tuple[str, str]]
    """(what it does, command)"""
    footnote: str

    def render(self) -> str:
        chips = [(row.name.replace("_", " "), row.colour) for row in self.classes]
        scores = chart(self.miou, top=1.0, percent=True)
        commands = (
            f"<p>{_text(what)}</p><pre><code>{_text(line)}</code></pre>" for what, line in self.commands
        )
        return f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{_text(self.headline)}</title>
<style>{STYLE.read_text(encoding="utf-8")}</style>
<main>
<header><h1>{_text(self.headline)}</h1><p class="lead">{_text(self.summary)}</p></header>
<dl class="figures">{"".join(_figure(*figure) for figure in self.figures)}</dl>
<section><h2>Scenes it never saw</h2>
<p class="chips">{_chips(chips)}</p>
<p class="chips">In the error map: {_chips(self.error_colours)}</p>
{"".join(_scene(scene) for scene in self.scenes)}</section>
<section><h2>Training</h2><div class="charts">
<figure>{chart(self.loss)}<figcaption>Loss by step{_keys(self.loss)}</figcaption></figure>
<figure>{scores}<figcaption>Validation mIoU by step{_keys(self.miou)}</figcaption></figure>
</div></section>
<section><h2>IoU by class, test split</h2>{_table(self.classes)}</section>
<section><h2>Go on</h2>{"".join(commands)}</section>
<footer><p>{_text(self.footnote)}</p></footer>
</main>
</html>
"""


def chart(curves: Sequence[Curve], *, top: float | None = None, percent: bool = False) -> str:
    """Lines over steps as an inline SVG; the vertical axis goes from 0 to `top` (else a round number)."""
    width, height, left, bottom, pad = 420, 230, 44, 26, 10
    last = max(x for curve in curves for x, _ in curve.points)
    top = top or max(y for curve in curves for _, y in curve.points)
    y_step, x_step = _round_step(top / 4), _round_step(last / 4)
    top = math.ceil(top / y_step - 1e-9) * y_step

    def place(x: float, y: float) -> str:
        across = left + x / last * (width - left - pad)
        return f"{across:.1f},{pad + (1 - min(y, top) / top) * (height - bottom - pad):.1f}"

    parts = []
    for index in range(round(top / y_step) + 1):
        value = index * y_step
        x, y = place(0, value).split(",")
        label = f"{100 * value:.0f} %" if percent else f"{value:g}"
        parts.append(f'<line class="grid" x1="{x}" x2="{width - pad}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text x="{left - 6}" y="{y}" dy="4" text-anchor="end">{label}</text>')
    for index in range(int(last / x_step + 1e-9) + 1):
        x = place(index * x_step, 0).split(",")[0]
        parts.append(f'<text x="{x}" y="{height - 8}" text-anchor="middle">{index * x_step:g}</text>')
    for curve in curves:
        points = " ".join(place(x, y) for x, y in curve.points)
        parts.append(f'<polyline class="{curve.style}" points="{points}"/>')
        if curve.style == "a" and len(curve.points) <= 12:
            for point in points.split():
                x, y = point.split(",")
                parts.append(f'<circle class="dot" cx="{x}" cy="{y}" r="3"/>')
    names = ", ".join(curve.name for curve in curves)
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{_text(names)}">{"".join(parts)}</svg>'
    )


def _round_step(value: float) -> float:
    """The smallest of 1, 2, 2.5, 5 x 10^n that is not below `value`."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= value * (1 - 1e-9))


def _scene(scene: Scene) -> str:
    pictures = [
        ("picture", scene.image),
        ("truth", scene.truth),
        ("prediction", scene.prediction),
        ("errors", scene.errors),
    ]
    figures = "".join(
        f'<figure><img src="{_png(image)}" alt="{title} of {_text(scene.name)}" width="{image.width}"'
        f' height="{image.height}"><figcaption>{title}</figcaption></figure>'
        for title, image in pictures
    )
    caption = f"{_text(scene.name)} <span>mIoU {100 * scene.miou:.1f} %</span>"
    return f'<article><h3>{caption}</h3><div class="scene">{figures}</div></article>'


def _table(rows: Sequence[ClassRow]) -> str:
    body = ""
    for row in rows:
        bar = f"width:{100 * (row.iou or 0):.1f}%;background:{_css(row.colour)}"
        body += f'<tr><th scope="row">{_chips([(row.name.replace("_", " "), row.colour)])}</th>'
        body += f'<td class="bar"><i style="{bar}"></i></td>'
        body += f"<td>{_percent(row.iou)}</td><td>{_percent(row.baseline)}</td></tr>"
    head = '<th scope="col">class</th><th class="bar"></th><th scope="col">FANet</th>'
    head += '<th scope="col">all background</th>'
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _figure(label: str, value: str, remark: str) -> str:
    return f"<div><dt>{_text(label)}</dt><dd>{_text(value)}</dd><dd class='remark'>{_text(remark)}</dd></div>"


def _chips(chips: Sequence[tuple[str, RGB]]) -> str:
    return " ".join(
        f'<span class="chip"><i style="background:{_css(colour)}"></i>{_text(name)}</span>'
        for name, colour in chips
    )


def _keys(curves: Sequence[Curve]) -> str:
    return "".join(f'<span class="key {curve.style}">{_text(curve.name)}</span>' for curve in curves)


def _png(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _percent(fraction: float | None) -> str:
    return "absent" if fraction is None else f"{100 * fraction:.1f} %"


def _css(colour: RGB) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)


def _text(text: str) -> str:
    return html.escape(text).replace(" %", "&nbsp;%")
