"""Before the first step: the run folder, the trackers, and what a log should say about the machine."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from papers_shared.dataclass_json import dataclass_to_json, read_dataclass
from papers_shared.errors import UserError
from papers_shared.runs.folder import RunFolder

if TYPE_CHECKING:
    from accelerate import Accelerator

FREE_RUN_OPTIONS = frozenset(
    {"output", "resume", "checkpoint_every", "keep", "timeout", "log_every", "trackers", "deterministic"}
)
"""Options of a recipe's section `run` that a resumed run may change, whatever it trains."""
RecipeT = TypeVar("RecipeT")


def open_run(
    run: RunFolder, recipe: RecipeT, *, free: Mapping[str, Collection[str]], resume: bool, main_process: bool
) -> Path | None:
    """Make or reopen the run folder; the checkpoint to resume from, if there is one.

    Args:
        recipe: A dataclass whose fields are sections (dataclasses) of options.
        free: For each section the options that may differ from those the run was started with, because they do
            not change the numbers.

    Raises:
        UserError: The folder holds a run that is not to be resumed, or one of another configuration.
    """
    config = run.path / "config.json"
    if main_process and config.exists():
        if not resume:
            raise UserError(
                f"{run.path} holds a run: choose another --run.output, delete it, or leave it to resume."
            )
        changed = _differences(read_dataclass(type(recipe), config), recipe, free)
        if changed:
            raise UserError(
                f"{run.path} was started with other values ({'; '.join(changed)}): "
                "give them again, or choose another --run.output."
            )
    checkpoint = run.latest_checkpoint()
    if main_process:
        run.write_json("config.json", dataclass_to_json(recipe))
        run.truncate_log(int(checkpoint.name.rpartition("-")[2]) if checkpoint else 0)
    return checkpoint


def same_samples(saved: int, now: int, checkpoint: Path) -> None:
    """Refuse to resume on another number of training samples: the sample order would be another one."""
    if saved != now:
        raise UserError(
            f"{checkpoint} was made with {saved} training samples and the data set now has {now}: "
            "resume with the same data, or choose another --run.output."
        )


def describe_machine(accelerator: Accelerator) -> dict[str, Any]:
    """What a log should say about the machine: figures are compared within one kind of it."""
    return {
        "processes": accelerator.num_processes,
        "device": str(accelerator.device.type),
        "precision": accelerator.mixed_precision,
        "torch": torch.__version__,
    }


def check_trackers(names: Collection[str]) -> None:
    """Refuse a tracker that Accelerate does not know or that is not installed."""
    from accelerate.tracking import get_available_trackers

    available = {str(tracker) for tracker in get_available_trackers()}
    for name in names:
        if name not in available:
            known = ", ".join(sorted(available)) or "none"
            raise UserError(f"--run.trackers: '{name}' is unknown or not installed; installed here: {known}.")


def start_trackers(accelerator: Accelerator, project: str, recipe: Any) -> None:
    """Start the trackers of `accelerator` with every option of the recipe as `section.option`."""
    flat = {
        f"{section}.{key}": value if isinstance(value, int | float | str | bool) else str(value)
        for section, values in _sections(recipe).items()
        for key, value in values.items()
    }
    accelerator.init_trackers(project, config=flat)


def _differences(saved: Any, asked: Any, free: Mapping[str, Collection[str]]) -> list[str]:
    before, after = _sections(saved), _sections(asked)
    return [
        f"{section}.{key} was {value}, is {after[section][key]}"
        for section, values in before.items()
        for key, value in values.items()
        if key not in free.get(section, ()) and value != after[section][key]
    ]


def _sections(recipe: Any) -> dict[str, dict[str, Any]]:
    return {name: asdict(value) for name, value in vars(recipe).items() if is_dataclass(value)}  # type: ignore[arg-type]
