"""Small models of the three packages for the tests of their pages."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from calibrated_localizer import calibrated
from tiny_plvl import TINY

from cabl_cgsr.config import CamConfig
from cabl_cgsr.config import ModelConfig as LocalizerConfig
from fanet.config import ZEROWASTE_CLASSES
from fanet.config import ModelConfig as SegmenterConfig
from fanet.modeling.segmenter import Segmenter
from papers_shared.provenance import Origin
from plvl.modeling.plvl import PLVL
from plvl.tokenizer import VOCABULARY, make_vocabulary


def small_model(name: str) -> Any:
    """A small network of a package, which answers as a trained one does."""
    torch.manual_seed(0)
    if name == "cabl-cgsr":
        return calibrated(LocalizerConfig(backbone="test_conformer", cam=CamConfig(sizes=(32, 48))))
    if name == "fanet":
        config = SegmenterConfig(
            backbone="test_fanet",
            class_names=ZEROWASTE_CLASSES,
            decoder_channels=16,
            auxiliary=False,
            test_scale=(96, 64),
        )
        model: Any = Segmenter.from_config(config)
    else:
        model = PLVL.from_config(replace(TINY, vocab_size=200, max_tokens=8, text_positions=20))
        model.extra_files = {VOCABULARY: make_vocabulary(["the red block", "the blue circle"], 200)}
    model.origin = Origin()
    return model.eval()
