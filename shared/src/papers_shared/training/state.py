"""What an optimizer step changes, saved and restored as one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from papers_shared.errors import UserError
from papers_shared.training.average import MovingAverage
from papers_shared.training.optimizer_state import optimizer_from_tensors, optimizer_to_tensors
from papers_shared.training.run_folder import RunFolder
from papers_shared.training.sharding import divide_like, gather_whole


@dataclass
class TrainingState:
    """The bare network, its optimizer, and, where they are used, the moving average and the loss scaler."""

    network: nn.Module
    optimizer: Optimizer
    ema: MovingAverage | None = None
    scaler: torch.amp.GradScaler | None = None
    main_process: bool = True
    """Whether this process writes; with divided weights every process must take part in `save`."""

    def save(self, run: RunFolder, step: int, keep: int, **state: Any) -> None:
        """Write the checkpoint of `step`; `state` is plain JSON of the caller's own.

        Raises:
            UserError: a weight is not finite: the older checkpoints stay as they are.
        """
        weights = gather_whole(self.network.state_dict())
        bad = [
            name
            for name, value in weights.items()
            if value.is_floating_point() and not value.isfinite().all()
        ]
        if bad:
            raise UserError(
                f"{run.path}: weights are not finite after step {step} ({bad[0]} and {len(bad) - 1} more): "
                "not saved. Lower the learning rate or clip the gradient and run again: it resumes earlier."
            )
        optimizer_tensors, optimizer_state = optimizer_to_tensors(
            self.optimizer, self.network.named_parameters()
        )
        tensors = {"model": weights, "optimizer": gather_whole(optimizer_tensors)}
        if not self.main_process:
            return
        if self.ema is not None:
            tensors["ema"] = self.ema.state_dict()
        scaler = self.scaler.state_dict() if self.scaler is not None else None
        run.save_checkpoint(
            step, tensors, {**state, "step": step, "optimizer": optimizer_state, "scaler": scaler}, keep
        )

    def load(self, run: RunFolder, checkpoint: Path) -> dict[str, Any]:
        """Restore everything from a checkpoint folder and return its JSON state.

        Raises:
            UserError: the checkpoint was made by another network or optimizer, or with other switches.
        """
        tensors, state = run.load_checkpoint(checkpoint)
        if (self.ema is not None) != ("ema" in tensors):
            raise UserError(
                f"{checkpoint}: the moving average is in one of checkpoint and run only: keep it as it was."
            )
        try:
            self.network.load_state_dict(divide_like(tensors["model"], self.network.state_dict()))
            if self.ema is not None:
                self.ema.load_state_dict(tensors["ema"])
        except RuntimeError as error:
            raise UserError(f"{checkpoint}: its weights are not this network's: {error}") from error
        parameters = dict(self.network.named_parameters())
        owners = {entry: parameters.get(entry.rpartition("/")[0]) for entry in tensors["optimizer"]}
        moments = divide_like(tensors["optimizer"], owners)
        optimizer_from_tensors(self.optimizer, parameters.items(), moments, state["optimizer"])
        if self.scaler is not None and state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])
        return state
