"""How things are measured: interleaved wall-clock time, multiply-adds, parameters, and the memory of this process."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

ROOT = Path(__file__).resolve().parents[1]
Runner = Callable[[], object]


def interleaved(
    runners: Mapping[Any, Runner], rounds: int, device: torch.device | None = None
) -> dict[Any, list[float]]:
    """Seconds of each call: each round calls each runner once, in order."""
    seconds: dict[Any, list[float]] = {key: [] for key in runners}
    for _ in range(rounds):
        for key, runner in runners.items():
            seconds[key].append(timed(runner, device))
    return seconds


def timed(runner: Runner, device: torch.device | None = None) -> float:
    _wait(device)
    began = time.perf_counter()
    runner()
    _wait(device)
    return time.perf_counter() - began


def _wait(device: torch.device | None) -> None:
    if device is not None and device.type == "cuda":
        torch.cuda.synchronize(device)


def noise(batch: int, side: int) -> Tensor:
    """Normalised pictures of nothing (batch, 3, side, side), always the same."""
    return torch.randn(batch, 3, side, side, generator=torch.Generator().manual_seed(2))


def gmac(runner: Runner) -> float:
    """Multiply-adds of a call in 1e9: convolutions and matrix products, as torch.utils.flop_counter sees them,
    halved. Norms, activations and resizes are not counted.
    """
    packed = getattr(torch.ops.mkldnn, "_linear_pointwise", None)
    counter = FlopCounterMode(display=False, custom_mapping={packed: _linear_flops} if packed else {})
    with torch.no_grad(), counter:
        runner()
    return counter.get_total_flops() / 2e9


def _linear_flops(x: torch.Size, *_: Any, out_shape: torch.Size, **__: Any) -> int:
    return 2 * x[-1] * out_shape.numel()


def parameters(network: nn.Module) -> int:
    return sum(value.numel() for value in network.parameters())


class Peak:
    """Memory that is taken after this was made, at its peak, in bytes.

    CPU: the resident set's high-water mark over its level (Linux restarts the mark here; elsewhere it is that of the
    whole life of the process). GPU: torch's allocator.
    """

    def __init__(self, device: torch.device) -> None:
        self.cuda = device.type == "cuda"
        gc.collect()
        if self.cuda:
            torch.cuda.reset_peak_memory_stats()
            self.baseline = torch.cuda.memory_allocated()
        else:
            with contextlib.suppress(OSError, AttributeError):
                ctypes.CDLL("libc.so.6").malloc_trim(0)
            with contextlib.suppress(OSError):
                Path("/proc/self/clear_refs").write_text("5")
            self.baseline = psutil.Process().memory_info().rss

    def figures(self) -> dict[str, int]:
        """`bytes` taken at the peak, over `baseline_bytes`; together `peak_bytes`."""
        peak = torch.cuda.max_memory_allocated() if self.cuda else _peak_resident()
        taken = max(0, peak - self.baseline)
        return {"bytes": taken, "baseline_bytes": self.baseline, "peak_bytes": self.baseline + taken}


def _peak_resident() -> int:
    """VmHWM on Linux, elsewhere what getrusage says."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def in_child(arguments: Sequence[str], threads: int) -> Any:
    """What `python ARGUMENTS` prints as its last line of JSON, in a fresh process at the root of the tree.

    Raises:
        RuntimeError: the child failed; its last line of error is in the message.
    """
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    child = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    if child.returncode != 0:
        reason = child.stderr.strip().splitlines() or [f"exit code {child.returncode}"]
        errors = [line for line in reason if "Error" in line and "torch.distributed" not in line]
        raise RuntimeError(f"the child process failed: {(errors or reason)[-1]}")
    return json.loads(child.stdout.strip().splitlines()[-1])


def summary(values: Sequence[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}
