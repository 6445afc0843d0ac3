"""The papers' tables as they are shown: published rows, under each its recipes with what the runs hold."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks.tables.counted import count
from benchmarks.tables.document import Grid, Section
from benchmarks.tables.published import Column, Paper, Row, Table
from benchmarks.tables.recipes import command_of, length_of
from benchmarks.tables.runs import Run, Score

NOT_RUN, NOT_EVALUATED = "not run", "not evaluated"
Cell = tuple[float, Score | None]


@dataclass
class Sheet:
    """The runs of one page, and which of their scores stand in a table."""

    runs: Sequence[Run]
    used: set[int] = field(default_factory=set)
    """Identities of those scores."""

    def paper(self, paper: Paper) -> list[Section]:
        """The sections of one paper: its tables, then its figures."""
        about = Section(paper.package, [f"{paper.paper}. {paper.source}"])
        return [about, *(self._table(paper, table) for table in paper.tables), self._figures(paper)]

    def _table(self, paper: Paper, table: Table) -> Section:
        notes = _Notes(paper.notes)
        heading = notes.marks(table.notes)
        rows = []
        for row in table.rows:
            published = [_number(v, c.digits) for v, c in zip(row.published, table.columns, strict=True)]
            source = "published" if row.recipes or row.counted_of else "published only"
            rows.append([row.name + notes.marks(row.notes), source, *published])
            for recipe in row.recipes:
                rows.append(["", f"`{recipe}`", *self._ours(paper.package, recipe, row, table, notes)])
            if row.counted_of:
                cells = [_counted(column, paper.package, row.counted_of) for column in table.columns]
                rows.append(["", "counted here", *cells])
        head = ["row", "", *(column.name for column in table.columns)]
        parts: list[str | Grid] = [f"Protocol: {table.protocol}{heading}", Grid(head, rows)]
        if names := list(dict.fromkeys(recipe for row in table.rows for recipe in row.recipes)):
            lengths = [_length(paper.package, name) for name in names]
            parts.append(Grid(("recipe", "steps", "samples", "command"), lengths))
        parts.append(f"Scored by `{table.evaluate}`.")
        return Section(f"{paper.package}, {table.name}: {table.title}", [*parts, *notes.lines])

    def _ours(self, package: str, recipe: str, row: Row, table: Table, notes: _Notes) -> list[str]:
        """The cells of one recipe over all its runs; what must be known about them becomes footnotes."""
        runs = [run for run in self.runs if (run.package, run.recipe) == (package, recipe)]
        values = [_values(run, row, table.columns, recipe) for run in runs]
        about = []
        for run, one in zip(runs, values, strict=True):
            scores = [cell[1] for cell in one if cell is not None and cell[1] is not None]
            self.used.update(id(score) for score in scores)
            sources = dict.fromkeys(score.source for score in scores)
            refiners = dict.fromkeys(f"refined by {score.refiner}" for score in scores if score.refiner)
            if scores:
                about.append(f"`{run.folder}`: " + "; ".join([*sources, *refiners, *run.notes]))
        marks = "".join(notes.mark(text) for text in about)
        cells = []
        for number, column in enumerate(table.columns):
            if column.counted:
                cells.append(_counted(column, package, recipe))
            elif row.published[number] is None or not _fills(recipe, column):
                cells.append("")
            elif found := [cell[0] for one in values if (cell := one[number]) is not None]:
                cells.append(_spread(found, column.digits) + marks)
            else:
                cells.append(NOT_EVALUATED if runs else NOT_RUN)
        return cells

    def _figures(self, paper: Paper) -> Section:
        rows = []
        for figure in paper.figures:
            drawn = [
                f"`{file}`"
                for run in self.runs
                if run.package == paper.package and figure.file
                for file in sorted(run.folder.rglob(figure.file))
            ]
            ours = "; ".join(drawn) or ("not drawn" if figure.command else "a diagram: nothing to reproduce")
            rows.append([figure.name, figure.title, f"`{figure.command}`" if figure.command else "", ours])
        return Section(f"{paper.package}, figures", [Grid(("figure", "what", "command", "ours"), rows)])

    def left_out(self, papers: Sequence[Paper]) -> Section | None:
        """Runs and evaluations that are in no table, and why."""
        known = {
            (paper.package, name)
            for paper in papers
            for table in paper.tables
            for row in table.rows
            for name in row.recipes
        }
        rows = []
        for run in self.runs:
            reasons = list(run.refused)
            if (run.package, run.recipe) not in known:
                reasons.append(f"the recipe `{run.recipe}` is no row of a table")
            elif not run.scores:
                reasons.append("no evaluation was found in the folder")
            else:
                reasons += dict.fromkeys(_reason(score) for score in run.scores if id(score) not in self.used)
            rows += [[f"`{run.folder}`", reason] for reason in reasons]
        return (
            Section("Run folders: what is not shown", [Grid(("run folder", "why"), rows)]) if rows else None
        )


@dataclass
class _Notes:
    """Footnotes of one table, numbered as they appear."""

    known: dict[str, str]
    lines: list[str] = field(default_factory=list)
    numbers: dict[str, int] = field(default_factory=dict)

    def marks(self, names: Sequence[str]) -> str:
        return "".join(self.mark(self.known[name]) for name in names)

    def mark(self, text: str) -> str:
        if text not in self.numbers:
            self.numbers[text] = len(self.numbers) + 1
            self.lines.append(f"[{self.numbers[text]}] {text}")
        return f" [{self.numbers[text]}]"


def _values(run: Run, row: Row, columns: Sequence[Column], recipe: str) -> list[Cell | None]:
    """For each column the value in the paper's unit, and the score behind it; None where there is none."""
    cells: list[Cell | None] = []
    for column in columns:
        if column.mean_of:
            parts = [cells[number] for number in column.mean_of]
            whole = [part[0] for part in parts if part is not None]
            cells.append((statistics.fmean(whole), None) if len(whole) == len(parts) else None)
            continue
        metric = column.metric.format(output=row.output)
        fitting = [
            score
            for score in run.scores
            if score.metric == metric and score.split in column.splits and score.samples in column.samples
            if not column.recipes or recipe in column.recipes
            if score.refiner != "grabcut"
        ]
        best = min(fitting, key=lambda score: score.rank, default=None)
        cells.append(None if best is None else (best.value * column.scale, best))
    return cells


def _fills(recipe: str, column: Column) -> bool:
    """Whether a run of this recipe can fill the column."""
    return bool(column.metric or column.mean_of) and recipe in (column.recipes or (recipe,))


def _counted(column: Column, package: str, recipe: str) -> str:
    return count(column.counted, package, recipe, column.digits) if column.counted else ""


def _length(package: str, name: str) -> list[str]:
    """Recipe, steps, samples and command."""
    length, command = length_of(package, name), f"`{command_of(package, name)}`"
    if length.unknown:
        return [f"`{name}`", length.unknown, "", command]
    about = "about " if length.about else ""
    return [f"`{name}`", f"{about}{length.steps:,}", f"{about}{length.samples:,}", command]


def _spread(values: Sequence[float], digits: int) -> str:
    mean = f"{statistics.fmean(values):.{digits}f}"
    if len(values) == 1:
        return mean
    return f"{mean} ± {statistics.stdev(values):.{digits}f} ({len(values)} runs)"


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _reason(score: Score) -> str:
    if score.refiner == "grabcut":
        return f"{score.source}: {score.metric} is refined by grabcut, which is not the paper's SAM"
    data = f"split or set {score.split} with {score.samples:,} samples"
    return f"{score.source}: {score.metric} on {data} is in no column of this recipe"
