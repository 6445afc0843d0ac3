"""The training loss (Section II-D, Eq. 3): image labels only."""

from __future__ import annotations

import torch
from torch import Tensor

from papers_shared.losses import binary_cross_entropy, cross_entropy


def classification_losses(
    logits_conv: Tensor,
    logits_trans: Tensor,
    labels: Tensor,
    *,
    activation: str = "sigmoid",
    kind: str = "sum_of_losses",
) -> dict[str, Tensor]:
    """The terms of L = BCE(CABL branch) + BCE(Trans branch), each a mean over the batch, by name.

    Args:
        logits_conv: (B, num_logits).
        logits_trans: (B, num_logits).
        labels: (B,) int64, 1 = manipulated, 0 = authentic.
        activation: sigmoid: binary cross-entropy, of one logit with the label, of several with the one-hot
            label; softmax: cross-entropy.
        kind: sum_of_losses: Eq. (3), `conv_loss` and `trans_loss`; summed_logits: `summed_loss`, one loss on
            the sum of both branches' logits, as in TransCAM.
    """
    if kind == "summed_logits":
        return {"summed_loss": _loss(logits_conv + logits_trans, labels, activation)}
    return {
        "conv_loss": _loss(logits_conv, labels, activation),
        "trans_loss": _loss(logits_trans, labels, activation),
    }


def classification_loss(
    logits_conv: Tensor,
    logits_trans: Tensor,
    labels: Tensor,
    *,
    activation: str = "sigmoid",
    kind: str = "sum_of_losses",
) -> Tensor:
    """The sum of `classification_losses`, one number."""
    terms = classification_losses(logits_conv, logits_trans, labels, activation=activation, kind=kind)
    return torch.stack(list(terms.values())).sum()


def _loss(logits: Tensor, labels: Tensor, activation: str) -> Tensor:
    if activation == "softmax":
        return cross_entropy(logits, labels)
    targets = labels.unsqueeze(1)
    if logits.shape[1] > 1:
        targets = targets == torch.arange(logits.shape[1], device=labels.device)  # `one_hot` reads them
    return binary_cross_entropy(logits, targets)
