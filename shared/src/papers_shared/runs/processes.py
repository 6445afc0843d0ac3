"""The processes of a launch, as Accelerate sees them: joined, alike, and missed when they are gone."""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable
from datetime import timedelta
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from papers_shared.errors import UserError

if TYPE_CHECKING:
    from accelerate import Accelerator

RecipeT = TypeVar("RecipeT")

TIMEOUT = 1800
"""Seconds that a process waits for the others before it gives up."""

GLOO = ("/gloo/", "Application timeout caused pair closure")
"""What marks an error as gloo's: the place in its source, or the sentence given to a second exchange that waits."""


def make_accelerator(precision: str = "no", *, timeout: int = TIMEOUT, **options: Any) -> Accelerator:
    """An `Accelerator` that has all the processes that were launched.

    Without a GPU, Accelerate forms a group (gloo) only when it is told to use the CPU; otherwise each launched process
    would silently train alone. That group is left when the interpreter ends, however the program went.

    Args:
        timeout: Seconds that one process waits for the others, at the start and in each exchange.
        options: More for `Accelerator`.

    Raises:
        UserError: Accelerate sees another number of processes than were launched, keeps another precision, or was
            asked for its own FSDP.
    """
    from accelerate import Accelerator
    from accelerate.utils import InitProcessGroupKwargs

    if os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true":
        raise UserError(
            "Accelerate's own FSDP is not used here, and on CPUs it would silently not divide anything: launch as for "
            "several GPUs, without --use_fsdp, and give the training command --optim.shard, where the package has it."
        )
    if timeout < 1:
        raise UserError(f"a timeout of {timeout} s ends every launch: wait for the other processes longer")
    group = InitProcessGroupKwargs(timeout=timedelta(seconds=timeout))
    try:
        accelerator = Accelerator(
            mixed_precision=precision,
            cpu=not torch.accelerator.is_available(),
            kwargs_handlers=[group],
            **options,
        )
    except ValueError as error:
        raise UserError(f"precision '{precision}' cannot be used: {error}") from error
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if accelerator.num_processes != launched:
        raise UserError(
            f"{launched} processes were launched and Accelerate joins {accelerator.num_processes}: "
            "start them with `accelerate launch` or `torchrun`, and check its configuration with `accelerate env`."
        )
    if accelerator.num_processes == 1 and _asked_for_more():
        raise UserError(
            "`accelerate launch` was asked for several processes and started one: give it --multi_gpu, which on a "
            "machine without GPUs starts processes on the CPU; --cpu alone never starts a second one."
        )
    if accelerator.num_processes > 1 and torch.distributed.get_backend() == "gloo":
        atexit.register(_leave_group)
    return accelerator


def same_everywhere(accelerator: Accelerator, **facts: Any) -> None:
    """Refuse to go on when the processes do not see the same: each fact must be equal on all of them.

    Raises:
        UserError: On every process; it says which process has what.
    """
    from accelerate.utils import gather_object

    seen = gather_object([facts])
    for name in facts:
        values = [entry[name] for entry in seen]
        if any(value != values[0] for value in values):
            held = ", ".join(f"process {rank} has {value}" for rank, value in enumerate(values))
            raise UserError(
                f"the processes do not agree on the {name.replace('_', ' ')} ({held}): give every machine the same "
                "data, and a run folder on a disk that all of them share."
            )


def telling_lost_processes(train: Callable[[RecipeT], Path]) -> Callable[[RecipeT], Path]:
    """A training loop that ends with one sentence when other processes no longer answer.

    Raises:
        UserError: Instead of what gloo or NCCL raise for a process that has ended and for a cut network.
    """

    @wraps(train)
    def told(recipe: RecipeT) -> Path:
        try:
            return train(recipe)
        except RuntimeError as error:
            if not _lost(error):
                raise
            raise UserError(
                f"the other processes of this run no longer answer ({_reason(error)}): see what they printed, mend "
                "the machine or the network, and give the same command on every machine again, which resumes from the "
                "newest checkpoint; checkpoints are whole or not there."
            ) from error

    return told


def _leave_group() -> None:
    """End gloo's threads while Python still runs.

    One that lets go of a tensor later, which happens once in some hundred runs on a loaded machine, aborts the
    process: "terminate called without an active exception", exit code -6 in place of the program's own.
    """
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _asked_for_more() -> bool:
    """Whether Accelerate's simple launcher started this process and was given a number above one.

    That launcher leaves an address to meet at and, unlike torchrun and MPI, no rank.
    """
    return {"ACCELERATE_MIXED_PRECISION", "MASTER_ADDR"} <= os.environ.keys() and "RANK" not in os.environ


def _lost(error: RuntimeError) -> bool:
    """Whether the exchange with other processes failed; gloo has no exception type of its own."""
    return isinstance(error, torch.distributed.DistError) or any(mark in str(error) for mark in GLOO)


def _reason(error: RuntimeError) -> str:
    """The first line of what the library says, without the place in its source."""
    line = str(error).strip().partition("\n")[0]
    return line.rpartition("] ")[2] if line.startswith("[/") else line
