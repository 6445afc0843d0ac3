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


def plan_step(
    batch_size: int, processes: int, *, accumulation: int = 0, micro_batch: int = 0, smallest: int = 1
) -> StepPlan:
    """Divide the global batch evenly; of `accumulation` and `micro_batch` one is given and the other follows.

    Args:
        smallest: Samples that a micro-batch needs.

    Raises:
        UserError: These processes cannot compute that batch; it names what can.
    """
    given, option = (micro_batch, "micro-batch") if micro_batch else (accumulation, "accumulation")
    if batch_size < 1 or given < 1:
        raise UserError(
            f"a batch of {batch_size} with --optim.{option} {given} has no samples: give both 1 or more"
        )

    def follows(count: int, value: int) -> int:
        """What `value` of the given one leaves to the other, on `count` processes; 0: it does not divide."""
        other, rest = divmod(batch_size, count * value)
        return 0 if rest or min(smallest, batch_size) > (value if micro_batch else other) else other

    other = follows(processes, given)
    if other:
        return StepPlan(batch_size, processes, *((other, given) if micro_batch else (given, other)))
    counts = [count for count in range(1, batch_size + 1) if follows(count, given)]
    values = [value for value in range(1, batch_size + 1) if follows(processes, value)]
    ways = [f"start {_nearest(counts, processes)}"] if counts else []
    ways += [f"give --optim.{option} {_nearest(values, given)}"] if values else []
    needs = f" (a micro-batch needs {smallest} samples)" if smallest > 1 else ""
    raise UserError(
        f"{_count(processes, 'process', 'processes')} with --optim.{option} {given} cannot compute a batch of "
        f"{batch_size}{needs}: {', or '.join(ways) or 'choose another --optim.batch-size'}"
    )


def _nearest(numbers: list[int], wanted: int) -> str:
    """The nearest number on either side of the wanted one."""
    below = [number for number in numbers if number < wanted][-1:]
    above = [number for number in numbers if number > wanted][:1]
    return " or ".join(map(str, below + above))


def _count(number: int, one: str, more: str) -> str:
    return f"{number} {one if number == 1 else more}"
