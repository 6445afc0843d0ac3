"""What is measured: a user's job, and the networks (variants) that do it."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any, Literal

import torch
from torch import Tensor

MODULES = {
    "fanet": "benchmarks.fanet_jobs",
    "plvl": "benchmarks.plvl_jobs",
    "cabl-cgsr": "benchmarks.cabl_cgsr_jobs",
    "sam": "benchmarks.sam_jobs",
}
"""Package -> module with `JOBS`, `PEERS`, `BOUND`, `NOTES`, `build`, `inputs`, `outputs` and `loss`."""
OURS, AGAINST, PLAIN, COMPILED = "ours", "another checkout", "plain", "ours compiled"
"""Variants that every package has; the others are its peers. All four have the same weights."""


@dataclass(frozen=True)
class Job:
    package: str
    part: str
    """The network, or the task, such as `segmentor` or `sentences`."""
    mode: Literal["inference", "training"]
    side: int
    """Height and width of the images in pixels."""
    batch: int = 1
    count: int = 1
    """Sentences or prompts about the image."""
    variants: tuple[str, ...] = (OURS, PLAIN)
    small: bool = False
    """Small stand-ins of the large networks: a smoke test."""

    def __str__(self) -> str:
        mode = "training step" if self.mode == "training" else "inference"
        about = f"{self.count} {self.part}" if self.part in ("sentences", "prompts") else self.part
        return f"{about}, {mode}, {self.side}x{self.side}, batch {self.batch}"

    @property
    def kind(self) -> tuple[str, str]:
        """What a job has in common with those of other sizes."""
        return self.part, self.mode

    def network(self) -> Job:
        """The job without its variants: what decides weights and inputs."""
        return replace(self, variants=())


def jobs_of(
    package: str, *, quick: bool = False, only: str = "", against: bool = False, compiled: bool = False
) -> list[Job]:
    """The jobs of a package in their order.

    Args:
        quick: One small job of each kind.
        only: Keep the jobs whose description has this text.
        against: Add the variant of another checkout.
        compiled: Add `torch.compile` of ours to inference.
    """
    jobs = [job for job in module_of(package).JOBS if only in str(job)]
    if quick:
        first = {job.kind: job for job in reversed(jobs)}
        jobs = [
            replace(job, side=64, batch=min(job.batch, 2), count=min(job.count, 2), small=True)
            for job in jobs
            if first[job.kind] is job
        ]
    more = [AGAINST] * against
    return [
        replace(
            job,
            variants=(OURS, *more, *[COMPILED] * (compiled and job.mode == "inference"), *job.variants[1:]),
        )
        for job in jobs
    ]


def module_of(package: str) -> ModuleType:
    return importlib.import_module(MODULES[package])


def noise(job: Job) -> Tensor:
    """Normalised images (batch, 3, side, side), always the same."""
    return torch.randn(job.batch, 3, job.side, job.side, generator=torch.Generator().manual_seed(2))


def named(output: Any, names: tuple[str, ...]) -> Mapping[str, Tensor]:
    """These fields of an output, under their names."""
    return {name: getattr(output, name) for name in names}
