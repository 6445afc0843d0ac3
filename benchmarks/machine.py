"""Where something was measured: processor, versions, commit, load."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
from pathlib import Path

import psutil

LIBRARIES = ("torch", "timm", "transformers", "segment-anything", "torchvision", "numpy")


def processor(device: str, threads: int) -> str:
    """The device in words."""
    if device == "cuda":
        import torch

        return torch.cuda.get_device_name()
    info = Path("/proc/cpuinfo")
    names = [line for line in info.read_text().splitlines() if "model name" in line] if info.exists() else []
    name = names[0].partition(":")[2].strip() if names else platform.processor() or platform.machine()
    return f"{name}, {threads} of {psutil.cpu_count(logical=False)} cores"


def versions() -> str:
    found = [f"python {platform.python_version()}"]
    for name in LIBRARIES:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return ", ".join(found)


def load() -> float:
    """Processes that want to run, as a mean over the last minute."""
    return psutil.getloadavg()[0]


def commit(checkout: Path) -> str:
    """The commit of a checkout, with `+changes` where its sources have any; `unknown` outside git."""
    try:
        head = _git(checkout, "rev-parse", "--short=10", "HEAD")
        changed = _git(checkout, "status", "--porcelain", "--", "packages/*/src", "shared/src")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head + ("+changes" if changed else "")


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()
