"""The record of a run: a line of JSON for each thing found, on disk at once, and a Markdown page made of them."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.report import table
from papers_shared.files import write_text

METHOD = (
    "Correctness first: small networks on weights and inputs drawn by name, against what they answer in float64 on a "
    "CPU (`goldens.safetensors`): answers, loss, norms of gradients, and of what a step of AdamW changes. The "
    "difference is the largest one over the largest golden value of a tensor, the worst tensor of a network.",
    "`ms` is the median over at least 50 calls and 200 ms by CUDA events, queued ten at a time; after 6 s fewer. "
    "Inputs lie on the GPU. A training step is forward, loss, backward and fused AdamW.",
    "fp32 is strict, tf32 rounds the factors of products and convolutions, bf16 is autocast. `by block`: torch.compile "
    "of each repeated block by itself. `graph`: a captured CUDA graph, for bf16 with bf16 weights; "
    "SAM has none, as transformers' encoder copies indices from the CPU in each forward pass.",
    "`TFLOP` counts convolutions and matrix products (torch.utils.flop_counter), a training step as three "
    "forward passes; `GB` what all operations read and "
    "write when called one by one, so that a compiled network can beat it. The floor is TFLOP at the rate that large "
    "matrix products reach (bf16 790, TF32 400, fp32 55 TFLOP/s); a copy moves 3.0 TB/s on an H100, 4.3 on an H200.",
    "`launches` is how often the host launches something in a call; `peak` the memory beside weights and inputs, and "
    "for a training step with the optimizer's state; `first` the first call, compiling and capturing included.",
)


@dataclass
class Record:
    """What a run has found so far; each `add` is written before it returns.

    Args:
        folder: Gets `gpu.jsonl` and `gpu.md`; None: nothing is written.
    """

    folder: Path | None
    entries: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_text(self.folder / "gpu.jsonl", "")

    def add(self, kind: str, **values: Any) -> None:
        entry = {"kind": kind, **values}
        self.entries.append(entry)
        if self.folder is not None:
            with (self.folder / "gpu.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(entry) + "\n")
                file.flush()
                os.fsync(file.fileno())
            write_text(self.folder / "gpu.md", page(self.entries))

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [entry for entry in self.entries if entry["kind"] == kind]


def page(entries: Sequence[dict[str, Any]]) -> str:
    """The Markdown page of the entries of a run, whole or cut off."""
    by_kind: dict[str, list[dict[str, Any]]] = {}
    for entry in entries:
        by_kind.setdefault(entry["kind"], []).append(entry)
    lines = ["# Correctness and speed on a GPU", ""]
    for name, value in by_kind.get("machine", [{}])[0].items():
        if name != "kind":
            lines.append(f"- {name}: {value}")
    for end in by_kind.get("end", []):
        lines.append(f"- took {end['seconds']:.0f} s; clocks at the end: {end['clocks'] or 'unknown'}")
    if "end" not in by_kind:
        lines += ["", "This run is unfinished: rows are missing."]
    rows = by_kind.get("row", [])
    lines += _checks(by_kind.get("check", [])) + _wanted(rows)
    for subject, mode, batch in dict.fromkeys((row["subject"], row["mode"], row["batch"]) for row in rows):
        own = [row for row in rows if (row["subject"], row["mode"], row["batch"]) == (subject, mode, batch)]
        lines += ["", f"## {subject}, {mode}, batch {batch}", "", *_rows(own)]
    failed = by_kind.get("failed", [])
    if failed:
        lines += ["", "## Not measured", "", *(f"- {entry['row']}: {entry['why']}" for entry in failed)]
    for entry in by_kind.get("left out", []):
        lines += ["", f"There was no time for {len(entry['rows'])} rows: {'; '.join(entry['rows'])}."]
    lines += ["", "## How it was measured", "", *(f"- {line}" for line in METHOD), ""]
    return "\n".join(lines)


def _checks(checks: Sequence[dict[str, Any]]) -> list[str]:
    if not checks:
        return []
    cells = [
        (
            check["network"],
            check["precision"],
            "" if check["difference"] is None else f"{check['difference']:.1e} ({check['worst']})",
            f"{check['bound']:.0e}",
            "yes" if check["good"] else f"**no** {check.get('why', '')}".strip(),
        )
        for check in checks
    ]
    head = ("network", "precision", "difference", "bound", "within")
    return ["", "## The same answers as in float64 on a CPU", "", *table(head, cells)]


def _wanted(rows: Sequence[dict[str, Any]]) -> list[str]:
    cells = []
    jobs: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        if row["wanted_ms"] is not None:
            jobs.setdefault(f"{row['subject']}, {row['mode']}, batch {row['batch']}", []).append(row)
    for job, own in jobs.items():
        best = min(own, key=lambda row: row["ms"])
        name = f"{best['precision']}, {best['form']}"
        verdict = "yes" if best["ms"] < best["wanted_ms"] else "no"
        cells.append((job, f"{best['wanted_ms']:g}", _ms(best["ms"]), name, verdict))
    if not cells:
        return []
    head = ("job", "wanted on an H100, ms", "best, ms", "how", "reached")
    return ["", "## Wanted", "", *table(head, cells)]


def _rows(rows: Sequence[dict[str, Any]]) -> list[str]:
    head = ("precision", "form", "ms", "fastest", "images/s", "launches", "TFLOP", "TFLOP/s", "GB", "GB/s")
    head += ("peak, MB", "floor, ms", "of the floor", "first, s", "calls")
    cells = [
        (
            row["precision"],
            row["form"],
            _ms(row["ms"]),
            _ms(row["fastest_ms"]),
            f"{row['per_second']:.0f}",
            "" if row["launches"] is None else str(row["launches"]),
            f"{row['flops'] / 1e12:.3f}",
            f"{row['flops'] / 1e9 / row['ms']:.1f}",
            f"{row['moved_bytes'] / 1e9:.2f}",
            f"{row['moved_bytes'] / 1e6 / row['ms']:.0f}",
            f"{row['peak_bytes'] / 1e6:.0f}",
            "" if row["floor_ms"] is None else _ms(row["floor_ms"]),
            "" if row["floor_ms"] is None else f"{100 * row['floor_ms'] / row['ms']:.0f} %",
            f"{row['first_s']:.1f}",
            str(row["calls"]),
        )
        for row in rows
    ]
    return table(head, cells)


def _ms(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.1f}"
