"""The benchmarks: `python -m benchmarks`. They import the packages; nothing imports them. See README.md."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
"""This checkout."""
RESULTS = ROOT / "benchmarks" / "results"
"""One page for each package: PACKAGE-cpu.md, PACKAGE-cuda.md."""
