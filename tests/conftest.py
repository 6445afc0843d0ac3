"""What the tests of the whole tree share: where it lies, and what git would carry of it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

os.environ["PAPERS_UNTRAINED"] = "1"  # most networks here are drawn from a seed, in subprocesses too

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def tree_files() -> list[Path]:
    """Every file that is tracked, or would be after `git add`."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if listed.returncode != 0:
        pytest.skip(f"not a git checkout: {listed.stderr.strip()}")
    return [path for name in listed.stdout.split("\0") if name and (path := ROOT / name).is_file()]
