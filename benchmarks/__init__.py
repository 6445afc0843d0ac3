"""The benchmark suite: `python -m benchmarks`. It imports the packages; nothing imports it. See README.md."""

from pathlib import Path

RESULTS = Path(__file__).parent / "results"
"""What was measured: PACKAGE-cpu.json, PACKAGE-cuda.json."""
