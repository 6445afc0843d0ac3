"""Figures of a network that need no run: parameters and multiply-adds, counted without weights, and latency."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from benchmarks.tables.recipes import recipes_of
from benchmarks.tables.throughput import Speed

LATENCY = "network", 448, 1
"""Part, side and batch of the case that PLVL's Table 3 is compared with."""


def count(what: str, package: str, recipe: str, digits: int, speeds: Sequence[Speed]) -> str:
    """One cell; empty where the figure cannot be counted, `not measured` for a missing latency."""
    if what == "latency":
        return _latency(package, recipe, speeds)
    parameters, operations = _network(package, recipe)
    if what == "parameters":
        return f"{parameters / 1e6:.{digits}f} (counted)"
    return f"{operations / 1e9:.{digits}f} (counted)" if operations else "depends on the weights"


@cache
def _network(package: str, recipe: str) -> tuple[int, int]:
    """(parameters, multiply-adds of convolutions and matrix products for one picture; 0: not a constant).

    fanet: the row's backbone as the ImageNet classifier at 224x224, which is what the paper counts.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    config: Any = recipes_of(package)[recipe]().model
    with torch.device("meta"):
        if package == "fanet":
            import timm

            import fanet.registry  # noqa: F401 (its models are timm's then)

            network, inputs = (
                timm.create_model(config.backbone, num_classes=1000),
                [torch.zeros(1, 3, 224, 224)],
            )
        else:
            from plvl.modeling.plvl import PLVL

            network = PLVL.from_config(config)
            tokens = torch.zeros(1, config.max_tokens, dtype=torch.long)
            inputs = [torch.zeros(1, 3, config.image_size, config.image_size), tokens, tokens + 1]
        parameters = sum(value.numel() for value in network.parameters())
        if package == "plvl" and config.decoder == "eevg":  # which tokens leave, the weights decide
            return parameters, 0
        counter = FlopCounterMode(display=False)
        with counter:  # with gradients: without, cross-attention takes fewer
            network.eval()(*inputs)
    return parameters, counter.get_total_flops() // 2


def _latency(package: str, recipe: str, speeds: Sequence[Speed]) -> str:
    part, side, batch = LATENCY
    found = [
        one
        for one in speeds
        if recipe == "refcocog_umd" and one.network == package and one.mode == "inference"
        if (one.part, one.side, one.batch) == (part, side, batch)
    ]
    best = min(found, key=lambda one: (not one.gpu, one.seconds), default=None)
    return "not measured" if best is None else f"{1e3 * best.seconds:.2f} ({best})"
