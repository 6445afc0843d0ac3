"""What the packages say about their recipes: the training itself, its command, its length."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.tables.published import PACKAGES
from papers_shared.errors import UserError
from papers_shared.training.schedule import durations

IMAGENET = 1_281_167
"""Training images of ImageNet-1K."""


@dataclass(frozen=True)
class Length:
    """How long a recipe trains; `unknown` says why steps and samples are not known."""

    steps: int = 0
    samples: int = 0
    about: bool = False
    """The number of training samples depends a little on which ones are held out."""
    unknown: str = ""


def recipes_of(package: str) -> dict[str, Callable[[], Any]]:
    """All recipes of a package.

    Raises:
        UserError: The package is not installed.
    """
    try:
        return importlib.import_module(f"{PACKAGES[package]}.recipes").RECIPES
    except ModuleNotFoundError as error:
        raise UserError(f"{package} is not installed here: pip install ./packages/{package}") from error


def command_of(package: str, name: str) -> str:
    """The command that trains a recipe, as its docstring gives it."""
    lines = (recipes_of(package)[name].__doc__ or "").splitlines()
    start = next(i for i, line in enumerate(lines) if line.strip().startswith("accelerate launch"))
    command = [lines[start]]
    for line in lines[start + 1 :]:
        if not line.strip().startswith("--"):
            break
        command.append(line)
    return re.sub(r"\s+", " ", " ".join(command)).strip()


def length_of(package: str, name: str) -> Length:
    """Optimizer steps and samples of a recipe on the data set it is meant for."""
    optim = recipes_of(package)[name]().optim
    samples, unknown = _training_samples(package, name)
    if optim.steps:
        steps = optim.steps
    elif unknown:
        return Length(unknown=unknown)
    else:
        steps = durations(optim, samples)[0]
    return Length(steps, steps * optim.batch_size, about=package == "cabl-cgsr")


def _training_samples(package: str, name: str) -> tuple[int, str]:
    """Samples of the training split, or why they are not known."""
    if package == "fanet":
        return (IMAGENET if name == "imagenet1k" else 3002), ""
    if package == "cabl-cgsr":
        from cabl_cgsr.config import DataConfig
        from cabl_cgsr.data.published import PUBLISHED

        held_out = sum(round(DataConfig().val_share * count) for count in PUBLISHED["casia2"])
        return sum(PUBLISHED["casia2"]) - held_out, ""
    from plvl.data.published import BENCHMARKS, COUNTS

    dataset = name.removesuffix("_official")
    if dataset.startswith("mixed_pretrain"):
        return 0, "unknown: the size of the pre-training mixture is not published"
    if dataset == "mixed_coco":
        return sum(COUNTS[one]["train"]["expressions"] for one in BENCHMARKS), ""
    known = COUNTS[dataset if dataset in COUNTS else "refcocog_umd"]
    return known["train"]["expressions"], ""
