"""How the global batch of a step is computed on the processes that there are; the batch itself never changes."""

from __future__ import annotations

from dataclasses import dataclass

from papers_shared.errors import UserError


@dataclass(frozen=True)
class StepPlan:
    """`batch_size` = `processes` x `accumulation` x `micro_batch` samples."""

    batch_size: int
    processes: int
    accumulation: int
    """Micro-batches of each process per optimizer step."""
    micro_batch: int
    """Samples of one forward pass of one process, over which batch norm takes its statistics."""

    def __str__(self) -> str:
        factors = [
            _count(self.processes, "process", "processes"),
            _count(self.accumulation, "accumulation step", "accumulation steps"),
            _count(self.micro_batch, "sample", "samples"),
        ]
        return f"batch of {self.batch_size}: {' x '.join(factors)}"


def plan_step(batch_size: int, processes: int, *, micro_batch: int = 0, smallest: int = 1) -> StepPlan:
    """Divide the global batch evenly among the processes and their accumulation steps.

    Args:
        micro_batch: Samples per forward pass; 0: each process computes its share of the batch in one pass.
        smallest: Samples that a forward pass needs.

    Raises:
        UserError: These processes cannot compute that batch; it names what can.
    """
    if batch_size < 1 or micro_batch < 0:
        raise UserError(
            f"--optim.batch-size {batch_size} with --optim.micro-batch {micro_batch} has no samples: give a batch of "
            "1 or more, and a micro-batch of 1 or more, or 0 for the share of a process"
        )

    def accumulation(count: int, micro: int) -> int:
        """Accumulation steps of `count` processes with micro-batches of `micro`; 0: they do not divide the batch."""
        steps, rest = divmod(batch_size, count * micro) if micro else (0, 0)
        return 0 if rest or micro < min(smallest, batch_size) else steps

    def share(count: int) -> int:
        return micro_batch or (0 if batch_size % count else batch_size // count)

    steps = accumulation(processes, share(processes))
    if steps:
        return StepPlan(batch_size, processes, steps, share(processes))
    counts = [count for count in range(1, batch_size + 1) if accumulation(count, share(count))]
    micros = [micro for micro in range(1, batch_size + 1) if accumulation(processes, micro)]
    ways = [f"start {_nearest(counts, processes)}"] if counts else []
    if micro_batch and micros:
        ways += [f"give --optim.micro-batch {_nearest(micros, micro_batch)}"]
    needs = f" (a micro-batch needs {smallest} samples)" if smallest > 1 else ""
    raise UserError(
        f"{_count(processes, 'process', 'processes')} with --optim.micro-batch {micro_batch} cannot compute a batch "
        f"of {batch_size}{needs}: {', or '.join(ways) or 'choose another --optim.batch-size'}"
    )


def _nearest(numbers: list[int], wanted: int) -> str:
    """The nearest number on either side of the wanted one."""
    below = [number for number in numbers if number < wanted][-1:]
    above = [number for number in numbers if number > wanted][:1]
    return " or ".join(map(str, below + above))


def _count(number: int, one: str, more: str) -> str:
    return f"{number} {one if number == 1 else more}"
