from __future__ import annotations

import math

import pytest

from fanet.config import OptimConfig
from fanet.recipes import RECIPES, imagenet1k, zerowaste_f, zerowaste_f_official
from papers_shared.training.schedule import learning_rate

# mmcv 1.x, poly policy by iteration with linear warm-up, values of the official configuration
OFFICIAL = {
    0: 9.000000000258801e-11,
    1: 6.008851444874178e-08,
    750: 4.4198994522062514e-05,
    1499: 8.673854479031026e-05,
    1500: 8.679426979725041e-05,
    5000: 7.928945281973481e-05,
    20000: 4.663515832666993e-05,
    39999: 1.0381770792927312e-07,
}


@pytest.mark.parametrize(("step", "rate"), OFFICIAL.items())
def test_official_schedule(step: int, rate: float) -> None:
    optim = zerowaste_f_official().optim
    assert learning_rate(optim, step, 3_002) == pytest.approx(rate, rel=1e-12)


def test_paper_schedule_is_a_straight_line_to_zero() -> None:
    optim = zerowaste_f().optim
    assert learning_rate(optim, 0, 3_002) == 9e-5
    assert learning_rate(optim, 20_000, 3_002) == pytest.approx(4.5e-5, rel=1e-12)
    assert learning_rate(optim, 40_000, 3_002) == 0


def test_cosine_schedule_ends_at_its_floor() -> None:
    optim = OptimConfig(lr=1e-3, min_lr=1e-5, schedule="cosine", steps=100)
    assert learning_rate(optim, 50, 8) == pytest.approx((1e-3 + 1e-5) / 2)
    assert learning_rate(optim, 100, 8) == pytest.approx(1e-5)


@pytest.mark.parametrize("name", RECIPES)
def test_each_recipe_says_what_it_reproduces(name: str) -> None:
    recipe = RECIPES[name]()
    about = RECIPES[name].__doc__ or ""
    assert recipe.name == name
    assert f"train {name}" in about, "the docstring gives the command"
    assert name == "toy" or ("Table" in about and "Published" in about)


def test_imagenet_batch_is_that_of_sixteen_gpus() -> None:
    recipe = imagenet1k()
    assert recipe.optim.batch_size == 16 * 80
    assert recipe.optim.epochs == 300
    assert math.isclose(recipe.optim.lr, 1e-3)
