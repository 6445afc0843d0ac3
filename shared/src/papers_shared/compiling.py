"""Networks that are called many times: blocks compiled by `torch.compile`, calls on a GPU captured as CUDA graphs."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn

from papers_shared.devices import DTYPES, device_of
from papers_shared.errors import UserError
from papers_shared.threads import lock_of
from papers_shared.types import Precision

WARM_UP = 3
"""Calls before a capture, in which cuDNN and the allocator choose."""
GRAPHS_KEPT = 16
"""Graphs of the last so many sizes stay in memory, for each method."""


def speed_up(
    network: Any,
    precision: Precision,
    *,
    compiled: bool = False,
    graphs: bool = False,
    calls: Sequence[str] = ("forward",),
) -> None:
    """Make a network's inference faster, in place.

    Args:
        precision: What it computes in.
        compiled: Compile its blocks.
        graphs: Capture its calls, one graph for each size of the input; a replay launches once. Hooks of modules do not
            see replays. In bf16 and fp16 weights are kept as autocast would cast them in each call.
        calls: The methods that inference calls.

    Raises:
        UserError: Graphs, and the network does not lie on a CUDA device.
    """
    if graphs and device_of(network).type != "cuda":
        raise UserError(f"--cuda-graphs needs a CUDA device, and the network lies on {device_of(network)}")
    if compiled:
        compile_units(network)
    if graphs:
        if precision in ("bf16", "fp16"):
            _keep_cast(network, DTYPES[precision])
        for name in calls:
            setattr(network, name, Graphs(network, getattr(network, name)))


def compile_units(network: Any) -> None:
    """Compile each of the network's `fsdp_units` by itself.

    Blocks of one kind share their code, and gradients are exchanged while earlier blocks still compute theirs. Sizes
    are left open, so that images of other sizes need no other code.
    """
    # a cache for each unit, where torch has that: all of them together would soon have more forms than torch allows
    has = "isolate_recompiles" in signature(torch.compile).parameters
    apart = {"isolate_recompiles": True} if has else {}
    for unit in network.fsdp_units():
        unit.compile(dynamic=True, **apart)


class Graphs:
    """A method of a network on a GPU as CUDA graphs: what it answered to inputs of a size is replayed for others."""

    def __init__(self, network: nn.Module, call: Callable[..., Any]) -> None:
        self.network, self.call = network, call
        self._known: OrderedDict[Any, tuple[list[Tensor], Any, Callable[[], Any]]] = OrderedDict()

    def __call__(self, *inputs: Any) -> Any:
        """The answer; it holds copies, which later calls leave as they are."""
        tensors = _tensors(inputs)
        key = tuple((tensor.shape, tensor.dtype, tensor.stride()) for tensor in tensors)
        with lock_of(self.network):
            if key not in self._known:
                self._known[key] = self._capture(inputs)
                while len(self._known) > GRAPHS_KEPT:
                    self._known.popitem(last=False)
            self._known.move_to_end(key)
            places, answer, replay = self._known[key]
            for place, tensor in zip(places, tensors, strict=True):
                place.copy_(tensor)
            replay()
            return _mapped(answer, torch.clone)

    def _capture(self, inputs: tuple[Any, ...]) -> tuple[list[Tensor], Any, Callable[[], Any]]:
        held = _mapped(inputs, torch.clone)
        cached = torch.is_autocast_cache_enabled()
        torch.set_autocast_cache_enabled(False)  # a cast that is cached is freed with the block of autocast
        try:
            replay, answer = captured(lambda: self.call(*held))
        finally:
            torch.set_autocast_cache_enabled(cached)
        return _tensors(held), answer, replay


def captured(call: Callable[[], Any]) -> tuple[Callable[[], Any], Any]:
    """The call as a CUDA graph, and its answer, which each replay overwrites; its inputs stay where they lie.

    The calls before it fill the graph's own memory, so that the capture itself asks the driver for none.
    """
    stream, pool, graph = torch.cuda.Stream(), torch.cuda.MemPool(), torch.cuda.CUDAGraph()
    memory: Any = pool.id
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream), torch.cuda.use_mem_pool(pool):
        for _ in range(WARM_UP):
            call()
    torch.cuda.current_stream().wait_stream(stream)
    with torch.cuda.graph(graph, pool=memory, stream=stream):
        answer = call()
    return graph.replay, answer


def _keep_cast(network: nn.Module, dtype: torch.dtype) -> None:
    """Weights of products and convolutions in the type that autocast computes them in."""
    for module in network.modules():
        if isinstance(module, nn.Linear | nn.modules.conv._ConvNd):
            module.to(dtype)


def _mapped(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Tuples with their tensors changed."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, tuple):
        parts = [_mapped(part, change) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    return value


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    return [tensor for part in value for tensor in _tensors(part)] if isinstance(value, tuple) else []
