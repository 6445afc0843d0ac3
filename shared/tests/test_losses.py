"""Losses against torch, mmsegmentation's rule and stored values."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from named_noise import noise, tensor

from papers_shared import losses

GOLDEN = json.loads(Path(__file__).with_name("golden").joinpath("grounding.json").read_text())


def case(shape: tuple[int, ...] = (2, 4, 5, 6)) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, shape[1], (shape[0], *shape[2:]), generator=generator)
    labels[torch.rand(labels.shape, generator=generator) < 0.3] = 255
    return torch.randn(shape, generator=generator), labels


@pytest.mark.parametrize("weight", [None, torch.tensor([1.0, 0.5, 2.0, 3.0])])
@pytest.mark.parametrize("shape", [(2, 4, 5, 6), (8, 4)])
def test_valid_average_is_torchs_mean(shape: tuple[int, ...], weight: torch.Tensor | None) -> None:
    logits, labels = case(shape)
    expected = F.cross_entropy(logits, labels, ignore_index=255, weight=weight, label_smoothing=0.1)
    ours = losses.cross_entropy(logits, labels, weight=weight, label_smoothing=0.1)
    torch.testing.assert_close(ours, expected)


def test_all_average_divides_by_every_pixel() -> None:
    logits, labels = case()
    each = F.cross_entropy(logits, labels, ignore_index=255, reduction="none")
    torch.testing.assert_close(losses.cross_entropy(logits, labels, average="all"), each.mean())
    torch.testing.assert_close(losses.cross_entropy(logits, labels, average="sum"), each.sum())


def test_soft_labels() -> None:
    logits = torch.randn(3, 4)
    soft = torch.rand(3, 4).softmax(1)
    expected = -(soft * logits.log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(losses.cross_entropy(logits, soft), expected)


@pytest.mark.parametrize("average", ["valid", "all"])
@pytest.mark.parametrize("weight", [None, torch.ones(4)])
def test_no_labelled_pixel_gives_zero_with_a_gradient(average: str, weight: torch.Tensor | None) -> None:
    logits = torch.randn(1, 4, 2, 2, requires_grad=True)
    loss = losses.cross_entropy(logits, torch.full((1, 2, 2), 255), average=average, weight=weight)  # type: ignore[arg-type]
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_golden_boxes() -> None:
    l1, giou = losses.box_l1_giou_loss(torch.tensor(GOLDEN["boxes"]), torch.tensor(GOLDEN["true_boxes"]))
    assert giou.item() == pytest.approx(GOLDEN["box_losses"]["giou"], rel=1e-5)
    assert l1.item() == pytest.approx(GOLDEN["box_losses"]["l1"], rel=1e-5)


def test_boxes_without_area_are_finite() -> None:
    boxes = torch.tensor([[0.5, 0.5, 0.0, 0.0]], requires_grad=True)
    l1, giou = losses.box_l1_giou_loss(boxes, boxes.detach())
    (l1 + giou).backward()
    assert giou.item() == 1
    assert boxes.grad is not None
    assert boxes.grad.isfinite().all()


def test_golden_dice() -> None:
    probability = (tensor("open.a.mask", (2, 1, 448, 448)) + 1) / 2
    positions = (np.arange(448) + 0.5) / 448
    masks = [
        ((positions[None, :] - cx) / rx) ** 2 + ((positions[:, None] - cy) / ry) ** 2 <= 1
        for cx, cy, rx, ry in GOLDEN["target"]["ellipses_cx_cy_rx_ry"]
    ]
    loss = losses.dice_loss(probability, torch.from_numpy(np.stack(masks))[:, None])
    assert loss.item() == pytest.approx(GOLDEN["mask_losses"]["dice"], rel=1e-5)


@pytest.mark.parametrize("branch", ["conv", "trans"])
def test_golden_binary_cross_entropy(branch: str) -> None:
    logits = torch.from_numpy(3 * noise(f"cabl_cgsr.loss.{branch}", (6, 2)))[:, 1]
    loss = losses.binary_cross_entropy(logits, torch.tensor(GOLDEN["binary"]["inputs"]["labels"]))
    assert loss.item() == pytest.approx(GOLDEN["binary"][f"one_logit_{branch}"], rel=1e-12)


def test_focal_loss_agrees_with_torchvision() -> None:
    ops = pytest.importorskip("torchvision.ops")
    logits, targets = torch.randn(2, 9), torch.randint(0, 2, (2, 9)).float()
    for alpha in (0.25, -1.0):
        expected = ops.sigmoid_focal_loss(logits, targets, alpha=alpha, gamma=2.0, reduction="mean")
        torch.testing.assert_close(losses.sigmoid_focal_loss(logits, targets, alpha=alpha), expected)
