"""The stored answers of the official code, and weights under the official names."""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

os.environ["PAPERS_UNTRAINED"] = "1"  # most networks here are drawn from a seed, in subprocesses too

GOLDEN = Path(__file__).parent / "golden"


class Golden:
    """`golden/`: `tensor` and `noise` make inputs, `official_state` weights, `check` compares."""

    def __init__(self) -> None:
        spec = importlib.util.spec_from_file_location("golden_fill", GOLDEN / "fill.py")
        assert spec is not None
        assert spec.loader is not None
        fill = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(fill)
        self.tensor: Callable[..., Tensor] = fill.tensor
        self.noise = fill.noise
        self._fill = fill.fill_
        self._states: dict[str, dict[str, Tensor]] = {}
        self.stored = load_file(GOLDEN / "network.safetensors")
        self.cases: dict[str, Any] = json.loads((GOLDEN / "network.json").read_text())["cases"]
        self.names: dict[str, dict[str, list[int]]] = json.loads((GOLDEN / "names.json").read_text())
        self.counts: dict[str, Any] = json.loads((GOLDEN / "counts.json").read_text())

    def official_state(self, kind: str) -> dict[str, Tensor]:
        """Deterministic weights of the `backbone`, the `segmentor` or the `classifier` under the official names."""
        if kind in self._states:
            return dict(self._states[kind])
        counter = "num_batches_tracked"
        state = {
            name: torch.zeros(shape, dtype=torch.long if name.endswith(counter) else torch.float32)
            for name, shape in self.names[kind].items()
        }
        self._fill(state)
        self._states[kind] = state
        return dict(state)

    def check(self, case: str, name: str, ours: Tensor, bound: float = 2e-5) -> None:
        """max|a - b| / max|b| against the stored slice of the tensor."""
        text = self.cases[case]["tensors"][name]
        if text != "whole":
            parts = [part.strip().split(":") for part in text.strip("[]").split(",")]
            ours = ours[tuple(slice(*(int(n) if n else None for n in part)) for part in parts)]
        stored = self.stored[f"{case}/{name}"]
        assert ours.shape == stored.shape
        difference = ((ours - stored).abs().max() / stored.abs().max()).item()
        assert difference <= bound, f"{case}/{name}: {difference:.2e}"


@pytest.fixture(scope="session")
def golden() -> Golden:
    return Golden()
