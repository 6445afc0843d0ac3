"""Sample order and sample seeds."""

from __future__ import annotations

import pytest
import torch

from papers_shared.errors import UserError
from papers_shared.seeding import forked_rng, sample_seed
from papers_shared.training.sampler import SampleOrder, StepBatchSampler


def test_every_epoch_is_another_permutation() -> None:
    order = SampleOrder(50, seed=3)
    epochs = [[order[position] for position in range(50 * e, 50 * (e + 1))] for e in range(3)]
    for number, epoch in enumerate(epochs):
        assert {e for e, _ in epoch} == {number}
        assert sorted(index for _, index in epoch) == list(range(50))
    assert len({tuple(index for _, index in epoch) for epoch in epochs}) == 3


def test_order_and_seeds_are_the_same_everywhere() -> None:
    order = SampleOrder(8, seed=1)
    assert [order[position] for position in (5, 12, 0)] == [(0, 3), (1, 0), (0, 1)]
    assert sample_seed(1, 2, 3) == 6_520_558_355_739_401_531


def test_seeds_differ() -> None:
    seeds = {sample_seed(s, e, i) for s in range(10) for e in range(10) for i in range(100)}
    assert len(seeds) == 10_000
    assert all(0 <= seed < 2**63 for seed in seeds)


@pytest.mark.parametrize(("accumulation", "world"), [(1, 1), (2, 1), (1, 4), (3, 2), (12, 1)])
def test_ranks_and_accumulation_share_the_same_step(accumulation: int, world: int) -> None:
    order = SampleOrder(10, seed=0)
    ranks = [
        list(
            StepBatchSampler(
                order,
                start_step=2,
                total_steps=5,
                global_batch=12,
                accumulation=accumulation,
                rank=rank,
                world=world,
            )
        )
        for rank in range(world)
    ]
    assert {len(batches) for batches in ranks} == {3 * accumulation}
    for step in range(3):
        micros = range(step * accumulation, (step + 1) * accumulation)
        samples = [sample for micro in micros for batches in ranks for sample in batches[micro]]
        assert samples == [order[position] for position in range((step + 2) * 12, (step + 3) * 12)]


def test_an_uneven_batch_is_refused() -> None:
    with pytest.raises(UserError, match="multiple of 4"):
        StepBatchSampler(
            SampleOrder(9, 0), start_step=0, total_steps=1, global_batch=6, accumulation=2, world=2
        )


def test_an_empty_split_is_refused() -> None:
    with pytest.raises(UserError, match="empty"):
        SampleOrder(0, seed=0)


def test_forked_rng_restores_the_state() -> None:
    torch.manual_seed(0)
    expected, following = torch.rand(3), torch.rand(3)
    torch.manual_seed(0)
    with forked_rng(7):
        inside = torch.rand(3)
    assert torch.equal(torch.rand(3), expected)
    with forked_rng(7):
        assert torch.equal(torch.rand(3), inside)
    with pytest.raises(ZeroDivisionError), forked_rng(7):
        torch.rand(1).item() // 0
    assert torch.equal(torch.rand(3), following)
