"""Whether a run folder can be continued, and from which checkpoint."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

from papers_shared.dataclass_json import dataclass_to_json, read_dataclass
from papers_shared.errors import UserError
from papers_shared.training.run_folder import RunFolder

RESUMABLE_RUN_OPTIONS = frozenset(
    {
        "output",
        "resume",
        "restart",
        "checkpoint_every",
        "keep",
        "timeout",
        "log_every",
        "trackers",
        "deterministic",
    }
)
"""Options of a recipe's section `run` that a resumed run may change, whatever it trains."""
RecipeT = TypeVar("RecipeT")


def open_run(
    run: RunFolder, recipe: RecipeT, *, free: Mapping[str, Collection[str]], main_process: bool
) -> Path | None:
    """Make or reopen the run folder; the checkpoint to resume from, if there is one.

    Args:
        recipe: A dataclass whose fields are sections (dataclasses) of options.
        free: For each section the options that may differ from those the run was started with, because they do
            not change the numbers.

    Raises:
        UserError: The folder holds a run that is not to be resumed, one of another configuration, one whose
            checkpoints are lost, or one that another process is training.
    """
    options: Any = recipe
    config = run.path / "config.json"
    checkpoint = run.latest_checkpoint(report=main_process)
    if not main_process:
        return checkpoint
    run.lock()
    if config.exists():
        if not options.run.resume:
            raise UserError(
                f"{run.path} already holds a run: set --run.output, delete the folder, or drop --run.no-resume to "
                "continue it"
            )
        saved: Any = read_dataclass(type(recipe), config)
        changed, done = _differences(saved, recipe, free), run.logged_steps()
        if changed and (checkpoint or done):  # a start that took no step holds nothing to continue
            raise UserError(
                f"{run.path} was started with other values ({'; '.join(changed)}): give them again, or choose another "
                "--run.output"
            )
        lost = checkpoint is None and done >= saved.run.checkpoint_every and not run.killed_while_saving()
        if lost and not options.run.restart:
            raise UserError(
                f"{run.path}: the log says that {done} steps were taken, and no sound checkpoint is left: bring one "
                "back, choose another --run.output, or begin again at step 0 with --run.restart"
            )
    run.write_json("config.json", dataclass_to_json(recipe))
    run.truncate_log(int(checkpoint.name.rpartition("-")[2]) if checkpoint else 0)
    return checkpoint


def same_samples(saved: int, now: int, checkpoint: Path) -> None:
    """Refuse to resume on another number of training samples: the sample order would be another one."""
    if saved != now:
        raise UserError(
            f"{checkpoint} was made with {saved} training samples and the data set now has {now}: "
            "resume with the same data, or choose another --run.output"
        )


def _differences(saved: Any, asked: Any, free: Mapping[str, Collection[str]]) -> list[str]:
    before, after = recipe_sections(saved), recipe_sections(asked)
    return [
        f"{section}.{key} was {value}, is {after[section][key]}"
        for section, values in before.items()
        for key, value in values.items()
        if key not in free.get(section, ()) and value != after[section][key]
    ]


def recipe_sections(recipe: Any) -> dict[str, dict[str, Any]]:
    """The options of each section of a recipe."""
    return {name: asdict(value) for name, value in vars(recipe).items() if is_dataclass(value)}  # type: ignore[arg-type]
