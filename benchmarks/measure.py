"""How things are measured: interleaved wall-clock time, multiply-adds, and memory in a process of its own."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.cases import Case

ROOT = Path(__file__).resolve().parents[1]


def interleaved(
    runners: Mapping[Case, Callable[[], object]], rounds: int, warmups: int, device: torch.device
) -> dict[Case, list[float]]:
    """Seconds of each call: each round calls each runner once, in order; the first `warmups` do not count."""
    seconds: dict[Case, list[float]] = {case: [] for case in runners}
    for number in range(warmups + rounds):
        for case, runner in runners.items():
            elapsed = timed(runner, device)
            if number >= warmups:
                seconds[case].append(elapsed)
    return seconds


def timed(runner: Callable[[], object], device: torch.device) -> float:
    _wait(device)
    began = time.perf_counter()
    runner()
    _wait(device)
    return time.perf_counter() - began


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def gmac(network: nn.Module, side: int) -> float:
    """Multiply-adds in 1e9 of one (1, 3, side, side) image in eval mode: convolutions and matrix products, as
    torch.utils.flop_counter sees them, halved. Norms, activations and resizes are not counted.
    """
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        network.eval()(torch.zeros(1, 3, side, side))
    return counter.get_total_flops() / 2e9


def parameters(network: nn.Module) -> int:
    return sum(value.numel() for value in network.parameters())


def memory_in_child(case: Case, device: torch.device, threads: int) -> dict[str, Any]:
    """The figures that `benchmarks.child` prints for this case, from a fresh process.

    Raises:
        RuntimeError: the child failed; its last line of error is in the message.
    """
    request = json.dumps({"case": asdict(case), "device": device.type, "threads": threads})
    child = subprocess.run(
        [sys.executable, "-m", "benchmarks.child", request], cwd=ROOT, capture_output=True, text=True
    )
    if child.returncode != 0:
        reason = child.stderr.strip().splitlines() or [f"exit code {child.returncode}"]
        raise RuntimeError(f"the child process failed: {reason[-1]}")
    return json.loads(child.stdout.splitlines()[-1])


def summary(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}
