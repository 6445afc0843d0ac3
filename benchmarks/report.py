"""The Markdown page of one package."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks.jobs import AGAINST, OURS, PLAIN, Job
from benchmarks.suite import Row

METHOD = (
    "Each variant of a job runs in a process of its own; their calls take turns (A B C A B C). `ms` is the median of "
    "the rounds for one image, with the fastest and the slowest round. Warm-up calls do not count.",
    "`ours is` is the time of the variant over the time of ours: the ratio of the medians, then the smallest and the "
    "largest ratio within one round. Above 1, ours is faster.",
    "`peak` is the memory that the job takes beside the network and its weights: activations, gradients, optimizer "
    "state, scratch space.",
    "GMAC counts 1e9 multiply-adds of the convolutions and matrix products of one image's forward pass "
    "(torch.utils.flop_counter).",
    "Inference is one forward pass in eval mode without gradients; a training step is forward, loss, backward and a "
    "step of AdamW. All weights and inputs are random.",
)


@dataclass
class Page:
    """What one run found out about one package, in the order of the jobs."""

    package: str
    lead: list[str]
    """Command, machine, versions, commits: a line each."""
    titles: dict[str, str]
    """Variant -> its name on the page."""
    notes: Sequence[str] = ()
    """What a reader must know about the package's jobs."""
    rows: list[Row] = field(default_factory=list)
    unfinished: bool = True

    def markdown(self) -> str:
        lines = [f"# Speed and memory: {self.package}", "", *(f"- {line}" for line in self.lead), ""]
        if self.unfinished:
            lines += ["This run is unfinished: jobs are missing.", ""]
        measured = [row for row in self.rows if row.seconds]
        same = [row for row in measured if row.difference is not None]
        if same:
            worst = max(row.difference or 0.0 for row in same)
            names = ", ".join(dict.fromkeys(self.titles[row.variant] for row in same))
            lines += [f"Same answers first: {names} differ from ours by at most {worst:.1e}, relative.", ""]
        for job in dict.fromkeys(row.job for row in self.rows):
            rows = [row for row in measured if row.job == job]
            lines += [f"## {str(job)[:1].upper()}{str(job)[1:]}", "", *self._table(rows), ""]
            lines += [
                f"Not measured: {self.titles[row.variant]}: {row.missing}\n"
                for row in self.rows
                if row.job == job and row.missing
            ]
        lines += self._growth(measured)
        lines += ["## How it was measured", "", *(f"- {line}" for line in (*METHOD, *self.notes)), ""]
        return "\n".join(lines)

    def _table(self, rows: Sequence[Row]) -> list[str]:
        ours = next((row for row in rows if row.variant == OURS), None)
        head = ("variant", "ms", "fastest to slowest", "ours is", "peak, MB", "parameters, M", "GMAC")
        cells = []
        for row in rows:
            per_image = [1e3 * value / row.job.batch for value in row.seconds]
            counted = (
                (f"{row.parameters / 1e6:.1f}", f"{row.gmac / row.job.batch:.1f}")
                if row.parameters
                else ("", "")
            )
            cells.append(
                (
                    self.titles[row.variant],
                    f"{statistics.median(per_image):.1f}",
                    f"{min(per_image):.1f} to {max(per_image):.1f}",
                    _times(row, ours) if ours and row is not ours else "",
                    f"{row.bytes / 1e6:.0f}",
                    *counted,
                )
            )
        return table(head, cells)

    def _growth(self, rows: Sequence[Row]) -> list[str]:
        """Jobs of several sizes: time and memory over those of the smallest."""
        kinds: dict[tuple[str, str, str], list[Row]] = {}
        for row in rows:
            if row.variant in (OURS, AGAINST, PLAIN):
                kinds.setdefault((*row.job.kind, row.variant), []).append(row)
        cells = []
        for (part, mode, variant), grown in kinds.items():
            if len(grown) == 1:
                continue
            first, *larger = sorted(grown, key=lambda row: work(row.job))
            for row in larger:
                cells.append(
                    (
                        f"{part}, {mode}",
                        self.titles[variant],
                        f"{_size(first.job)} to {_size(row.job)}",
                        f"{work(row.job) / work(first.job):.1f}",
                        f"{statistics.median(row.seconds) / statistics.median(first.seconds):.1f}",
                        f"{row.bytes / max(first.bytes, 1):.1f}",
                    )
                )
        if not cells:
            return []
        head = ("job", "variant", "from, to", "input", "time", "peak memory")
        return ["## Growth", "", "How many times as much of each:", "", *table(head, cells), ""]


def work(job: Job) -> int:
    """The size of the input: pixels, times sentences or prompts."""
    return job.batch * job.side**2 * job.count


def _size(job: Job) -> str:
    return f"{job.side}x{job.side}" + (f" x {job.count}" if job.part in ("sentences", "prompts") else "")


def _times(row: Row, ours: Row) -> str:
    ratios = [other / own for other, own in zip(row.seconds, ours.seconds, strict=True)]
    ratio = statistics.median(row.seconds) / statistics.median(ours.seconds)
    return f"{ratio:.2f} times as fast ({min(ratios):.2f} to {max(ratios):.2f})"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return ["| " + " | ".join(row) + " |" for row in (head, ("---",) * len(head), *rows)]
