"""Options of training that are out of range."""

from __future__ import annotations

import math

import pytest

from papers_shared.errors import UserError
from papers_shared.training.checks import check_options
from papers_shared.training.config import OptimConfig, RunConfig


def test_defaults_are_accepted() -> None:
    check_options(OptimConfig(), RunConfig())


@pytest.mark.parametrize(
    ("optim", "run", "sentence"),
    [
        ({"lr": math.nan}, {}, r"--optim.lr is nan: give 0 or more"),
        ({"clip_grad": -1.0}, {}, r"--optim.clip-grad is -1.0: give 0 or more"),
        ({"ema": 2.0}, {}, r"--optim.ema is 2.0: give 0 to 1"),
        ({"batch_size": 0}, {}, r"--optim.batch-size is 0: give 1 or more"),
        ({"betas": (0.9, 1.5)}, {}, r"--optim.betas is 1.5"),
        ({}, {"keep": 0}, r"--run.keep is 0: give 1 or more"),
        ({}, {"checkpoint_every": 0}, r"--run.checkpoint-every is 0"),
        ({}, {"seed": -1}, r"--run.seed is -1"),
    ],
)
def test_what_no_training_can_use_is_refused(optim: dict, run: dict, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        check_options(OptimConfig(**optim), RunConfig(**run))
