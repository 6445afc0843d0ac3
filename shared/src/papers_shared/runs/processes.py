"""The processes of a launch, as Accelerate sees them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import torch

from papers_shared.errors import UserError

if TYPE_CHECKING:
    from accelerate import Accelerator


def make_accelerator(precision: str = "no", **options: Any) -> Accelerator:
    """An `Accelerator` that has all the processes that were launched.

    Without a GPU, Accelerate forms a group (gloo) only when it is told to use the CPU; otherwise each launched process
    would silently train alone.

    Raises:
        UserError: Accelerate sees another number of processes than were launched, or keeps another precision.
    """
    from accelerate import Accelerator

    try:
        accelerator = Accelerator(
            mixed_precision=precision, cpu=not torch.accelerator.is_available(), **options
        )
    except ValueError as error:
        raise UserError(f"precision '{precision}' cannot be used: {error}") from error
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if accelerator.num_processes != launched:
        raise UserError(
            f"{launched} processes were launched and Accelerate joins {accelerator.num_processes}: "
            "start them with `accelerate launch` or `torchrun`, and check its configuration with `accelerate env`."
        )
    return accelerator
