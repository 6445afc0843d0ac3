"""The page of `fanet demo`: one HTML file that needs nothing else, neither scripts nor a network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from papers_shared import pages
from papers_shared.pages import RGB, Curve, as_percent, chart, chips, keys


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
        classes = [(row.name.replace("_", " "), row.colour) for row in self.classes]
        scores = chart(self.miou, top=1.0, percent=True)
        charts = (
            f'<div class="charts"><figure>{chart(self.loss)}<figcaption>Loss by step{keys(self.loss)}'
            f"</figcaption></figure><figure>{scores}<figcaption>Validation mIoU by step{keys(self.miou)}"
            "</figcaption></figure></div>"
        )
        body = [
            pages.figures(self.figures),
            pages.section(
                "Scenes it never saw",
                f'<p class="chips">{chips(classes)}</p>',
                f'<p class="chips">In the error map: {chips(self.error_colours)}</p>',
                *map(_scene, self.scenes),
            ),
            pages.section("Training", charts),
            pages.section("IoU by class, test split", _table(self.classes)),
            pages.section("Go on", pages.commands(self.commands)),
        ]
        return pages.page(self.headline, self.summary, body, self.footnote)


def _scene(scene: Scene) -> str:
    pictures = [
        ("picture", scene.image),
        ("truth", scene.truth),
        ("prediction", scene.prediction),
        ("errors", scene.errors),
    ]
    caption = f"{pages.text(scene.name)} <span>mIoU {100 * scene.miou:.1f} %</span>"
    return f"<article><h3>{caption}</h3>{pages.pictures(pictures, scene.name)}</article>"


def _table(rows: Sequence[ClassRow]) -> str:
    body = ""
    for row in rows:
        bar = f"width:{100 * (row.iou or 0):.1f}%;background:{pages.css(row.colour)}"
        body += f'<tr><th scope="row">{chips([(row.name.replace("_", " "), row.colour)])}</th>'
        body += f'<td class="bar"><i style="{bar}"></i></td>'
        body += f"<td>{as_percent(row.iou)}</td><td>{as_percent(row.baseline)}</td></tr>"
    head = '<th scope="col">class</th><th class="bar"></th><th scope="col">FANet</th>'
    head += '<th scope="col">all background</th>'
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
