"""`torch.export`: how long it takes, and what the exported program takes beside eager."""

from __future__ import annotations

import copy
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import measure
from benchmarks.cases import Case
from benchmarks.findings import Findings, Plan


class Flat(nn.Module):
    """The network with a plain tuple of what it answers."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return tuple(answer for answer in self.network(images) if answer is not None)


def run(case: Case, module: ModuleType, plan: Plan, findings: Findings) -> None:
    """Export the contiguous network, as the package does, and run it beside the eager one as the package runs it."""
    network = module.build(case)
    images = measure.noise(case.batch, case.side)
    flat = Flat(copy.deepcopy(network).to(memory_format=torch.contiguous_format)).eval()
    made: dict[str, Any] = {}

    def export() -> None:
        with torch.no_grad():
            made["program"] = torch.export.export(flat, (images,)).module()

    export_seconds = measure.timed(export)
    program = made["program"].to(plan.device)
    images = images.to(plan.device)

    def exported() -> object:
        with torch.no_grad():
            return program(images)

    runners = {
        "eager": module.inference(network.to(plan.device), case, plan.device),
        "exported": exported,
    }
    for runner in runners.values():
        runner()
    spent = sum(measure.timed(runner, plan.device) for runner in runners.values())
    for name, values in measure.interleaved(runners, plan.rounds(spent), plan.device).items():
        more = {"export_seconds": export_seconds} if name == "exported" else {}
        findings.add(case, "seconds", values, variant=name, **more)
