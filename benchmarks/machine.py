"""Where a figure was measured: machine, versions, commit."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
from pathlib import Path
from typing import Any

import psutil
import torch

from benchmarks.measure import ROOT

LIBRARIES = (
    "fanet",
    "plvl",
    "cabl-cgsr",
    "torch",
    "torchvision",
    "timm",
    "transformers",
    "segment-anything",
    "segmentation-models-pytorch",
    "numpy",
    "pillow",
    "opencv-python-headless",
    "datasets",
)


def environment(device: torch.device, threads: int) -> dict[str, Any]:
    """Machine, versions and commit."""
    machine = {
        "processor": _processor(),
        "cores": psutil.cpu_count(logical=False),
        "threads_used": threads,
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "system": platform.platform(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
    }
    versions = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed as a distribution"
    return {"machine": machine, "versions": versions, "commit": _commit()}


def load() -> float:
    """What else this machine has to do, as it says: runnable processes over the last minute."""
    return round(psutil.getloadavg()[0], 2)


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    names = [line for line in info.read_text().splitlines() if "model name" in line] if info.exists() else []
    return names[0].partition(":")[2].strip() if names else platform.processor() or platform.machine()


def _commit() -> str | None:
    """Commit of the tree, with `+changes` where it has any beside results; None outside git."""
    try:
        commit = _git("rev-parse", "HEAD")
        changed = _git("status", "--porcelain", "--", ".", ":!benchmarks/results")
        return commit + ("+changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()
