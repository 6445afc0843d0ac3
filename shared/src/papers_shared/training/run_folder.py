"""The run folder: checkpoints that a crash cannot spoil, and a log of JSON lines."""

from __future__ import annotations

import json
import math
import re
import shutil
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from papers_shared.errors import UserError
from papers_shared.files import (
    file_digest,
    fsync_tree,
    lock_file,
    restore_folders,
    save_tensors,
    write_bytes,
    write_json,
    writing_folder,
)

MARKER = "COMPLETE"
STATE = "state.json"
PARTIAL = ".step-*.partial"


def run_path(recipe: Any) -> Path:
    """The run folder of a recipe: `--run.output`, or runs/RECIPE."""
    return Path(recipe.run.output or f"runs/{recipe.name}")


class RunFolder:
    """One training run on disk: `log.jsonl`, `checkpoints/step-00000400/` and the caller's own JSON."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._lock: Any = None
        self.checkpoints = self.path / "checkpoints"
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        for folder in (self.path, self.checkpoints):
            restore_folders(folder)

    def lock(self) -> None:
        """Keep the folder for this process until it ends, however it ends.

        Raises:
            UserError: Another process trains in the folder.
        """
        if self._lock is None:
            self._lock = lock_file(self.path / "training.lock", f"{self.path} is in use by another training")

    def save_checkpoint(
        self, step: int, tensors: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Any], keep: int
    ) -> Path:
        """Write `checkpoints/step-<step>` and delete all complete checkpoints but the newest `keep`.

        Each entry NAME of `tensors` becomes NAME.safetensors, `state` becomes state.json (it must be JSON).
        The marker file COMPLETE, which holds size and SHA-256 of every file, is written last; only then the folder gets
        its name.
        """
        if keep < 1:
            raise UserError(f"a run must keep at least one checkpoint, not {keep}")
        final = self.checkpoints / f"step-{step:08d}"
        with writing_folder(final, ("*.safetensors", STATE, MARKER)) as partial:
            for name, entries in tensors.items():
                save_tensors(entries, partial / f"{name}.safetensors")
            write_json(partial / STATE, state)
            fsync_tree(partial)
            files = sorted(partial.iterdir())
            marks = {file.name: {"bytes": file.stat().st_size, "sha256": file_digest(file)} for file in files}
            write_json(partial / MARKER, marks)
        self._prune(final, keep)
        return final

    def latest_checkpoint(self, *, report: bool = False) -> Path | None:
        """The sound checkpoint with the highest step; None when there is none.

        Args:
            report: Warn of each newer one that was written to its end and is damaged now.
        """
        for path in sorted(self._complete(), key=_step, reverse=True):
            problem = _problem(path, content=True)
            if problem is None:
                return path
            if report:
                warnings.warn(f"{path} is damaged ({problem}): an older checkpoint is used", stacklevel=2)
        return None

    def killed_while_saving(self) -> bool:
        """Whether a checkpoint was begun and not written to its end."""
        return any(self.checkpoints.glob(PARTIAL))

    def load_checkpoint(self, path: str | Path) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
        """`(tensors, state)` as they were given to `save_checkpoint`; the tensors lie on the CPU.

        Raises:
            UserError: The folder is not a complete checkpoint, or a file is missing or not as it was written.
        """
        path = Path(path)
        problem = _problem(path, content=True)
        if problem:
            raise UserError(f"{path} cannot be loaded: {problem}; resume from another checkpoint")
        try:
            names = [name for name in _marks(path) if name.endswith(".safetensors")]
            tensors = {name.removesuffix(".safetensors"): load_file(path / name) for name in names}
            return tensors, json.loads((path / STATE).read_text())
        except (OSError, ValueError, SafetensorError) as error:
            raise UserError(f"{path} cannot be loaded ({error}): resume from another checkpoint") from error

    def log(self, record: Mapping[str, Any]) -> None:
        """Append `record` to log.jsonl as one line; floats that are not finite become "nan" or "inf"."""
        line = json.dumps({key: _finite(value) for key, value in record.items()}, allow_nan=False)
        with open(self.path / "log.jsonl", "a") as file:
            file.write(line + "\n")

    def truncate_log(self, step: int) -> None:
        """Drop the log's lines with a `step` above `step`, and a last line that was cut off in the middle.

        Lines that are no records of a run are moved to log-damaged.txt, with a warning.
        """
        path = self.path / "log.jsonl"
        if not path.exists():
            return
        lines = path.read_bytes().splitlines()
        kept, foreign = [], []
        for number, line in enumerate(lines, start=1):
            record = _record(line)
            if record is None:
                if line.strip() and number < len(lines):
                    foreign.append(line + b"\n")
            elif record.get("step", step) <= step:
                kept.append(line + b"\n")
        if foreign:
            damaged = self.path / "log-damaged.txt"
            with open(damaged, "ab") as file:
                file.writelines(foreign)
            warnings.warn(f"{path}: {len(foreign)} lines are no records: moved to {damaged}", stacklevel=2)
        write_bytes(path, b"".join(kept))

    def logged_steps(self) -> int:
        """The highest step of a training record in the log; 0 when there is none."""
        path = self.path / "log.jsonl"
        records = [_record(line) for line in path.read_bytes().splitlines()] if path.exists() else []
        steps = [
            record["step"]
            for record in records
            if record and record.get("kind") == "train" and "step" in record
        ]
        return max(steps, default=0)

    def write_json(self, name: str, obj: Any) -> Path:
        """Write `obj` to the file `name` of the run folder in one step."""
        path = self.path / name
        write_json(path, obj)
        return path

    def _complete(self) -> Iterator[Path]:
        """Checkpoints whose files are all there in their sizes; files of other programs beside them do not count."""
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
        for path in self.checkpoints.glob(PARTIAL):  # left by a kill
            shutil.rmtree(path)


def _step(path: Path) -> int:
    return int(path.name.removeprefix("step-"))


def _problem(path: Path, *, content: bool = False) -> str | None:
    """Why the folder is not a complete checkpoint, or None; with `content` the files are read and compared too."""
    if not (path / MARKER).is_file():
        return f"it has no {MARKER} file, so it was not written to its end"
    marks = _marks(path)
    if STATE not in marks:
        return f"its {MARKER} file is damaged"
    missing = [name for name in marks if not (path / name).is_file()]
    there = [name for name in marks if name not in missing]
    resized = [name for name in there if (path / name).stat().st_size != marks[name][0]]
    altered = []
    if content:
        whole = [name for name in there if name not in resized]
        altered = [name for name in whole if marks[name][1] and file_digest(path / name) != marks[name][1]]
    parts = [("missing", missing), ("of another size", resized), ("not as written", altered)]
    return "; ".join(f"{what}: {', '.join(names)}" for what, names in parts if names) or None


def _marks(path: Path) -> dict[str, tuple[int, str]]:
    """File -> (size in bytes, SHA-256 or "") from the marker; nothing where the marker is damaged."""
    try:
        marks = json.loads((path / MARKER).read_text())
        return {
            name: (int(mark["bytes"]), str(mark["sha256"])) if isinstance(mark, dict) else (int(mark), "")
            for name, mark in marks.items()
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}


def _record(line: bytes) -> dict[str, Any] | None:
    """A line of the log as a record; None if it is none."""
    try:
        record = json.loads(line)
    except ValueError:
        return None
    number = isinstance(record, dict) and isinstance(record.get("step", 0), int)
    return record if number else None


def _finite(value: Any) -> Any:
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
