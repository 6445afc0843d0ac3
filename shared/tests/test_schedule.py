"""Durations and learning rates."""

from __future__ import annotations

import pytest

from papers_shared.errors import UserError
from papers_shared.training.config import OptimConfig
from papers_shared.training.schedule import durations, epoch_of, learning_rate

# mmcv 1.x, poly policy by iteration with linear warm-up, values of FANet's official configuration
MMCV = {
    0: 9.000000000258801e-11,
    1: 6.008851444874178e-08,
    750: 4.4198994522062514e-05,
    1499: 8.673854479031026e-05,
    1500: 8.679426979725041e-05,
    5000: 7.928945281973481e-05,
    20000: 4.663515832666993e-05,
    39999: 1.0381770792927312e-07,
}


@pytest.mark.parametrize(("step", "rate"), MMCV.items())
def test_poly_with_warm_up_is_that_of_mmcv(step: int, rate: float) -> None:
    optim = OptimConfig(lr=9e-5, power=0.95, min_lr=1e-7, steps=40_000, warmup_steps=1_500)
    assert learning_rate(optim, step, 3_002) == pytest.approx(rate, rel=1e-12)


def test_power_one_is_a_straight_line_to_zero() -> None:
    optim = OptimConfig(lr=9e-5, steps=40_000)
    assert learning_rate(optim, 0, 10) == 9e-5
    assert learning_rate(optim, 20_000, 10) == pytest.approx(4.5e-5, rel=1e-12)
    assert learning_rate(optim, 40_000, 10) == 0


def test_constant_and_cosine() -> None:
    assert learning_rate(OptimConfig(lr=3e-4, schedule="constant", steps=9), 8, 10) == 3e-4
    optim = OptimConfig(lr=1e-3, min_lr=1e-5, schedule="cosine", steps=100)
    assert learning_rate(optim, 50, 10) == pytest.approx((1e-3 + 1e-5) / 2)
    assert learning_rate(optim, 100, 10) == pytest.approx(1e-5)
    assert learning_rate(optim, 0, 10, base=2e-3) == pytest.approx(2e-3)


def test_decay_per_epoch_falls_once_an_epoch() -> None:
    samples, optim = 120_624, OptimConfig(lr=1.0, batch_size=80, epochs=150, power=0.9, decay_per="epoch")
    steps, _ = durations(optim, samples)
    assert steps == 150 * samples // 80
    rates = [learning_rate(optim, step, samples) for step in (0, 1507, 1508, 3016, steps - 1)]
    assert rates == pytest.approx([(1 - epoch / 150) ** 0.9 for epoch in (0, 0, 1, 2, 149)])
    assert epoch_of(1508, 80, samples) == 1


def test_steps_for_epochs_never_reach_a_rate_of_zero() -> None:
    optim = OptimConfig(steps=30, epochs=150, batch_size=4, decay_per="epoch")
    assert all(learning_rate(optim, step, 15) > 0 for step in range(30))


def test_steps_win_over_epochs_and_epochs_bring_their_warm_up() -> None:
    assert durations(OptimConfig(steps=7, warmup_steps=2, epochs=3, warmup_epochs=1), 80) == (7, 2)
    assert durations(OptimConfig(epochs=3, warmup_epochs=1, batch_size=9), 80) == (26, 8)
    with pytest.raises(UserError, match=r"nothing to train: --optim\.steps 0"):
        durations(OptimConfig(epochs=1, batch_size=99), 80)
