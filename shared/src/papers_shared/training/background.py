"""Checkpoints are written while the training goes on: a copy of the tensors, and a thread that writes it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

ALIGNMENT = 64
"""Bytes that every tensor of a copy begins at a multiple of."""
_running: set[threading.Thread] = set()


class BackgroundWriter:
    """Does one piece of work at a time in a thread, for which a program that ends waits, unless it is killed."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def start(self, work: Callable[[], None]) -> None:
        """Begin `work`, once the former one is done.

        Raises:
            Exception: What the former work raised.
        """
        self.wait()
        self._thread = threading.Thread(target=self._run, args=(work,), name="checkpoint writer")
        _running.add(self._thread)
        self._thread.start()

    def wait(self) -> None:
        """Until the work is done.

        Raises:
            Exception: What it raised.
        """
        if self._thread is not None:
            self._thread.join()
            _running.discard(self._thread)
            self._thread = None
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _run(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            self._error = error


def wait_for_writers() -> None:
    """Until no work of this program's writers runs; what they raise is kept for their own `wait`."""
    for thread in list(_running):
        thread.join()
        _running.discard(thread)


class Copies:
    """Copies of tensors on the CPU, in one buffer that is used again; pinned where tensors come from a GPU."""

    def __init__(self) -> None:
        self._buffer = torch.empty(0, dtype=torch.uint8)

    def take(
        self, tensors: Mapping[str, Mapping[str, Tensor]]
    ) -> tuple[dict[str, dict[str, Tensor]], Callable[[], None]]:
        """The same names with contiguous copies; those of the call before are overwritten.

        A GPU is not waited for: it copies what the tensors hold when the work queued before is done.

        Returns:
            The copies, and a function that waits until they are there.
        """
        flat = [value for entries in tensors.values() for value in entries.values()]
        ends, end = [], 0
        for value in flat:
            end += -(-value.numel() * value.element_size() // ALIGNMENT) * ALIGNMENT
            ends.append(end)
        on_gpu = any(value.is_cuda for value in flat)
        if self._buffer.numel() < end:
            self._buffer = torch.empty(end, dtype=torch.uint8, pin_memory=on_gpu)
        copies, starts = {}, iter([0, *ends])
        for name, entries in tensors.items():
            copies[name] = {key: self._copy(value, next(starts)) for key, value in entries.items()}
        if not on_gpu:
            return copies, lambda: None
        copied = torch.cuda.Event()
        copied.record()
        return copies, copied.synchronize

    def _copy(self, value: Tensor, start: int) -> Tensor:
        part = self._buffer[start : start + value.numel() * value.element_size()]
        copy = part.view(value.dtype).view(value.shape)
        return copy.copy_(value.detach(), non_blocking=value.is_cuda)
