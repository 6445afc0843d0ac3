"""Signals by which a scheduler, a terminal or a person asks a training to end."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

NAMES = ("SIGTERM", "SIGUSR1", "SIGHUP")


class StopSignals:
    """Inside the `with` block the first signal of `NAMES` is only noted, in `received`; a second one ends the process.

    Outside the main thread, where Python takes no signals, the block changes nothing.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._former: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            numbers = [getattr(signal, name) for name in NAMES if hasattr(signal, name)]
            self._former = {number: signal.signal(number, self._note) for number in numbers}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)
        self._former = {}

    def _note(self, number: int, _: FrameType | None) -> None:
        self.received = number
        signal.signal(number, self._former.get(number, signal.SIG_DFL))
