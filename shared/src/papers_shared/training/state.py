"""What an optimizer step changes, saved and restored as one."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from papers_shared.errors import UserError
from papers_shared.training.average import MovingAverage
from papers_shared.training.background import BackgroundWriter, Copies
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
    _writer: BackgroundWriter = field(default_factory=BackgroundWriter, init=False)
    _copies: Copies = field(default_factory=Copies, init=False)

    def save(self, run: RunFolder, step: int, keep: int, **state: Any) -> None:
        """Begin to write the checkpoint of `step`: what is saved is copied now, and a thread writes it.

        Args:
            state: Plain JSON of the caller's own.

        Raises:
            UserError: The checkpoint before this one could not be written, as `wait` says.
        """
        self._writer.wait()  # its copies are overwritten now
        optimizer_tensors, optimizer_state = optimizer_to_tensors(
            self.optimizer, self.network.named_parameters()
        )
        tensors = {
            "model": gather_whole(self.network.state_dict()),
            "optimizer": gather_whole(optimizer_tensors),
        }
        if not self.main_process:
            return
        if self.ema is not None:
            tensors["ema"] = self.ema.state_dict()
        scaler = self.scaler.state_dict() if self.scaler is not None else None
        about = copy.deepcopy({**state, "step": step, "optimizer": optimizer_state, "scaler": scaler})
        copies, wait = self._copies.take(tensors)

        def write() -> None:
            wait()
            _check_finite(run, step, copies["model"])
            run.save_checkpoint(step, copies, about, keep)

        self._writer.start(write)

    def wait(self) -> None:
        """Until the checkpoint that was begun last is written.

        Raises:
            UserError: A weight is not finite: the older checkpoints stay as they are.
            OSError: It cannot be written.
        """
        self._writer.wait()

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


def _check_finite(run: RunFolder, step: int, weights: Mapping[str, Tensor]) -> None:
    bad = [
        name for name, value in weights.items() if value.is_floating_point() and not value.isfinite().all()
    ]
    if bad:
        raise UserError(
            f"{run.path}: weights are not finite after step {step} ({bad[0]} and {len(bad) - 1} more): "
            "not saved. Lower the learning rate or clip the gradient and run again: it resumes earlier."
        )
