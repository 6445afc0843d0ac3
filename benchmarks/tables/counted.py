"""What a network's row says without any run: parameters and multiply-adds, counted without weights."""

from __future__ import annotations

from functools import cache
from typing import Any, Literal

from benchmarks.tables.recipes import recipes_of


def count(what: Literal["parameters", "operations"], package: str, recipe: str, digits: int) -> str:
    """One cell, in millions or in 1e9."""
    parameters, operations = _network(package, recipe)
    if what == "parameters":
        return f"{parameters / 1e6:.{digits}f} (counted)"
    return f"{operations / 1e9:.{digits}f} (counted)" if operations else "depends on the weights"


@cache
def _network(package: str, recipe: str) -> tuple[int, int]:
    """(parameters, multiply-adds of convolutions and matrix products for one image; 0: not a constant).

    fanet: the row's backbone as the ImageNet classifier at 224x224, which is what the paper counts.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    config: Any = recipes_of(package)[recipe]().model
    network: Any
    with torch.device("meta"):
        if package == "fanet":
            import timm

            import fanet  # noqa: F401 (its models are timm's then)

            network = timm.create_model(config.backbone, num_classes=1000)
            inputs = [torch.zeros(1, 3, 224, 224)]
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
