"""What all tests share."""

from __future__ import annotations

import os

os.environ["PAPERS_UNTRAINED"] = "1"  # most networks here are drawn from a seed, in subprocesses too
