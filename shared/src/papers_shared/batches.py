"""Many images through one network: read ahead by processes, answered in batches of one shape, written by threads."""

from __future__ import annotations

import errno
import os
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn
from torch.utils.data import Dataset

from papers_shared.devices import device_of, inputs_at_once
from papers_shared.errors import UserError
from papers_shared.loading import loaded, make_loader, worker_count
from papers_shared.results import Record

WRITERS = 4
"""Threads that draw and write results."""
WAITING_BYTES = 2**30
"""Images that wait for others of their shape take at most so much memory."""
NO_ROOM = frozenset({errno.ENOSPC, errno.EROFS, *([errno.EDQUOT] if hasattr(errno, "EDQUOT") else [])})
"""What the operating system says when every further result would fail too."""


@dataclass(frozen=True)
class Item:
    """One prediction to make."""

    path: Path
    """The image, or the file that it is part of."""
    asked: dict[str, Any] = field(default_factory=dict)
    """What is asked about it, such as a sentence, or which part of the file it is; stands in its record."""
    open: Callable[[], Any] | None = None
    """Gives the image, where `path` alone does not; what `papers_shared.images.load_image` takes."""
    stem: str = ""
    """What its result files are named after; empty: the name of the file."""
    name: str = ""
    """Of its result files, without folder and suffix; `predict_into` gives it."""

    @property
    def file(self) -> str:
        """The path as the record has it; bytes that are no UTF-8 are written as `\\xNN`."""
        return os.fsencode(self.path).decode("utf-8", "backslashreplace")

    @property
    def source(self) -> Any:
        """What `papers_shared.images.load_image` takes."""
        return self.path if self.open is None else self.open()


Group = Sequence[Item]
Shapes = tuple[tuple[int, int], ...]


class Loaded(NamedTuple):
    """What was read for the items of a group, which are about one image."""

    data: Any
    """What the network and the drawings need: tensors are handed over by loader processes without a copy."""
    shapes: Shapes
    """Heights and widths of the network's inputs: images with the same ones are answered together; empty: alone."""
    size: int
    """Bytes of `data`, about."""


Answer = Callable[[Sequence[tuple[Group, Any]]], Sequence[Sequence[Any]]]


@dataclass(frozen=True)
class Steps:
    """How a package answers. What goes wrong in a step is recorded for the items that it concerns."""

    read: Callable[[Group], Loaded]
    """In a loader process, which gets a pickled copy of it."""
    answer: Answer
    """Groups and what was read for them -> for each group what `write` needs, one for each item. Network calls."""
    write: Callable[[Item, Any], Record]
    """Draw and write the files of an item, and give its record; called by several threads."""


def item_of(image: Path | Item) -> Item:
    """The prediction to make about an image file, or the one that is given."""
    return image if isinstance(image, Item) else Item(image)


class Failure(NamedTuple):
    """Why there is no answer."""

    reason: str
    trace: str = ""
    """The traceback of what neither the item nor the machine causes."""


def answered(
    groups: Sequence[Group],
    steps: Steps,
    network: nn.Module,
    *,
    batch_size: int = 0,
    workers: int = 0,
) -> Iterator[tuple[Item, Record | Failure]]:
    """The items of all groups with their records, in the order in which they are done.

    Not more than a few batches are in memory at a time.

    Args:
        batch_size: Most images that go through the network together; 0: as many as a GPU takes at once, and on a CPU
            one.
        workers: Loader processes, as `papers_shared.loading.worker_count` has them, and not more than there is work
            for; with 0 this process reads.

    Raises:
        OSError: The disk takes no more.
        UserError: A loader process ended.
    """
    limit, pending = 4 * max(1, batch_size), deque[tuple[Item, Future[Record | Failure]]]()
    with ThreadPoolExecutor(min(WRITERS, os.cpu_count() or 1)) as writers:
        for batch in _batches(groups, steps, network, batch_size, workers):
            for item, result in _asked(batch, steps.answer):
                pending.append((item, writers.submit(_written, steps.write, item, result)))
            while len(pending) > limit:
                item, future = pending.popleft()
                yield item, future.result()
        for item, future in pending:
            yield item, future.result()


def failure(error: BaseException) -> Failure:
    """What an error says, in one line; a fault of the program says where it is, too.

    Raises:
        OSError: The disk takes no more.
    """
    if isinstance(error, OSError) and error.errno in NO_ROOM:
        raise error
    reason = str(error) or type(error).__name__
    if isinstance(error, UserError | OSError | MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return Failure(reason[:600])
    return Failure(f"{type(error).__name__}: {reason}"[:600], "".join(traceback.format_exception(error)))


def _batches(
    groups: Sequence[Group], steps: Steps, network: nn.Module, batch_size: int, workers: int
) -> Iterator[list[tuple[Group, Loaded | Failure]]]:
    """Groups that go through the network together, with what was read for them."""
    device = device_of(network)
    waiting: dict[Shapes, list[tuple[Group, Loaded | Failure]]] = {}
    held: dict[Shapes, int] = {}
    for group, read in zip(groups, _read(groups, steps, workers), strict=True):
        if isinstance(read, Failure) or not read.shapes:
            yield [(group, read)]
            continue
        waiting.setdefault(read.shapes, []).append((group, read))
        held[read.shapes] = held.get(read.shapes, 0) + read.size
        most = batch_size or inputs_at_once(device, max(height * width for height, width in read.shapes))
        if len(waiting[read.shapes]) >= most:
            held.pop(read.shapes)
            yield waiting.pop(read.shapes)
        elif sum(held.values()) > WAITING_BYTES or sum(map(len, waiting.values())) >= 4 * most:
            largest = max(held, key=lambda shapes: held[shapes])
            held.pop(largest)
            yield waiting.pop(largest)
    yield from waiting.values()


def _read(groups: Sequence[Group], steps: Steps, workers: int) -> Iterator[Loaded | Failure]:
    samples = _Groups(groups, steps.read)
    count = min(worker_count(workers), len(groups) // 4)  # a process takes longer to start than to read a few
    if count == 0:
        yield from (samples[position] for position in range(len(groups)))
        return
    loader = make_loader(samples, workers=count, batch_size=None, collate_fn=_unchanged)
    yield from loaded(loader, lambda position: groups[position][0].file, option="--workers")


class _Groups(Dataset):
    """What is read for each group, or why it cannot be."""

    def __init__(self, groups: Sequence[Group], read: Callable[[Group], Loaded]) -> None:
        self.groups, self.read = groups, read

    def __len__(self) -> int:
        return len(self.groups)

    def __getitem__(self, position: int) -> Loaded | Failure:
        try:
            return self.read(self.groups[position])
        except Exception as error:
            return failure(error)


def _unchanged(sample: Any) -> Any:
    return sample


def _asked(batch: Sequence[tuple[Group, Loaded | Failure]], answer: Answer) -> Iterator[tuple[Item, Any]]:
    """The items of a batch with what `Steps.write` needs, or with a `Failure`."""
    for group, found in batch:
        if isinstance(found, Failure):
            yield from ((item, found) for item in group)
    read = [(group, found.data) for group, found in batch if isinstance(found, Loaded)]
    if read:
        yield from _results(read, answer)


def _results(read: Sequence[tuple[Group, Any]], answer: Answer) -> Iterator[tuple[Item, Any]]:
    """What is answered; where that fails, one may be at fault, or all together too large: each is asked alone."""
    try:
        results = answer(read)
    except Exception as error:
        told = failure(error)
    else:
        for (group, _), found in zip(read, results, strict=True):
            yield from zip(group, found, strict=True)
        return
    smaller = [[one] for one in read] if len(read) > 1 else [[([item], read[0][1])] for item in read[0][0]]
    if len(smaller) == 1:
        yield read[0][0][0], told
        return
    for part in smaller:
        yield from _results(part, answer)


def _written(write: Callable[[Item, Any], Record], item: Item, result: Any) -> Record | Failure:
    if isinstance(result, Failure):
        return result
    try:
        return write(item, result)
    except Exception as error:
        return failure(error)
