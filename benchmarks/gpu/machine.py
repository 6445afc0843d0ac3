"""The GPU, its driver and libraries, its clocks, and torch's switches."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import Any

import torch

from benchmarks import ROOT
from benchmarks.machine import commit, processor, versions

VARIABLES = (
    "CUBLAS_WORKSPACE_CONFIG",
    "CUDA_VISIBLE_DEVICES",
    "NVIDIA_TF32_OVERRIDE",
    "PYTORCH_ALLOC_CONF",
    "PYTORCH_CUDA_ALLOC_CONF",
    "TORCHINDUCTOR_CACHE_DIR",
)
"""Environment variables that change times or digits."""


def describe(device: torch.device) -> dict[str, Any]:
    """What a reader must know about the machine; on a CPU without the GPU's lines."""
    found: dict[str, Any] = {"versions": versions(), "commit": commit(ROOT)}
    if device.type != "cuda":
        return {"device": processor("cpu", torch.get_num_threads()), **found, "flags": flags()}
    values = torch.cuda.get_device_properties(device)
    return {
        "device": torch.cuda.get_device_name(device),
        "memory": f"{values.total_memory / 2**30:.1f} GiB",
        "multiprocessors": values.multi_processor_count,
        "compute capability": f"{values.major}.{values.minor}",
        "CUDA": torch.version.cuda,
        "cuDNN": _cudnn(),
        "driver": _ask("driver_version"),
        "clocks at the start": clocks(),
        **found,
        "flags": flags(),
    }


def clocks() -> str:
    """Clocks, power and temperature now, by nvidia-smi; empty without it."""
    return _ask("clocks.sm,clocks.max.sm,clocks.mem,power.draw,power.limit,temperature.gpu,persistence_mode")


def flags() -> str:
    """Torch's switches beside those that a row sets for its precision, and the environment's."""
    backends = torch.backends
    own = {
        "cudnn.benchmark": backends.cudnn.benchmark,
        "cudnn.deterministic": backends.cudnn.deterministic,
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "bf16 reduced-precision reduction": backends.cuda.matmul.allow_bf16_reduced_precision_reduction,
        "fp16 reduced-precision reduction": backends.cuda.matmul.allow_fp16_reduced_precision_reduction,
        "flash attention": backends.cuda.flash_sdp_enabled(),
        "cuDNN attention": backends.cuda.cudnn_sdp_enabled(),
    }
    own |= {name: os.environ[name] for name in VARIABLES if name in os.environ}
    return ", ".join(f"{name} {value}" for name, value in own.items())


def _cudnn() -> str:
    try:
        return str(torch.backends.cudnn.version())
    except RuntimeError as error:
        return f"unknown ({str(error).split('.')[0]})"


def _ask(fields: str) -> str:
    """nvidia-smi's answer about the first GPU that this program may use."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return ""
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "0").partition(",")[0] or "0"
    command = [program, f"--query-gpu={fields}", "--format=csv,noheader", f"--id={first}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    if done.returncode:
        return ""
    return ", ".join(
        f"{name} {value.strip()}"
        for name, value in zip(fields.split(","), done.stdout.split(","), strict=False)
    )
