"""From the network's square back to a picture's own size."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def mask_at_size(logits: Tensor, height: int, width: int) -> Tensor:
    """Mask logits (h, w) -> probabilities (height, width): the sigmoid, then bilinear with aligned corners.

    The picture was stretched into the square with aligned corners, so this is the way back.
    """
    probabilities = logits.float().sigmoid()[None, None]
    return F.interpolate(probabilities, (height, width), mode="bilinear", align_corners=True)[0, 0]
