"""A page of tables, once as Markdown and once as one HTML file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from papers_shared import pages
from papers_shared.files import write_text

LONG = 28
"""Characters of a cell that stays on one line in HTML."""
WRAPPED = "display:inline-block;white-space:normal;width:22em"
NUMBER = re.compile(r"(about )?[-+]?\d")
"""How a cell with a number begins; a column without one holds words."""


@dataclass(frozen=True)
class Grid:
    """A table; text in backticks is code."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]


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
        body = [pages.section(section.title, *map(_html, section.parts)) for section in self.sections]
        return pages.page(self.title, self.lead, body, self.footnote)

    def write(self, folder: Path, name: str) -> list[Path]:
        """NAME.md and NAME.html in the folder."""
        folder.mkdir(parents=True, exist_ok=True)
        files = [folder / f"{name}.md", folder / f"{name}.html"]
        for file, content in zip(files, (self.markdown(), self.html()), strict=True):
            write_text(file, content)
        return files


def _aligned(grid: Grid) -> list[str]:
    rows = [[cell.replace("|", "\\|") for cell in row] for row in (grid.head, *grid.rows)]
    widths = [max(3, *map(len, column)) for column in zip(*rows, strict=True)]
    rows.insert(1, ["-" * width for width in widths])
    return [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in rows
    ]


def _html(part: str | Grid) -> str:
    if isinstance(part, str):
        return f"<p>{_code(part)}</p>"
    columns = enumerate(zip(*part.rows, strict=True))
    words = [number for number, column in columns if not any(map(NUMBER.match, column))]
    rows = [[_cell(cell) for cell in row] for row in part.rows]
    return f'<div style="overflow-x:auto">{pages.table(list(map(_cell, part.head)), rows, words=words)}</div>'


def _cell(plain: str) -> str:
    return _code(plain) if len(plain) <= LONG else f'<span style="{WRAPPED}">{_code(plain)}</span>'


def _code(plain: str) -> str:
    return re.sub(r"`([^`]*)`", r"<code>\1</code>", pages.text(plain))
