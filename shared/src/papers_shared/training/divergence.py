"""The end of a run whose loss is not finite."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from torch import nn

from papers_shared.errors import UserError
from papers_shared.files import save_tensors, write_json, writing_folder
from papers_shared.training.run_folder import RunFolder
from papers_shared.training.sharding import gather_whole

if TYPE_CHECKING:
    from accelerate import Accelerator


def stop_on_divergence(
    run: RunFolder,
    step: int,
    losses: dict[str, float],
    samples: Sequence[str],
    network: nn.Module,
    accelerator: Accelerator,
) -> NoReturn:
    """Save the weights before this step and the names of its samples, then end with one sentence.

    Args:
        losses: Of the global batch, `loss` among them.
        samples: Names of the samples of this process.
    """
    from accelerate.utils import gather_object

    names, weights = gather_object(list(samples)), gather_whole(network.state_dict())
    folder = run.path / f"stopped-at-step-{step:08d}"
    if accelerator.is_main_process:
        with writing_folder(folder, ("model.safetensors", "state.json")) as writing:
            save_tensors(weights, writing / "model.safetensors")
            values = {name: str(value) for name, value in losses.items()}
            write_json(writing / "state.json", {"step": step, "samples": names, "losses": values})
    accelerator.wait_for_everyone()
    raise UserError(
        f"the loss of step {step} is {losses['loss']} on the samples {', '.join(names)}: nothing was updated. "
        f"Weights and losses are in {folder}; look at those samples, lower --optim.lr or set --optim.clip-grad"
    )
