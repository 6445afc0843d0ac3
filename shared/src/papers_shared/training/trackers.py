"""Experiment trackers: tensorboard, wandb, trackio and whatever else Accelerate knows."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from papers_shared.errors import UserError
from papers_shared.training.resume import recipe_sections

if TYPE_CHECKING:
    from accelerate import Accelerator


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
        for section, values in recipe_sections(recipe).items()
        for key, value in values.items()
    }
    accelerator.init_trackers(project, config=flat)
