"""SAM's numbers in every precision beside float64; on a GPU where there is one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_sam
import torch

from papers_shared.devices import use_precision
from papers_shared.sam import SegmentAnything
from papers_shared.sam.frame import Frame

BOUNDS = {"fp32": 1e-5, "tf32": 2e-3, "bf16": 2e-2, "fp16": 5e-3}
"""Largest distance from float64, relative to the size of all values."""
GPU = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU"),
]
ON = [("cpu", "fp32"), *(pytest.param("cuda", precision, marks=GPU) for precision in BOUNDS)]


@pytest.mark.parametrize(("device", "precision"), ON)
def test_mask_logits_are_near_float64_in_every_precision(
    device: str, precision: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("segment_anything")
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", torch.backends.cudnn.allow_tf32)
    before = torch.get_float32_matmul_precision()
    use_precision(precision, torch.device(device))
    checkpoint, image = tiny_sam.checkpoint(tmp_path), tiny_sam.image()
    box = np.array(tiny_sam.PROMPTS["box"]["box"], np.float64)
    exact, found = (
        SegmentAnything(checkpoint, decoder_heads=tiny_sam.HEADS, device=where, precision=how)
        for where, how in (("cpu", "fp32"), (device, precision))
    )
    exact.network.image_encoder.double()  # the prompt encoder makes float32 of all it is given
    frame = Frame.of(image, exact.side)
    corners = torch.from_numpy(frame.to_square(box.reshape(2, 2)).reshape(1, 4)).float()
    with torch.inference_mode():
        (embedding,) = exact._embed(frame.pixels(image)[None].double())
        (expected,), _ = exact._decode((embedding.float(),), corners, None, None, False)
    found.set_image(image)
    _, logits, _ = found.predict_logits(box=box.tolist())
    torch.set_float32_matmul_precision(before)
    distance = (logits.cpu() - expected).norm() / expected.norm()
    assert distance <= BOUNDS[precision]
