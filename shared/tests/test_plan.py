"""The global batch stays what it is, whatever computes it."""

from __future__ import annotations

import pytest

from papers_shared.errors import UserError
from papers_shared.training.plan import plan_step


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_micro_batches_give_the_accumulation(processes: int) -> None:
    plan = plan_step(80, processes, micro_batch=20)
    assert (plan.accumulation, plan.micro_batch) == (4 // processes, 20)


@pytest.mark.parametrize("processes", [1, 8, 32])
def test_without_a_micro_batch_each_process_computes_its_share_at_once(processes: int) -> None:
    plan = plan_step(1280, processes)
    assert (plan.accumulation, plan.micro_batch) == (1, 1280 // processes)


def test_a_plan_reads_as_one_line() -> None:
    line = "batch of 80: 2 processes x 2 accumulation steps x 20 samples"
    assert str(plan_step(80, 2, micro_batch=20)) == line
    assert str(plan_step(2, 1, micro_batch=1)) == "batch of 2: 1 process x 2 accumulation steps x 1 sample"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            {"batch_size": 80, "processes": 3, "micro_batch": 20},
            "3 processes with --optim.micro-batch 20 cannot compute a batch of 80: start 2 or 4",
        ),
        (
            {"batch_size": 80, "processes": 8, "micro_batch": 20},
            "8 processes with --optim.micro-batch 20 cannot compute a batch of 80: start 4, "
            "or give --optim.micro-batch 10",
        ),
        (
            {"batch_size": 8, "processes": 3},
            "3 processes with --optim.micro-batch 0 cannot compute a batch of 8: start 2 or 4",
        ),
        (
            {"batch_size": 2, "processes": 2, "smallest": 2},
            "2 processes with --optim.micro-batch 0 cannot compute a batch of 2 (a micro-batch needs 2 samples): "
            "start 1",
        ),
        (
            {"batch_size": 5, "processes": 4, "micro_batch": 3},
            "4 processes with --optim.micro-batch 3 cannot compute a batch of 5: choose another --optim.batch-size",
        ),
    ],
)
def test_what_cannot_give_the_batch_is_refused_with_what_can(
    arguments: dict[str, int], sentence: str
) -> None:
    with pytest.raises(UserError) as refused:
        plan_step(**arguments)
    assert str(refused.value) == sentence


@pytest.mark.parametrize("given", [(0, 0), (8, -1)])
def test_a_step_without_samples_is_refused(given: tuple[int, int]) -> None:
    with pytest.raises(UserError, match="has no samples"):
        plan_step(given[0], 1, micro_batch=given[1])
