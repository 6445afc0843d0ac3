"""Eq. (3) and the image score against numbers computed in float64."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from named_noise import noise

from cabl_cgsr.cam import image_score
from cabl_cgsr.losses import classification_loss

GOLDEN = json.loads((Path(__file__).with_name("golden") / "network.json").read_text())["losses"]
CONV = torch.from_numpy(3 * noise("cabl_cgsr.loss.conv", (6, 2)))
TRANS = torch.from_numpy(3 * noise("cabl_cgsr.loss.trans", (6, 2)))
LABELS = torch.tensor(GOLDEN["inputs"]["labels"])


@pytest.mark.parametrize(
    ("name", "logits", "activation", "kind"),
    [
        ("one_logit_sum", 1, "sigmoid", "sum_of_losses"),
        ("two_logit_onehot_sum", 2, "sigmoid", "sum_of_losses"),
        ("cross_entropy_sum", 2, "softmax", "sum_of_losses"),
        ("bce_of_summed_logit", 1, "sigmoid", "summed_logits"),
        ("transcam_multilabel_soft_margin_of_summed_logits", 2, "sigmoid", "summed_logits"),
    ],
)
def test_loss(name: str, logits: int, activation: str, kind: str) -> None:
    loss = classification_loss(
        CONV[:, -logits:], TRANS[:, -logits:], LABELS, activation=activation, kind=kind
    )
    assert loss.item() == pytest.approx(GOLDEN[name], abs=1e-9)


@pytest.mark.parametrize(
    ("name", "logits", "activation", "kind"),
    [
        ("score_mean_of_probabilities", 1, "sigmoid", "probabilities"),
        ("score_softmax_of_summed_logits", 2, "softmax", "logits"),
    ],
)
def test_image_score(name: str, logits: int, activation: str, kind: str) -> None:
    score = image_score(CONV[:, -logits:], TRANS[:, -logits:], activation, kind)
    assert score.tolist() == pytest.approx(GOLDEN[name], abs=1e-9)


def test_each_branch_gets_its_own_gradient() -> None:
    conv, trans = CONV[:, :1].clone().requires_grad_(), TRANS[:, :1].clone().requires_grad_()
    classification_loss(conv, trans, LABELS).backward()
    for logits in (conv, trans):
        expected = (logits.detach().sigmoid() - LABELS.unsqueeze(1)) / len(LABELS)
        torch.testing.assert_close(logits.grad, expected)
