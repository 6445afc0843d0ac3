"""Peak memory of training steps, in a process of their own: `python -m benchmarks.memory REQUEST`."""

from __future__ import annotations

import importlib
import json
import sys
from dataclasses import asdict
from typing import Any

import torch

from benchmarks import measure
from benchmarks.cases import PACKAGES, Case

STEPS = 3
"""The optimizer's state appears at the end of the first step, beside activations in the second."""


def ask(case: Case, device: torch.device, threads: int) -> dict[str, Any]:
    """The figures of `main` from a fresh process.

    Raises:
        RuntimeError: that process failed.
    """
    request = json.dumps({"case": asdict(case), "device": device.type, "threads": threads})
    found: dict[str, Any] = measure.in_child(["-m", "benchmarks.memory", request], threads)
    return found


def main(request: str) -> None:
    """Print the figures of `measure.Peak` as one line of JSON.

    The baseline is taken after the network and the optimizer are built, so that `bytes` holds activations,
    gradients, optimizer state and the libraries' scratch space.
    """
    asked = json.loads(request)
    case, device = Case(**asked["case"]), torch.device(asked["device"])
    torch.set_num_threads(asked["threads"])
    package = importlib.import_module(PACKAGES[case.package])
    step = package.training_step(package.build(case).to(device), case, device)
    peak = measure.Peak(device)
    for _ in range(STEPS):
        step()
    print(json.dumps(peak.figures()))


if __name__ == "__main__":
    main(sys.argv[1])
