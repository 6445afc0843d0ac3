"""The page of `plvl demo`: one HTML file that needs nothing else, neither scripts nor a network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from papers_shared import pages
from papers_shared.pages import Curve, chart, keys


@dataclass(frozen=True)
class Example:
    """One sentence about one picture, and drawings of one size with their titles."""

    sentence: str
    miou: float
    pictures: Sequence[tuple[str, Image.Image]]


@dataclass(frozen=True)
class Page:
    headline: str
    summary: str
    figures: Sequence[tuple[str, str, str]]
    """(label, value, remark)"""
    examples: Sequence[Example]
    losses: Sequence[Curve]
    accuracies: Sequence[Curve]
    """Val Acc@0.5 as a fraction by step."""
    rows: Sequence[tuple[str, str, str, str]]
    """(figure, PLVL, language-blind, difference in points)"""
    commands: Sequence[tuple[str, str]]
    """(what it does, command)"""
    footnote: str

    def render(self) -> str:
        """The whole file."""
        accuracy = chart(self.accuracies, top=1.0, percent=True)
        charts = (
            f'<div class="charts"><figure>{chart(self.losses)}<figcaption>Loss by step{keys(self.losses)}'
            f"</figcaption></figure><figure>{accuracy}<figcaption>Validation Acc@0.5 by step"
            f"{keys(self.accuracies)}</figcaption></figure></div>"
        )
        rows = [tuple(map(pages.text, row)) for row in self.rows]
        body = [
            pages.figures(self.figures),
            pages.section("Sentences about scenes it never saw", *map(_example, self.examples)),
            pages.section("Training", charts),
            pages.section(
                "What reading is worth",
                pages.table(("figure", "PLVL", "language-blind", "points"), rows),
            ),
            pages.section("Go on", pages.commands(self.commands)),
        ]
        return pages.page(self.headline, self.summary, body, self.footnote)


def _example(example: Example) -> str:
    heading = f"{pages.text(example.sentence)} <span>mask IoU {100 * example.miou:.0f} %</span>"
    return f"<article><h3>{heading}</h3>{pages.pictures(example.pictures, example.sentence)}</article>"
