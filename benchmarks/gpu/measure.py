"""One row: build the call that a row is about, and measure it."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.gpu.rows import Spec
from benchmarks.gpu.subjects import Subject, blocks_of
from papers_shared.compiling import WARM_UP, captured
from papers_shared.devices import DTYPES, autocast, use_precision
from papers_shared.training.config import OptimConfig
from papers_shared.training.optimizer import make_adamw, parameter_groups

CALLS, LONG_ENOUGH, TOO_LONG = 50, 0.2, 6.0
"""Calls and seconds of a measurement at least; seconds after which it ends with fewer calls."""
AT_ONCE = 10
"""Calls that are queued before the GPU is waited for."""

Call = Callable[[], Any]


@dataclass
class Measured:
    """What is known of one row; numbers of a call."""

    ms: float
    fastest_ms: float
    calls: int
    first_s: float
    """The first call: compiling, choosing kernels, capturing."""
    peak_bytes: int
    """Beside weights and inputs."""
    flops: float
    """Of convolutions and matrix products; a training step counts as three forward passes."""
    moved_bytes: float
    """In and out of every operation, called eagerly."""
    launches: int | None
    """By the host; None: not counted."""
    compiled: int
    """Graphs that torch.compile made; 0 where it was not asked."""


@dataclass
class Bench:
    """Measures rows on one device.

    Args:
        profile: Count launches with torch's profiler.
        backend: Of torch.compile.
        quick: Three calls of everything.
    """

    device: torch.device
    profile: bool = True
    backend: str = "inductor"
    quick: bool = False
    _networks: dict[str, nn.Module] = field(default_factory=dict)
    _work: dict[tuple[Any, ...], tuple[float, float]] = field(default_factory=dict)

    def measure(self, spec: Spec, subject: Subject) -> Measured:
        """One row.

        Raises:
            RuntimeError: It can't be run, such as for want of memory.
        """
        use_precision(spec.precision, self.device)
        network = copy.deepcopy(self._network(subject))
        given = tuple(x.to(self.device) for x in subject.inputs(spec.batch))
        try:
            return self._measure(spec, subject, network, given)
        finally:
            if self.device.type == "cuda":
                del network, given
                torch.cuda.empty_cache()

    def _measure(
        self, spec: Spec, subject: Subject, network: nn.Module, given: tuple[Tensor, ...]
    ) -> Measured:
        if half_weights(spec):
            network.to(DTYPES[spec.precision])
            given = tuple(x.to(DTYPES[spec.precision]) if x.is_floating_point() else x for x in given)
        call = self._call(spec, subject, network, given)
        self._wait()
        level = self._memory()
        key = (*spec.job, spec.precision, half_weights(spec))
        if key not in self._work:
            flops, moved = work(call)
            if (
                spec.mode == "training"
            ):  # the counter takes the backward pass of grouped convolutions for an ungrouped one
                flops = 3 * work(lambda: subject.forward(network, *given))[0]
            self._work[key] = flops, moved
        if spec.form == "by block":
            torch._dynamo.reset()
            for block in blocks_of(network):
                block.compile(backend=self.backend)
        self._wait()
        began = time.perf_counter()
        if spec.form == "graph":
            self._restart_peak()
            call, _ = captured(call)
        call()
        self._wait()
        first = time.perf_counter() - began
        for _ in range(0 if self.quick else WARM_UP):
            call()
        self._wait()
        if spec.form != "graph":
            self._restart_peak()
            call()
            self._wait()
        peak = self._memory(peak=True) - level
        times = self._times(call)
        flops, moved = self._work[key]
        return Measured(
            ms=statistics.median(times),
            fastest_ms=min(times),
            calls=len(times),
            first_s=first,
            peak_bytes=max(0, peak),
            flops=flops,
            moved_bytes=moved,
            launches=launches(call) if self.profile and self.device.type == "cuda" else None,
            compiled=torch._dynamo.utils.counters["stats"]["unique_graphs"] if spec.form == "by block" else 0,
        )

    def _network(self, subject: Subject) -> nn.Module:
        if subject.name not in self._networks:
            torch.manual_seed(0)
            self._networks[subject.name] = subject.build().to(self.device).requires_grad_(True)
        return self._networks[subject.name]

    def _call(self, spec: Spec, subject: Subject, network: nn.Module, given: tuple[Tensor, ...]) -> Call:
        if spec.mode == "inference":
            network.eval().requires_grad_(False)
            precision = "fp32" if half_weights(spec) else spec.precision  # then there is nothing to cast

            def infer() -> Any:
                with torch.no_grad(), autocast(network, precision):
                    return subject.forward(network, *given)

            return infer
        assert subject.loss is not None
        loss, targets = subject.loss, tuple(x.to(self.device) for x in subject.targets(spec.batch))
        optim = OptimConfig(lr=1e-5)
        optimizer = make_adamw(parameter_groups(network.train(), optim), optim, self.device)

        def train() -> None:
            with autocast(network, spec.precision):
                output = subject.forward(network, *given)
            loss(output, *targets).backward()
            optimizer.step()
            optimizer.zero_grad()

        return train

    def _times(self, call: Call) -> list[float]:
        """Milliseconds of calls: by events on a GPU, by the clock elsewhere."""
        found: list[float] = []
        began = time.perf_counter()
        while True:
            found += self._timed(call, 3 if self.quick else AT_ONCE)
            spent = time.perf_counter() - began
            enough = len(found) >= CALLS and spent >= LONG_ENOUGH
            if self.quick or enough or spent > TOO_LONG:
                return found

    def _timed(self, call: Call, count: int) -> list[float]:
        if self.device.type != "cuda":
            found = []
            for _ in range(count):
                began = time.perf_counter()
                call()
                found.append(1e3 * (time.perf_counter() - began))
            return found
        events = [torch.cuda.Event(enable_timing=True) for _ in range(count + 1)]
        events[0].record()
        for event in events[1:]:
            call()
            event.record()
        self._wait()
        return [begin.elapsed_time(end) for begin, end in pairwise(events)]

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def _memory(self, *, peak: bool = False) -> int:
        if self.device.type != "cuda":
            return 0
        return torch.cuda.max_memory_allocated() if peak else torch.cuda.memory_allocated()

    def _restart_peak(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()


def half_weights(spec: Spec) -> bool:
    """Whether the weights are kept in half precision, in place of being cast in each call."""
    return spec.form == "graph" and spec.precision in ("bf16", "fp16")


class Moved(TorchDispatchMode):
    """Adds up the bytes that operations read and write; views move none."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        answer = function(*args, **(kwargs or {}))
        aliases = [value.alias_info for value in function._schema.returns]
        if not any(alias is not None and not alias.is_write for alias in aliases):
            tensors = [x for x in tree_leaves((args, kwargs, answer)) if isinstance(x, Tensor)]
            self.bytes += sum(x.numel() * x.element_size() for x in tensors)
        return answer


def work(call: Call) -> tuple[float, float]:
    """Floating-point operations of convolutions and matrix products, and bytes of all operations, of one call."""
    with FlopCounterMode(display=False) as counter, Moved() as moved:
        call()
    return float(counter.get_total_flops()), float(moved.bytes)


def launches(call: Call) -> int:
    """How often the host launches something on the GPU in one call."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as recorded:
        call()
        torch.cuda.synchronize()
    names = [event.name for event in recorded.events() or []]
    return sum(name.startswith(("cudaLaunchKernel", "cuLaunchKernel", "cudaGraphLaunch")) for name in names)
