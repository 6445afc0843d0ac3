"""Reads the log of a run that may still be writing it."""

from __future__ import annotations

import json
from pathlib import Path


def records(run: Path, kind: str) -> list[dict]:
    """The records of one kind in a run folder's log, as far as their lines are whole."""
    log = run / "log.jsonl"
    lines = log.read_text().splitlines(keepends=True) if log.exists() else []
    return [r for r in (json.loads(line) for line in lines if line.endswith("\n")) if r["kind"] == kind]
