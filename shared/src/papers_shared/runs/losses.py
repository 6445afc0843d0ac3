"""The losses of one optimizer step over all processes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

import torch
from torch import Tensor, nn

from papers_shared.errors import UserError
from papers_shared.runs.atomic import write_json, writing_folder
from papers_shared.runs.folder import RunFolder
from papers_shared.runs.sharding import gather_whole
from papers_shared.runs.tensors import save_tensors

if TYPE_CHECKING:
    from accelerate import Accelerator


def sum_over_processes(parts: dict[str, Tensor], accelerator: Accelerator) -> dict[str, float]:
    """Each loss of the global batch, and their sum as `loss`.

    Args:
        parts: Scalars of this process; each is its share of the global batch's loss.
    """
    summed = accelerator.reduce(torch.stack(list(parts.values())).double(), "sum").tolist()
    return {"loss": sum(summed), **dict(zip(parts, summed, strict=True))}


def stop_on_bad_loss(
    run: RunFolder,
    step: int,
    figures: dict[str, float],
    samples: Sequence[str],
    network: nn.Module,
    accelerator: Accelerator,
) -> NoReturn:
    """Save the weights before this step and the names of its samples, then end with one sentence.

    Args:
        figures: Of `sum_over_processes`.
        samples: Names of the samples of this process.
    """
    from accelerate.utils import gather_object

    names, weights = gather_object(list(samples)), gather_whole(network.state_dict())
    folder = run.path / f"stopped-at-step-{step:08d}"
    if accelerator.is_main_process:
        with writing_folder(folder) as writing:
            save_tensors(weights, writing / "model.safetensors")
            losses = {name: str(value) for name, value in figures.items()}
            write_json(writing / "state.json", {"step": step, "samples": names, "losses": losses})
    accelerator.wait_for_everyone()
    raise UserError(
        f"the loss of step {step} is {figures['loss']} on the samples {', '.join(names)}: nothing was updated. "
        f"Weights and figures are in {folder}; look at those samples, lower --optim.lr or set --optim.clip-grad."
    )
