"""Peak memory of training steps, in a process of their own: `python -m benchmarks.child REQUEST`."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import sys
from pathlib import Path

import psutil
import torch

from benchmarks.cases import PACKAGES, Case

STEPS = 3
"""The optimizer's state appears at the end of the first step, beside activations in the second."""


def main(request: str) -> None:
    """Print {"bytes": growth, "baseline_bytes": ..., "peak_bytes": ...} as one line of JSON.

    CPU: resident set. The baseline is taken after the network and the optimizer are built, so that growth
    holds activations, gradients, optimizer state and the libraries' scratch space. GPU: the allocator's peak
    over its level at the same moment.
    """
    asked = json.loads(request)
    case, device = Case(**asked["case"]), torch.device(asked["device"])
    torch.set_num_threads(asked["threads"])
    package = importlib.import_module(PACKAGES[case.package])
    network = package.build(case).to(device)
    step = package.training_step(network, case, device)
    cuda = device.type == "cuda"
    if cuda:
        torch.cuda.reset_peak_memory_stats()
        baseline = torch.cuda.memory_allocated()
    else:
        release_and_reset_peak()
        baseline = psutil.Process().memory_info().rss
    for _ in range(STEPS):
        step()
    peak = torch.cuda.max_memory_allocated() if cuda else peak_resident()
    print(json.dumps({"bytes": peak - baseline, "baseline_bytes": baseline, "peak_bytes": peak}))


def release_and_reset_peak() -> None:
    """Return freed memory to the system and restart the high-water mark: building does not count (Linux)."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_resident() -> int:
    """High-water mark of the resident set in bytes: VmHWM on Linux, elsewhere what getrusage says."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    main(sys.argv[1])
