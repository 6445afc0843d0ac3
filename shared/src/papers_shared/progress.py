"""Progress on a terminal as a bar, elsewhere as a plain line now and then."""

from __future__ import annotations

import sys
import time
from typing import Any

from tqdm import tqdm


class Progress:
    """Shows how far a loop is, with rate, time left and the values given, on stderr.

    Args:
        total: The count at which the work is done.
        start: The count to start at (a resumed run).
        unit: What is counted: "step", "image", ...
        every: Seconds between plain lines when stderr is not a terminal.
        enabled: False for silence, as on all ranks but the first.
    """

    def __init__(
        self, total: int, start: int = 0, unit: str = "step", *, every: float = 30.0, enabled: bool = True
    ) -> None:
        self.total, self.start, self.unit, self.every, self.enabled = total, start, unit, every, enabled
        self._began = time.monotonic()
        self._printed: float | None = None
        self._bar: tqdm | None = None
        if enabled and sys.stderr.isatty():
            self._bar = tqdm(total=total, initial=start, unit=f" {unit}", dynamic_ncols=True, file=sys.stderr)

    def update(self, step: int, **values: Any) -> None:
        """Say that `step` of `total` are done; `values` are shown beside it."""
        if self._bar is not None:
            self._bar.set_postfix({name: _short(value) for name, value in values.items()}, refresh=False)
            self._bar.update(step - self._bar.n)
            return
        now = time.monotonic()
        if self._printed is None or now - self._printed >= self.every or step >= self.total:
            self._printed = now
            rate = (step - self.start) / max(now - self._began, 1e-9)
            left = tqdm.format_interval((self.total - step) / rate) if rate > 0 else "?"
            text = [f"{self.unit} {step}/{self.total}", f"{_rate(rate, self.unit)}", f"{left} left"]
            self.line("  ".join(text + [f"{name} {_short(value)}" for name, value in values.items()]))

    def line(self, text: str) -> None:
        """Print one line of text without disturbing the bar."""
        if self._bar is not None:
            tqdm.write(text, file=sys.stderr)
        elif self.enabled:
            print(text, file=sys.stderr, flush=True)

    def close(self) -> None:
        """Leave the bar as it is and start a new line."""
        if self._bar is not None:
            self._bar.close()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _rate(rate: float, unit: str) -> str:
    return f"{rate:.2f} {unit}/s" if rate >= 1 or rate == 0 else f"{1 / rate:.2f} s/{unit}"
