"""The benchmarks: `python -m benchmarks`. They import the packages; nothing imports them. See README.md."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
"""This checkout."""
RESULTS = ROOT / "benchmarks" / "results"
"""One page for each package, PACKAGE-cpu.md, PACKAGE-cuda.md, and that of the GPU benchmark."""

# the packages need not be installed; where they are, those come first
sys.path += [str(folder) for folder in (ROOT / "shared" / "src", *sorted(ROOT.glob("packages/*/src")))]
