"""Samples from loader processes, and what goes wrong in them said in one sentence."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from torch.utils.data import DataLoader

from papers_shared.errors import UserError
from papers_shared.threads import usable_cores

MOST_WORKERS = 12
PREFETCHED = 4
"""Batches that each loader process keeps ready."""
LOST = ("killed by signal", "exited unexpectedly")
LATE = "timed out after"


def worker_count(asked: int) -> int:
    """Loader processes: as asked, or with -1 the cores that this process may use, `MOST_WORKERS` at most.

    Several training processes of one machine share its cores.
    """
    if asked >= 0:
        return asked
    return min(MOST_WORKERS, max(1, usable_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))


def make_loader(
    samples: Any, *, workers: int, pin: bool = False, timeout: int = 0, **options: Any
) -> DataLoader:
    """A `DataLoader` whose processes stay from one pass to the next and read ahead.

    Args:
        workers: As `worker_count`.
        pin: Batches lie in pinned memory, from which a GPU copies without waiting.
        timeout: Seconds to wait for a batch of a loader process; 0: for ever.
        options: Further ones of `DataLoader`.
    """
    count = worker_count(workers)
    if count:
        options |= {"persistent_workers": True, "prefetch_factor": PREFETCHED, "timeout": timeout}
    return DataLoader(samples, num_workers=count, pin_memory=pin, **options)


def loaded(
    loader: DataLoader, name_of: Callable[[Any], str] = str, *, option: str = "--data.workers"
) -> Iterator[Any]:
    """The batches of a loader, which draws from torch's generator now and not when the first batch is asked for.

    Args:
        name_of: Position of a sample, as the sampler gives it -> the sample's name, for the message.
        option: What sets the number of loader processes, for the message.

    Raises:
        UserError: A sample cannot be read (what the loader process says, without its traceback), a process ended, or
            did not answer in time.
    """
    return _told(iter(loader), loader, name_of, option)


def _told(
    batches: Iterator[Any], loader: DataLoader, name_of: Callable[[Any], str], option: str
) -> Iterator[Any]:
    count = 0
    while True:
        try:
            batch = next(batches)
        except StopIteration:
            return
        except UserError as error:
            raise UserError(str(error).rpartition("UserError: ")[2].strip()) from None
        except RuntimeError as error:
            told = worker_failure(error, _positions(loader, count, name_of), option)
            if told is None:
                raise
            raise UserError(told) from error
        yield batch
        count += 1


def worker_failure(error: BaseException, samples: str = "", option: str = "--data.workers") -> str | None:
    """What a failed loader process is called in one sentence; None for another error.

    Args:
        samples: Names of those that were waited for.
        option: What sets the number of loader processes.
    """
    if not isinstance(error, RuntimeError) or "DataLoader" not in str(error):
        return None
    about = f" ({samples})" if samples else ""
    if "Bus error" in str(error):
        return (
            f"a loader process ran out of shared memory: give {option} 0, or make /dev/shm larger (docker "
            "run --shm-size 8g)"
        )
    if any(mark in str(error) for mark in LOST):
        return (
            "a loader process was ended from outside, mostly because memory ran out: give fewer "
            f"{option} or smaller images, and see the system's log"
        )
    if LATE in str(error):
        return (
            f"a loader process did not answer in time{about}: see whether the disk or the network folder of the data "
            "answers, or give a longer --data.timeout (0 waits for ever)"
        )
    return None


def _positions(loader: DataLoader, count: int, name_of: Callable[[Any], str]) -> str:
    """Names of the samples of the batch after `count` others."""
    order = loader.batch_sampler if loader.batch_sampler is not None else loader.sampler
    batch: Any = next(islice(iter(order), count, None), [])
    names = [name_of(position) for position in (batch if isinstance(batch, list) else [batch])]
    return f"batch of {', '.join(names[:4])}{', ...' if len(names) > 4 else ''}" if names else ""
