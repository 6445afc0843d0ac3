"""One HTML file that needs nothing else, neither scripts nor a network: the shell and its parts."""

from __future__ import annotations

import base64
import html
import io
import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from papers_shared.errors import UserError
from papers_shared.files import check_writable

RGB = tuple[int, int, int]
Points = Sequence[tuple[float, float]]

STYLE = Path(__file__).with_name("pages.css")


@dataclass(frozen=True)
class Curve:
    name: str
    style: str
    """CSS class of the line: `a` (main), `faint` or `dashed`."""
    points: Points


def page(headline: str, lead: str, body: Iterable[str], footnote: str) -> str:
    """The whole file.

    Args:
        lead: Plain text under the headline; so is `footnote`, at the end.
        body: HTML between them.
    """
    return f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{text(headline)}</title>
<style>{STYLE.read_text(encoding="utf-8")}</style>
<main>
<header><h1>{text(headline)}</h1><p class="lead">{text(lead)}</p></header>
{"".join(body)}
<footer><p>{text(footnote)}</p></footer>
</main>
</html>
"""


def check_page(path: Path, headline: str) -> None:
    """Refuse, before the work, a file that could not be written or that holds anything but a page of this headline.

    Raises:
        UserError: It says which file.
    """
    check_writable(path)
    if path.is_file() and f"<h1>{text(headline)}</h1>" not in path.read_text(
        encoding="utf-8", errors="replace"
    ):
        raise UserError(f"{path} exists and is no page of this command: name another --output")


def section(title: str, *parts: str) -> str:
    """A heading (plain text) and HTML under it."""
    return f"<section><h2>{text(title)}</h2>{''.join(parts)}</section>"


def numbers(entries: Iterable[tuple[str, str, str]]) -> str:
    """Large numbers in a row: (label, value, note)."""
    return f'<dl class="numbers">{"".join(_number(*entry) for entry in entries)}</dl>'


def images(titled: Sequence[tuple[str, Image.Image]], about: str, *, lossy: bool = False) -> str:
    """Images of one size in a row, each with its title; `about` completes what a screen reader says.

    Args:
        lossy: JPEG in place of PNG: photographs then take a tenth of the bytes.
    """
    source = jpeg if lossy else png
    parts = (
        f'<figure><img src="{source(image)}" alt="{text(title)} of {text(about)}" width="{image.width}"'
        f' height="{image.height}"><figcaption>{text(title)}</figcaption></figure>'
        for title, image in titled
    )
    return f'<div class="scene" style="--columns:{len(titled)}">{"".join(parts)}</div>'


def commands(entries: Iterable[tuple[str, str]]) -> str:
    """(what it does, command), the command to be copied."""
    return "".join(f"<p>{text(what)}</p><pre><code>{text(line)}</code></pre>" for what, line in entries)


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, words: Collection[int] = ()) -> str:
    """Cells are HTML; the first of each row is its heading.

    Args:
        words: Numbers of the columns, beside the first, that hold words: on the left; numbers stand on the right.
    """
    side = [' class="words"' if number in words else "" for number in range(len(head))]
    top = "".join(f'<th scope="col"{own}>{cell}</th>' for cell, own in zip(head, side, strict=True))
    body = "".join(
        f'<tr><th scope="row">{first}</th>'
        + "".join(f"<td{own}>{cell}</td>" for cell, own in zip(rest, side[1:], strict=True))
        + "</tr>"
        for first, *rest in rows
    )
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


def chart(curves: Sequence[Curve], *, top: float | None = None, percent: bool = False) -> str:
    """Lines over steps as an inline SVG; the vertical axis goes from 0 to `top` (else a round number)."""
    width, height, left, bottom, pad = 420, 230, 44, 26, 14
    last = max(x for curve in curves for x, _ in curve.points)
    top = top or max(y for curve in curves for _, y in curve.points)
    y_step, x_step = _round_step(top / 4), _round_step(last / 4)
    top = math.ceil(top / y_step - 1e-9) * y_step

    def position(x: float, y: float) -> str:
        across = left + x / last * (width - left - pad)
        return f"{across:.1f},{pad + (1 - min(y, top) / top) * (height - bottom - pad):.1f}"

    parts = []
    for index in range(round(top / y_step) + 1):
        value = index * y_step
        x, y = position(0, value).split(",")
        label = f"{100 * value:.0f} %" if percent else f"{value:g}"
        parts.append(f'<line class="grid" x1="{x}" x2="{width - pad}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text x="{left - 6}" y="{y}" dy="4" text-anchor="end">{label}</text>')
    for index in range(int(last / x_step + 1e-9) + 1):
        x = position(index * x_step, 0).split(",")[0]
        parts.append(f'<text x="{x}" y="{height - 8}" text-anchor="middle">{index * x_step:g}</text>')
    for curve in curves:
        points = " ".join(position(x, y) for x, y in curve.points)
        parts.append(f'<polyline class="{curve.style}" points="{points}"/>')
        if curve.style == "a" and len(curve.points) <= 12:
            for point in points.split():
                x, y = point.split(",")
                parts.append(f'<circle class="dot" cx="{x}" cy="{y}" r="3"/>')
    names = ", ".join(curve.name for curve in curves)
    return f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{text(names)}">{"".join(parts)}</svg>'


def smooth(points: Points, share: float = 0.15) -> list[tuple[float, float]]:
    """Exponential moving average, corrected for its start."""
    smoothed, total, weight = [], 0.0, 0.0
    for step, value in points:
        total = (1 - share) * total + share * value
        weight = (1 - share) * weight + share
        smoothed.append((step, total / weight))
    return smoothed


def _round_step(value: float) -> float:
    """The smallest of 1, 2, 2.5, 5 x 10^n that is not below `value`."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= value * (1 - 1e-9))


def _number(label: str, value: str, note: str) -> str:
    return f"<div><dt>{text(label)}</dt><dd>{text(value)}</dd><dd class='note'>{text(note)}</dd></div>"


def chips(entries: Sequence[tuple[str, RGB]]) -> str:
    """Names, each behind a square of its colour."""
    return " ".join(
        f'<span class="chip"><i style="background:{css(colour)}"></i>{text(name)}</span>'
        for name, colour in entries
    )


def keys(curves: Sequence[Curve]) -> str:
    """The legend of a chart."""
    return "".join(f'<span class="key {curve.style}">{text(curve.name)}</span>' for curve in curves)


def png(image: Image.Image) -> str:
    """An image as the address of itself."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def jpeg(image: Image.Image) -> str:
    """An image as the address of itself, lossy."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=88, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def as_percent(fraction: float | None) -> str:
    return "absent" if fraction is None else f"{100 * fraction:.1f} %"


def css(colour: RGB) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)


def text(plain: str) -> str:
    """Plain text as HTML."""
    return html.escape(plain).replace(" %", "&nbsp;%")
