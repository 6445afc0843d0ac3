"""Which sample comes when, as a pure function of (seed, step)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from papers_shared.errors import UserError
from papers_shared.seeding import sample_seed


class SampleOrder:
    """The endless order of training samples: epoch after epoch, each a permutation decided by (seed, epoch).

    `order[position]` is `(epoch, index)`. The permutation sorts raw generator words, whose stream numpy keeps
    the same over versions.
    """

    def __init__(self, num_samples: int, seed: int) -> None:
        if num_samples < 1:
            raise UserError("there is no sample to train on: the training split is empty")
        self.num_samples = num_samples
        self.seed = seed
        self._permutations: dict[int, np.ndarray] = {}

    def __getitem__(self, position: int) -> tuple[int, int]:
        epoch, offset = divmod(position, self.num_samples)
        return epoch, int(self._permutation(epoch)[offset])

    def _permutation(self, epoch: int) -> np.ndarray:
        if epoch not in self._permutations:
            words = np.random.PCG64(sample_seed(self.seed, epoch, -1)).random_raw(self.num_samples)
            if len(self._permutations) > 1:
                self._permutations.clear()
            self._permutations[epoch] = np.argsort(words, kind="stable")
        return self._permutations[epoch]


class StepBatchSampler:
    """The micro-batches of one rank, step by step; a `batch_sampler` for a `DataLoader`.

    Step s of the whole training uses the positions [s * global_batch, (s + 1) * global_batch) of `order`,
    cut first into `accumulation` micro-batches and each of these into `world` contiguous shares. So the
    samples of a step do not depend on the number of ranks or accumulation steps, and a resumed run needs
    nothing but its step.

    Args:
        start_step: Steps already done.
        total_steps: The step to stop at.
        global_batch: Samples per step over all ranks and micro-batches.

    Raises:
        UserError: `global_batch` is not divisible by `accumulation * world`.
    """

    def __init__(
        self,
        order: SampleOrder,
        *,
        start_step: int,
        total_steps: int,
        global_batch: int,
        accumulation: int = 1,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        if min(global_batch, accumulation, world) < 1 or global_batch % (accumulation * world):
            raise UserError(
                f"the global batch of {global_batch} cannot be divided evenly into {accumulation} "
                f"accumulation steps on {world} processes: choose a multiple of {accumulation * world}"
            )
        self.order = order
        self.steps = range(start_step, total_steps)
        self.global_batch = global_batch
        self.accumulation = accumulation
        self.share = global_batch // (accumulation * world)
        self.rank = rank
        self.world = world

    def __len__(self) -> int:
        return len(self.steps) * self.accumulation

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for step in self.steps:
            for micro in range(self.accumulation):
                first = step * self.global_batch + (micro * self.world + self.rank) * self.share
                yield [self.order[position] for position in range(first, first + self.share)]
