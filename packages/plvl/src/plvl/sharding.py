"""What FSDP means for PLVL: the parts it gathers one at a time, and what it does not go with."""

from __future__ import annotations

from typing import Any

from accelerate import Accelerator
from torch import nn

from papers_shared.errors import UserError
from plvl.config import OptimConfig


def check_shard(optim: OptimConfig, accelerator: Accelerator) -> None:
    """Refuse what has no meaning, or was never proven, with divided weights."""
    given = {
        "--optim.ema": optim.ema > 0,
        "--optim.compile": optim.compile,
        "--optim.sync-bn": optim.sync_bn,
        "--optim.precision fp16": optim.precision == "fp16",
    }
    wrong = [option for option, on in given.items() if on]
    if optim.shard and wrong:
        raise UserError(f"--optim.shard does not go with {' and '.join(wrong)}: leave one of them out")
    if optim.shard and accelerator.num_processes == 1:
        raise UserError(
            "--optim.shard divides the weights among processes and there is one: start two or more"
        )


def units(network: Any) -> list[nn.Module]:
    """The layers of a PLVL, but for the backbone block that is called in two halves, around the sentence."""
    blocks, halves = list(network.backbone.blocks), network.backbone.first_language_block
    return [
        *blocks[:halves],
        *blocks[halves + 1 :],
        *network.language.encoder.layer,
        *network.decoder.layers,
    ]
