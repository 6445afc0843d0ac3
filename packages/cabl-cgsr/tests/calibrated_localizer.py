"""Small untrained networks whose values are as tame as those of trained ones."""

from __future__ import annotations

import torch
from torch import nn

from cabl_cgsr.config import ModelConfig
from cabl_cgsr.modeling.localizer import Localizer
from papers_shared.provenance import Origin
from papers_shared.seeding import forked_rng


def calibrated(config: ModelConfig) -> Localizer:
    """Untrained, on maps with some structure: the statistics of batch norm are those of noise.

    With the statistics it starts with, batch norm normalises nothing, and the values of 12 residual blocks grow to 1e5
    in evaluation mode, where nothing can be compared.
    """
    with forked_rng(0):
        model = Localizer.from_config(config)
        norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
        for norm in norms:
            norm.momentum = None
        with torch.no_grad():
            model.train()(torch.randn(8, 3, 48, 48))
        for norm in norms:
            norm.momentum = 0.1
    model.origin = Origin()  # answers as a trained one does
    return model.eval()
