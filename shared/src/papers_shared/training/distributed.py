"""The processes of a launch: joined by Accelerate, held to the same facts, and reported when one is lost."""

from __future__ import annotations

import atexit
import gc
import os
from collections.abc import Callable
from datetime import timedelta
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from papers_shared.devices import float32_precision, use_precision, widest_float
from papers_shared.errors import UserError
from papers_shared.ranges import check_ranges
from papers_shared.training.background import wait_for_writers
from papers_shared.training.checks import check_options
from papers_shared.training.run_folder import run_path
from papers_shared.training.sharding import check_shard
from papers_shared.training.trackers import check_trackers
from papers_shared.types import Precision

if TYPE_CHECKING:
    from accelerate import Accelerator

RecipeT = TypeVar("RecipeT")

TIMEOUT = 1800
"""Seconds that a process waits for the others before it gives up."""

GLOO = ("/gloo/", "Application timeout caused pair closure")
"""What marks an error as gloo's: the path in its source, or the sentence given to a second exchange that waits."""


def make_accelerator(precision: Precision = "fp32", *, timeout: int = TIMEOUT, **options: Any) -> Accelerator:
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
    from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs

    if os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true":
        raise UserError(
            "Accelerate's own FSDP is not used here, and on CPUs it would silently not divide anything: launch as for "
            "several GPUs, without --use_fsdp, and give the training command --optim.shard"
        )
    if timeout < 1:
        raise UserError(f"a timeout of {timeout} s ends every launch: wait for the other processes longer")
    group = InitProcessGroupKwargs(timeout=timedelta(seconds=timeout))
    # no second copy of the gradients; the statistics of batch norm are those of the first process where they are used
    parallel = DistributedDataParallelKwargs(gradient_as_bucket_view=True, broadcast_buffers=False)
    try:
        accelerator = Accelerator(
            mixed_precision=precision if precision in ("bf16", "fp16") else "no",
            cpu=not torch.accelerator.is_available(),
            kwargs_handlers=[group, parallel],
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


def start_processes(recipe: Any) -> Accelerator:
    """Join the processes of a training, with the seed, precision and trackers of its recipe.

    Raises:
        UserError: An option that is out of range, does not fit the processes, or names an unknown tracker.
    """
    from accelerate.utils import set_seed

    check_options(recipe.optim, recipe.run)
    check_ranges(recipe)
    check_trackers(recipe.run.trackers)
    accelerator = make_accelerator(
        recipe.optim.precision,
        timeout=recipe.run.timeout,
        log_with=list(recipe.run.trackers) or None,
        project_dir=run_path(recipe),
    )
    if recipe.optim.shard:
        check_shard(recipe.optim, accelerator.num_processes)
    use_precision(recipe.optim.precision, accelerator.device)
    set_seed(recipe.run.seed)
    torch.backends.cudnn.benchmark = not recipe.run.deterministic
    torch.use_deterministic_algorithms(recipe.run.deterministic, warn_only=True)
    return accelerator


def precision_of(accelerator: Accelerator) -> Precision:
    """What networks compute in under an accelerator's autocast."""
    autocast: Any = accelerator.mixed_precision
    return float32_precision(accelerator.device) if autocast == "no" else autocast


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


def sum_over_processes(parts: dict[str, Tensor], accelerator: Accelerator, *, flag: bool = False) -> Tensor:
    """Each loss of the global batch, and on how many processes `flag` is set, (n + 1,) on the device.

    Args:
        parts: Scalars of this process; each is its share of the global batch's loss.
    """
    values = [*parts.values()]
    values.append(torch.full_like(values[0], float(flag)))
    summed: Tensor = accelerator.reduce(torch.stack(values).to(widest_float(accelerator.device)), "sum")
    return summed


def describe_machine(accelerator: Accelerator) -> dict[str, Any]:
    """What a log should say about the machine: results are compared within one kind of it."""
    about: dict[str, Any] = {
        "processes": accelerator.num_processes,
        "device": str(accelerator.device.type),
        "precision": precision_of(accelerator),
        "torch": torch.__version__,
    }
    if accelerator.device.type == "cuda":
        about["gpu"] = torch.cuda.get_device_name(accelerator.device)
        about["cuda"] = torch.version.cuda
    return about


def report_lost_processes(train: Callable[[RecipeT], Path]) -> Callable[[RecipeT], Path]:
    """A training loop that ends with one sentence when other processes no longer answer.

    However it ends, a checkpoint that was begun is whole then.

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
        finally:
            wait_for_writers()

    return told


def _leave_group() -> None:
    """End gloo's threads while Python still runs.

    One that lets go of a tensor later, which happens once in some hundred runs on a loaded machine, aborts the
    process: "terminate called without an active exception", exit code -6 in place of the program's own. A group's
    threads end with the last reference to it, and divided weights hold theirs in circles.
    """
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
        gc.collect()


def _asked_for_more() -> bool:
    """Whether Accelerate's simple launcher started this process and was given a number above one.

    That launcher leaves an address to meet at and, unlike torchrun and MPI, no rank.
    """
    return {"ACCELERATE_MIXED_PRECISION", "MASTER_ADDR"} <= os.environ.keys() and "RANK" not in os.environ


def _lost(error: RuntimeError) -> bool:
    """Whether the exchange with other processes failed; gloo has no exception type of its own."""
    return isinstance(error, torch.distributed.DistError) or any(mark in str(error) for mark in GLOO)


def _reason(error: RuntimeError) -> str:
    """The first line of what the library says, without the path in its source."""
    line = str(error).strip().partition("\n")[0]
    return line.rpartition("] ")[2] if line.startswith("[/") else line
