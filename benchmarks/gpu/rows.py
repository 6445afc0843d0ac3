"""What is timed, the most wanted first."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from benchmarks.gpu.subjects import Subject
from papers_shared.types import Precision

Mode = Literal["inference", "training"]
Form = Literal["eager", "by block", "graph"]
"""eager; each repeated block compiled by itself; captured as a CUDA graph, with the weights kept in half precision."""

WANTED: dict[tuple[str, Mode, int], float] = {
    ("fanet", "training", 16): 24.0,
    ("fanet", "inference", 1): 1.5,
    ("fanet", "inference", 32): 16.0,
    ("plvl", "inference", 1): 2.0,
    ("plvl", "training", 20): 32.0,
    ("cabl-cgsr, six views", "inference", 1): 9.0,
    ("SAM ViT-H", "inference", 1): 25.0,
}
"""Subject, mode, batch -> the milliseconds that a call should take on an H100, in the best of its forms."""


@dataclass(frozen=True)
class Spec:
    """One row: what runs, and how."""

    subject: str
    mode: Mode
    batch: int
    precision: Precision
    form: Form

    def __str__(self) -> str:
        mode = "training step" if self.mode == "training" else "inference"
        return f"{self.subject}, {mode}, batch {self.batch}, {self.precision}, {self.form}"

    @property
    def job(self) -> tuple[str, Mode, int]:
        return self.subject, self.mode, self.batch


def specs(subjects: Iterable[Subject], *, cuda: bool, quick: bool = False) -> list[Spec]:
    """All rows, the most wanted first; TF32 and graphs are a GPU's. `quick`: nothing is compiled but bf16."""
    precisions: tuple[Precision, ...] = ("bf16", "tf32", "fp32") if cuda else ("bf16", "fp32")
    found = []
    for subject in subjects:
        jobs: list[tuple[Mode, int]] = [("inference", batch) for batch in subject.batches]
        jobs += [("training", subject.training)] * bool(subject.training)
        for mode, batch in jobs:
            forms: tuple[Form, ...] = ("eager", "by block")
            if cuda and mode == "inference" and subject.capturable:
                forms = ("eager", "graph", "by block")
            for precision in precisions:
                for form in forms:
                    if quick and form == "by block" and precision != "bf16":
                        continue
                    spec = Spec(subject.name, mode, batch, precision, form)
                    found.append((_distance(spec, subject), spec))
    return [spec for _, spec in sorted(found, key=lambda entry: entry[0])]


def _distance(spec: Spec, subject: Subject) -> int:
    """How far from what is wanted most a row is."""
    alone = spec.mode == "inference" and spec.batch == 1
    best: Form = "graph" if alone and subject.capturable else "by block"
    form = 0 if spec.form == best else 1 if spec.form == "eager" else 3
    precision = {"bf16": 0, "fp16": 0, "tf32": 2, "fp32": 4}[spec.precision]
    return 2 * (spec.job not in WANTED) + precision + form + (0 if subject.ours else 2)
