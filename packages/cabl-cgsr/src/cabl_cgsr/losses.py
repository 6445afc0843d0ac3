"""The training loss (Section II-D, Eq. 3): image labels only."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from papers_shared.losses import binary_cross_entropy, cross_entropy


def classification_loss(
    logits_conv: Tensor,
    logits_trans: Tensor,
    labels: Tensor,
    *,
    activation: str = "sigmoid",
    kind: str = "sum_of_losses",
) -> Tensor:
    """L = BCE(CABL branch) + BCE(Trans branch), one number.

    Args:
        logits_conv: (B, num_logits).
        logits_trans: (B, num_logits).
        labels: (B,) int64, 1 = manipulated, 0 = authentic.
        activation: sigmoid: binary cross-entropy, of one logit with the label, of several with the one-hot
            label; softmax: cross-entropy.
        kind: sum_of_losses: Eq. (3); summed_logits: one loss on the sum of both branches' logits, as in
            TransCAM.
    """
    if kind == "summed_logits":
        return _loss(logits_conv + logits_trans, labels, activation)
    return _loss(logits_conv, labels, activation) + _loss(logits_trans, labels, activation)


def _loss(logits: Tensor, labels: Tensor, activation: str) -> Tensor:
    if activation == "softmax":
        return cross_entropy(logits, labels)
    targets = labels.unsqueeze(1) if logits.shape[1] == 1 else F.one_hot(labels, logits.shape[1])
    return binary_cross_entropy(logits, targets)
