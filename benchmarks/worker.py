"""One variant of one job in a process of its own: `python -m benchmarks.worker REQUEST`.

The process builds the network, then answers one line of JSON to each line that it reads: the name of a method of
`Subject`. Its packages are those of the checkout that PYTHONPATH names first.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.jobs import AGAINST, COMPILED, OURS, Job, module_of

os.environ["PAPERS_UNTRAINED"] = "1"  # all weights are random

WARM_UP = {"inference": 2, "training": 3}
"""Calls before any that is timed; the optimizer's state appears at the end of the first step."""


class Subject:
    """A network on its device, with its inputs.

    Args:
        folder: The weights and the outputs of all variants of this job. Ours writes its weights there, and another
            checkout reads them; `plain` draws the same ones.
    """

    def __init__(self, job: Job, variant: str, folder: Path, device: str) -> None:
        self.job, self.variant, self.folder = job, variant, folder
        self.device = torch.device(device)
        self.module = module_of(job.package)
        torch.manual_seed(0)
        self.network = self.module.build(job.network(), OURS if variant in (AGAINST, COMPILED) else variant)
        weights = folder / "weights.pt"
        if variant == OURS:
            torch.save(self.network.state_dict(), weights)
        elif variant == AGAINST:
            self.network.load_state_dict(torch.load(weights, weights_only=True))
        self.network.to(self.device)
        if variant in (OURS, AGAINST) and hasattr(self.module, "prepare"):
            self.module.prepare(self.network, job)
        self.inputs = tuple(
            x.to(self.device) if isinstance(x, torch.Tensor) else x
            for x in self.module.inputs(job.network(), variant)
        )
        self.called: Any = torch.compile(self.network) if variant == COMPILED else self.network
        self.optimizer: torch.optim.Optimizer | None = None

    def count(self) -> dict[str, float]:
        """Parameters, and multiply-adds of one forward pass in 1e9: convolutions and matrix products."""
        counter = FlopCounterMode(display=False)
        self.network.eval()
        with torch.no_grad(), counter, self._autocast():
            self.network(*self.inputs)
        return {
            "parameters": sum(value.numel() for value in self.network.parameters()),
            "gmac": counter.get_total_flops() / 2e9,
        }

    def outputs(self) -> list[str]:
        """The names of what the network answers in eval mode; the tensors are saved for `compare`."""
        self.network.eval()
        with torch.no_grad(), self._autocast():
            found = dict(self.module.outputs(self.called(*self.inputs)))
        torch.save(
            {name: value.double().cpu() for name, value in found.items()}, self.folder / f"{self.variant}.pt"
        )
        return list(found)

    def compare(self) -> dict[str, float]:
        """Name -> max |this - ours| / max |ours|, of outputs that both variants saved."""
        ours, this = (
            torch.load(self.folder / f"{name}.pt", weights_only=True) for name in (OURS, self.variant)
        )
        return {
            name: float((this[name] - expected).abs().max() / expected.abs().max())
            for name, expected in ours.items()
        }

    def memory(self) -> int:
        """Bytes that the job takes at its peak beside the network: activations, gradients, optimizer state.

        CPU: the high-water mark of the resident set over its level before (Linux; elsewhere that of the whole life
        of the process). GPU: torch's allocator. These calls are the warm-up, too.
        """
        self._prepare()
        gc.collect()
        before = self._level(restart=True)
        for _ in range(WARM_UP[self.job.mode]):
            self._call()
        return max(0, self._level(peak=True) - before)

    def seconds(self) -> float:
        """The time of one call."""
        self._wait()
        began = time.perf_counter()
        self._call()
        self._wait()
        return time.perf_counter() - began

    def _prepare(self) -> None:
        training = self.job.mode == "training"
        self.network.train(training)
        if training and self.optimizer is None:
            self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=1e-5, fused=True)

    def _call(self) -> None:
        if self.optimizer is None:
            with torch.no_grad(), self._autocast():
                self.called(*self.inputs)
            return
        with self._autocast():
            output = self.called(*self.inputs)
        self.module.loss(output, self.job).backward()
        self.optimizer.step()
        self.optimizer.zero_grad()

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda")

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def _level(self, *, restart: bool = False, peak: bool = False) -> int:
        if self.device.type == "cuda":
            if restart:
                torch.cuda.reset_peak_memory_stats()
            return torch.cuda.max_memory_allocated() if peak else torch.cuda.memory_allocated()
        if restart:
            with contextlib.suppress(OSError, AttributeError):
                ctypes.CDLL("libc.so.6").malloc_trim(0)
            with contextlib.suppress(OSError):
                Path("/proc/self/clear_refs").write_text("5")
        return _peak_resident() if peak else psutil.Process().memory_info().rss


def _peak_resident() -> int:
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    with contextlib.suppress(ImportError):
        import resource

        kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return kilobytes if sys.platform == "darwin" else kilobytes * 1024
    return int(psutil.Process().memory_info().peak_wset)


def main(request: str) -> None:
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever a library prints goes to the errors
    asked = json.loads(request)
    torch.set_num_threads(asked["threads"])
    torch.backends.cudnn.benchmark = True
    job = Job(**{**asked["job"], "variants": ()})
    subject = Subject(job, asked["variant"], Path(asked["folder"]), asked["device"])
    print(json.dumps("ready"), file=answers)
    for line in sys.stdin:
        print(json.dumps(getattr(subject, line.strip())()), file=answers)


if __name__ == "__main__":
    main(sys.argv[1])
