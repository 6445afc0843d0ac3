"""A page of tables, once as Markdown and once as one HTML file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from papers_shared import pages

Rows = Sequence[Sequence[str]]
LONG = 28
"""Characters of a cell that stays on one line."""
FRAME = "overflow-x:auto;margin:.6em 0 1.2em;font-size:.84rem"
TEXT = "display:inline-block;white-space:normal;width:22em"
HEAD = "display:inline-block;white-space:normal;max-width:8em"
FIGURE = re.compile(r"(about )?[-+]?\d")
"""How a cell with a figure begins; a column without one holds words."""


@dataclass(frozen=True)
class Grid:
    """A table; text in backticks is code."""

    head: Sequence[str]
    rows: Rows


@dataclass
class Section:
    title: str
    parts: list[str | Grid] = field(default_factory=list)
    """Paragraphs and tables, in order."""


@dataclass
class Document:
    title: str
    lead: str
    sections: list[Section]
    footnote: str = ""

    def markdown(self) -> str:
        lines = [f"# {self.title}", "", self.lead, ""]
        for section in self.sections:
            lines += [f"## {section.title}", ""]
            for part in section.parts:
                lines += [part, ""] if isinstance(part, str) else [*_aligned(part), ""]
        return "\n".join([*lines, self.footnote, ""] if self.footnote else lines)

    def html(self) -> str:
        body = [
            pages.section(section.title, *(_html(part) for part in section.parts))
            for section in self.sections
        ]
        return pages.page(self.title, self.lead, body, self.footnote)

    def write(self, folder: Path, name: str) -> list[Path]:
        """NAME.md and NAME.html in the folder."""
        folder.mkdir(parents=True, exist_ok=True)
        files = folder / f"{name}.md", folder / f"{name}.html"
        for file, content in zip(files, (self.markdown(), self.html()), strict=True):
            file.write_text(content, encoding="utf-8")
        return list(files)


def _aligned(grid: Grid) -> list[str]:
    rows = [list(grid.head), *(list(row) for row in grid.rows)]
    rows = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    widths = [max(3, *(len(row[column]) for row in rows)) for column in range(len(grid.head))]
    rows.insert(1, ["-" * width for width in widths])
    return [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in rows
    ]


def _html(part: str | Grid) -> str:
    if isinstance(part, str):
        return f"<p>{_code(part)}</p>"
    columns = list(zip(*part.rows, strict=True))
    long = [max(map(len, column)) > LONG for column in columns]
    words = [n for n, column in enumerate(columns) if long[n] or not any(map(FIGURE.match, column))]
    rows = [
        [_wrapped(cell) if wrap else _code(cell) for cell, wrap in zip(row, long, strict=True)]
        for row in part.rows
    ]
    head = [f'<span style="{HEAD}">{_code(cell)}</span>' for cell in part.head]
    return f'<div style="{FRAME}">{pages.table(head, rows, words=words)}</div>'


def _wrapped(plain: str) -> str:
    """A cell of a column with long ones: it may break between words."""
    pieces = [_words(piece) for piece in plain.split("`")]
    pieces[1::2] = [f"<code>{piece}</code>" for piece in pieces[1::2]]
    return f'<span style="{TEXT}">{"".join(pieces)}</span>'


def _words(plain: str) -> str:
    """Text that does not break at hyphens."""
    words = plain.split(" ")
    return " ".join(
        f'<span style="white-space:nowrap">{pages.text(word)}</span>' if "-" in word else pages.text(word)
        for word in words
    )


def _code(plain: str) -> str:
    return re.sub(r"`([^`]*)`", r"<code>\1</code>", pages.text(plain))
