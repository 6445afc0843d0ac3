"""Threads: how many there can be, and models and refiners that several share."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

from torch import nn

_guard = threading.Lock()
_locks: WeakKeyDictionary[Any, threading.RLock] = WeakKeyDictionary()


class _Use:
    """How many blocks of `evaluation_mode` a network is in, and the modules that were training before the first."""

    def __init__(self) -> None:
        self.blocks = 0
        self.training: list[nn.Module] = []


_uses: WeakKeyDictionary[nn.Module, _Use] = WeakKeyDictionary()


def usable_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def lock_of(shared: Any) -> threading.RLock:
    """The lock of an object, such as a refiner, whose calls belong together; the object itself stays as it is."""
    with _guard:
        return _locks.setdefault(shared, threading.RLock())


@contextmanager
def evaluation_mode(network: nn.Module) -> Iterator[None]:
    """Evaluation mode inside the block; afterwards every module has the mode it had, whatever other threads do.

    Blocks of several threads overlap: the first one sets the mode, and the last one to leave puts it back.
    """
    with _guard:
        use = _uses.setdefault(network, _Use())
        if use.blocks == 0:
            use.training = [module for module in network.modules() if module.training]
            for module in use.training:
                module.training = False
        use.blocks += 1
    try:
        yield
    finally:
        with _guard:
            use.blocks -= 1
            if use.blocks == 0:
                for module in use.training:
                    module.training = True
                use.training = []
