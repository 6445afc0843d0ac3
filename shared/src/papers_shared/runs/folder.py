"""The run folder: checkpoints that a crash cannot spoil, and a log of JSON lines."""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from papers_shared.errors import UserError
from papers_shared.runs.atomic import fsync_tree, restore_folders, write_bytes, write_json, writing_folder
from papers_shared.runs.tensors import save_tensors

MARKER = "COMPLETE"
STATE = "state.json"


class RunFolder:
    """One training run on disk: `log.jsonl`, `checkpoints/step-00000400/` and the caller's own JSON."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.checkpoints = self.path / "checkpoints"
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        for folder in (self.path, self.checkpoints):
            restore_folders(folder)

    def save_checkpoint(
        self, step: int, tensors: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Any], keep: int
    ) -> Path:
        """Write `checkpoints/step-<step>` and delete all complete checkpoints but the newest `keep`.

        Each entry NAME of `tensors` becomes NAME.safetensors, `state` becomes state.json (it must be JSON).
        The marker file COMPLETE, which holds the size of every file, is written last; only then the folder
        gets its name.
        """
        if keep < 1:
            raise UserError(f"a run must keep at least one checkpoint, not {keep}")
        final = self.checkpoints / f"step-{step:08d}"
        with writing_folder(final) as partial:
            for name, entries in tensors.items():
                save_tensors(entries, partial / f"{name}.safetensors")
            write_json(partial / STATE, state)
            fsync_tree(partial)
            write_json(
                partial / MARKER, {file.name: file.stat().st_size for file in sorted(partial.iterdir())}
            )
        self._prune(final, keep)
        return final

    def latest_checkpoint(self) -> Path | None:
        """The complete checkpoint with the highest step; None when there is none."""
        return max(self._complete(), key=_step, default=None)

    def load_checkpoint(self, path: str | Path) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
        """`(tensors, state)` as they were given to `save_checkpoint`; the tensors lie on the CPU.

        Raises:
            UserError: The folder is not a complete checkpoint, or a file is missing, unexpected or of
            another size.
        """
        path = Path(path)
        problem = _problem(path)
        if problem:
            raise UserError(f"{path} cannot be loaded: {problem}; resume from another checkpoint")
        tensors = {file.stem: load_file(file) for file in sorted(path.glob("*.safetensors"))}
        return tensors, json.loads((path / STATE).read_text())

    def log(self, record: Mapping[str, Any]) -> None:
        """Append `record` to log.jsonl as one line; floats that are not finite become "nan" or "inf"."""
        line = json.dumps({key: _finite(value) for key, value in record.items()}, allow_nan=False)
        with open(self.path / "log.jsonl", "a") as file:
            file.write(line + "\n")

    def truncate_log(self, step: int) -> None:
        """Drop the log's lines with a `step` above `step`, and a last line that was cut off in the middle.

        Raises:
            UserError: A line before the last one is not JSON.
        """
        path = self.path / "log.jsonl"
        if not path.exists():
            return
        lines = path.read_bytes().splitlines()
        kept = []
        for number, line in enumerate(lines, start=1):
            try:
                record = json.loads(line)
            except ValueError:
                if number == len(lines):
                    break
                raise UserError(f"{path}, line {number}, is not JSON: delete that line to resume") from None
            if not isinstance(record, dict) or record.get("step", step) <= step:
                kept.append(line + b"\n")
        write_bytes(path, b"".join(kept))

    def write_json(self, name: str, obj: Any) -> Path:
        """Write `obj` to the file `name` of the run folder in one step."""
        path = self.path / name
        write_json(path, obj)
        return path

    def _complete(self) -> Iterator[Path]:
        return (
            path
            for path in self.checkpoints.glob("step-*")
            if re.fullmatch(r"step-\d{8,}", path.name) and not _problem(path)
        )

    def _prune(self, newest: Path, keep: int) -> None:
        others = sorted((path for path in self._complete() if path != newest), key=_step)
        for path in others[: max(0, len(others) - keep + 1)]:
            (path / MARKER).unlink()
            shutil.rmtree(path)
        for path in self.checkpoints.glob(".step-*.partial"):  # left by a kill
            shutil.rmtree(path)


def _step(path: Path) -> int:
    return int(path.name.removeprefix("step-"))


def _problem(path: Path) -> str | None:
    """Why the folder is not a complete checkpoint, or None."""
    try:
        expected = json.loads((path / MARKER).read_text())
    except FileNotFoundError:
        return f"it has no {MARKER} file, so it was not written to its end"
    except ValueError:
        return f"its {MARKER} file is damaged"
    found = {file.name: file.stat().st_size for file in path.iterdir() if file.name != MARKER}
    if found == expected:
        return None
    missing, unexpected = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
    resized = sorted(name for name in expected.keys() & found.keys() if expected[name] != found[name])
    parts = [("missing", missing), ("unexpected", unexpected), ("of another size", resized)]
    return "; ".join(f"{what}: {', '.join(names)}" for what, names in parts if names)


def _finite(value: Any) -> Any:
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
