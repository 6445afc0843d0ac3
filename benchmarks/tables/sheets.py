"""The papers' tables as they are shown: published rows, under each its recipes with what the runs hold."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks.tables.counted import count
from benchmarks.tables.document import Grid, Section
from benchmarks.tables.published import Column, Paper, Row, Table
from benchmarks.tables.recipes import Length, command_of, length_of, recipes_of
from benchmarks.tables.runs import Run, Score
from benchmarks.tables.throughput import Speed, at_batch, training_speeds

NOT_RUN, NOT_EVALUATED = "not run", "not evaluated"
UNMEASURED = "unknown: no throughput was measured on a GPU"
Cell = tuple[float, Score | None]


@dataclass
class Sheet:
    """The state of one page: runs, speeds, and which scores found a place."""

    runs: Sequence[Run]
    speeds: Sequence[Speed]
    used: set[int] = field(default_factory=set)
    """Identities of the scores that stand in a table."""

    def paper(self, paper: Paper) -> list[Section]:
        """The sections of one paper: its tables, then its figures."""
        parts: list[str | Grid] = [f"{paper.paper}. {paper.source}"]
        sections = [Section(paper.package, parts)]
        sections += [self._table(paper, table) for table in paper.tables]
        return [*sections, self._figures(paper)]

    def _table(self, paper: Paper, table: Table) -> Section:
        notes = _Notes(paper.notes)
        head = ["row", "", *(column.name for column in table.columns)]
        rows = []
        heading = notes.marks(table.notes)
        for row in table.rows:
            published = [_number(v, c.digits) for v, c in zip(row.published, table.columns, strict=True)]
            source = "published" if row.recipes or row.counted_of else "published only"
            rows.append([row.name + notes.marks(row.notes), source, *published])
            for recipe in row.recipes:
                rows.append(["", f"`{recipe}`", *self._ours(paper.package, recipe, row, table, notes)])
            if row.counted_of:
                rows.append(["", "counted here", *self._counted(paper.package, row, table)])
        names = list(dict.fromkeys(recipe for row in table.rows for recipe in row.recipes))
        parts: list[str | Grid] = [f"Protocol: {table.protocol}{heading}", Grid(head, rows)]
        if names:
            costs = [self._cost(paper.package, name) for name in names]
            parts.append(Grid(("recipe", "steps", "samples", "GPU hours", "command"), costs))
        parts.append(f"Scored by `{table.evaluate}`.")
        parts += notes.lines
        return Section(f"{paper.package}, {table.name}: {table.title}", parts)

    def _ours(self, package: str, recipe: str, row: Row, table: Table, notes: _Notes) -> list[str]:
        """The cells of one recipe over all its runs; what must be known about them becomes footnotes."""
        runs = [run for run in self.runs if (run.package, run.recipe) == (package, recipe)]
        values = [_values(run, row, table.columns, recipe) for run in runs]
        cells = []
        for number, column in enumerate(table.columns):
            if column.counted:
                cells.append(count(column.counted, package, recipe, column.digits, self.speeds))
            elif (column.recipes and recipe not in column.recipes) or row.published[number] is None:
                cells.append("")
            else:
                found = [cell[0] for one in values if (cell := one[number]) is not None]
                cells.append(_spread(found, column.digits, bool(runs)))
        about = []
        for run, one in zip(runs, values, strict=True):
            scores = [cell[1] for cell in one if cell is not None and cell[1] is not None]
            self.used.update(id(score) for score in scores)
            sources = dict.fromkeys(score.source for score in scores)
            refiners = dict.fromkeys(f"refined by {score.refiner}" for score in scores if score.refiner)
            if scores:
                about.append(f"`{run.folder}`: " + "; ".join([*sources, *refiners, *run.remarks]))
        marks = "".join(notes.mark(text) for text in about)
        counted = [bool(column.counted) for column in table.columns]
        from_runs = [cell[:1].isdigit() and not told for cell, told in zip(cells, counted, strict=True)]
        return [cell + marks if ran else cell for cell, ran in zip(cells, from_runs, strict=True)]

    def _counted(self, package: str, row: Row, table: Table) -> list[str]:
        return [
            count(column.counted, package, row.counted_of, column.digits, self.speeds)
            if column.counted
            else ""
            for column in table.columns
        ]

    def _cost(self, package: str, name: str) -> list[str]:
        length = length_of(package, name)
        command = f"`{command_of(package, name)}`"
        if length.unknown:
            return [f"`{name}`", length.unknown, "", length.unknown, command]
        about = "about " if length.about else ""
        amounts = [f"{about}{length.steps:,}", f"{about}{length.samples:,}"]
        return [f"`{name}`", *amounts, self._gpu_hours(package, name, length), command]

    def _gpu_hours(self, package: str, name: str, length: Length) -> str:
        on_gpu = [speed for speed in self.speeds if speed.gpu and speed.package == package]
        optim = recipes_of(package)[name]().optim
        micro_batch = getattr(optim, "micro_batch", optim.batch_size)
        speed = at_batch(training_speeds(on_gpu, package, name), micro_batch)
        if speed is None:
            return "unknown: this network was not measured on a GPU" if on_gpu else UNMEASURED
        hours = length.samples / speed.per_second / 3600
        rate = f"{speed.per_second:.1f} samples per second"
        return f"{hours:.1f}, an estimate: {rate} ({speed}), loader and validation not counted"

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
            (p.package, name) for p in papers for t in p.tables for row in t.rows for name in row.recipes
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
        figure = column.figure.format(output=row.output)
        fitting = [
            score
            for score in run.scores
            if score.figure == figure and score.split in column.splits and score.samples in column.samples
            if not column.recipes or recipe in column.recipes
            if score.refiner != "grabcut"
        ]
        best = min(fitting, key=lambda score: score.rank, default=None)
        cells.append(None if best is None else (best.value * column.scale, best))
    return cells


def _spread(values: Sequence[float], digits: int, runs: bool) -> str:
    if not values:
        return NOT_EVALUATED if runs else NOT_RUN
    mean = f"{statistics.fmean(values):.{digits}f}"
    if len(values) == 1:
        return mean
    return f"{mean} ± {statistics.stdev(values):.{digits}f} ({len(values)} runs)"


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _reason(score: Score) -> str:
    if score.refiner == "grabcut":
        return f"{score.source}: {score.figure} is refined by grabcut, which is not the paper's SAM"
    place = f"split or set {score.split} with {score.samples:,} samples"
    return f"{score.source}: {score.figure} on {place} is in no column of this recipe"
