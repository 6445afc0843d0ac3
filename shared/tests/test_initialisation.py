"""Initial weights."""

from __future__ import annotations

import pytest
import torch

from papers_shared.initialisation import trunc_normal_


def test_no_weight_is_far_out() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for _ in range(8):
            weight = trunc_normal_(torch.empty(2**22))
            assert weight.std().item() == pytest.approx(0.02, rel=0.01)
            assert weight.abs().max() <= 0.1
