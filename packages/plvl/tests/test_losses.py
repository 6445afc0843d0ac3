from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from named_noise import tensor
from safetensors.torch import load_file

from papers_shared.losses import box_l1_giou_loss, dice_loss
from plvl.config import LossConfig
from plvl.losses import (
    center_focal_loss,
    center_target,
    gaussian_radius,
    grounding_loss,
    mask_focal_loss,
)
from plvl.modeling.head import HeadOutput

GOLDEN = Path(__file__).parent / "golden"
FACTS = json.loads((GOLDEN / "network.json").read_text())
TENSORS = load_file(GOLDEN / "network.safetensors")
HEATMAPS = FACTS["fakes"]["heatmaps"]
BOXES = torch.tensor(HEATMAPS["boxes_cx_cy_w_h"])
EDGE = [index for index, ones in enumerate(HEATMAPS["cells_equal_to_one"]) if ones == 0]


def logit(p: torch.Tensor) -> torch.Tensor:
    return torch.logit(p.double())


def ellipses() -> torch.Tensor:
    pixel = (torch.arange(448) + 0.5) / 448
    masks = [
        ((pixel[None, :] - cx) / rx) ** 2 + ((pixel[:, None] - cy) / ry) ** 2 <= 1
        for cx, cy, rx, ry in FACTS["target"]["ellipses_cx_cy_rx_ry"]
    ]
    return torch.stack(masks)[:, None].float()


def test_official_target_is_the_authors() -> None:
    target = center_target(BOXES, (28, 28), form="official")
    torch.testing.assert_close(target[:, 0], TENSORS["heatmaps"], rtol=0, atol=1e-6)
    assert (target == 1).flatten(1).sum(1).tolist() == HEATMAPS["cells_equal_to_one"]


def test_radius_is_the_authors() -> None:
    expected = torch.tensor(HEATMAPS["radius_before_truncation"])
    torch.testing.assert_close(gaussian_radius(BOXES[:, 2:] * 28), expected, rtol=1e-5, atol=1e-6)


def test_sound_target_differs_at_the_border_only() -> None:
    official, sound = (center_target(BOXES, (28, 28), form=form) for form in ("official", "sound"))
    inside = [index for index in range(len(BOXES)) if index not in EDGE]
    assert EDGE
    assert torch.equal(official[inside], sound[inside])
    assert (sound == 1).flatten(1).sum(1).tolist() == [1] * len(BOXES)
    for index in EDGE:
        row, column = divmod(int(sound[index].argmax()), 28)
        x, y = HEATMAPS["centre_cell_x_y"][index]
        assert (column, row) == (min(x, 27), min(y, 27))


def test_target_of_a_map_that_is_not_square() -> None:
    target = center_target(torch.tensor([[0.5, 0.25, 0.1, 0.1]]), (8, 20))
    assert target.shape == (1, 1, 8, 20)
    assert divmod(int(target.argmax()), 20) == (2, 10)


def test_official_center_focal_is_the_authors() -> None:
    facts = FACTS["fakes"]["centre_focal"]
    p = ((tensor("open.a.score", (8, 1, 28, 28)) + 1) / 2).clamp(1e-4, 1 - 1e-4)
    target = TENSORS["heatmaps"][:, None]
    assert float(center_focal_loss(logit(p), target, form="official")) == pytest.approx(
        facts["all_eight"], rel=1e-5
    )
    each = [
        float(center_focal_loss(logit(p[i : i + 1]), target[i : i + 1], form="official")) for i in range(8)
    ]
    assert each == pytest.approx(facts["each_alone"], rel=1e-5)


def test_sound_center_focal() -> None:
    p = torch.tensor([0.2, 0.7, 0.4]).view(1, 1, 1, 3)
    target = torch.tensor([0.0, 1.0, 0.5]).view(1, 1, 1, 3)
    terms = [0.2**2 * torch.tensor(0.8).log(), 0.3**2 * torch.tensor(0.7).log()]
    terms.append(0.5**4 * 0.4**2 * torch.tensor(0.6).log())
    assert float(center_focal_loss(logit(p), target)) == pytest.approx(-float(sum(terms)), rel=1e-5)


@pytest.mark.parametrize("form", ["sound", "official"])
def test_extreme_logits_give_finite_loss_and_gradient(form: Any) -> None:
    logits = torch.tensor([-200.0, 200.0, 0.0, 200.0]).view(1, 1, 2, 2).requires_grad_()
    target = torch.tensor([1.0, 0.0, 0.5, 1.0]).view(1, 1, 2, 2)
    loss = center_focal_loss(logits, target, form=form) + mask_focal_loss(logits, target.round(), form=form)
    loss.backward()
    assert loss.isfinite()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert (logits.grad.flatten()[0] != 0) == (form == "sound")


def test_official_mask_losses_are_the_authors() -> None:
    facts = FACTS["fakes"]["mask_losses"]
    p, masks = (tensor("open.a.mask", (2, 1, 448, 448)) + 1) / 2, ellipses()
    assert float(mask_focal_loss(logit(p), masks, form="official")) == pytest.approx(facts["focal"], rel=1e-5)
    assert float(dice_loss(p, masks)) == pytest.approx(facts["dice"], rel=1e-5)


def test_mask_focal_takes_the_sigmoid_once_unless_official() -> None:
    right = torch.full((1, 1, 4, 4), 9.0)
    masks = torch.ones(1, 1, 4, 4)
    assert float(mask_focal_loss(right, masks)) < 1e-9
    twice = 0.25 * (1 - right.sigmoid()) ** 2 * -right.sigmoid().sigmoid().log()
    official = mask_focal_loss(right, masks, form="official")
    torch.testing.assert_close(official, twice.mean())
    unsure = torch.zeros(1, 1, 4, 4)
    assert float(mask_focal_loss(unsure, masks)) != pytest.approx(
        float(mask_focal_loss(unsure, masks, form="official")), rel=0.1
    )


def test_box_losses_are_the_authors() -> None:
    facts = FACTS["fakes"]["box_losses"]
    l1, giou = box_l1_giou_loss(TENSORS["fake_boxes"], TENSORS["fake_gt_boxes"])
    assert (float(l1), float(giou)) == pytest.approx((facts["l1"], facts["giou"]), rel=1e-5)


def output(batch: int = 2) -> HeadOutput:
    return HeadOutput(
        boxes=torch.rand(batch, 4) * 0.5 + 0.25,
        score_logits=torch.randn(batch, 1, 4, 4),
        offset=None,
        size=None,
        mask_logits=torch.randn(batch, 1, 16, 16),
    )


def test_total_is_the_weighted_sum() -> None:
    torch.manual_seed(0)
    boxes, masks = torch.rand(2, 4), (torch.rand(2, 16, 16) > 0.5).float()
    terms = grounding_loss(output(), boxes, masks, LossConfig(det_weight=0.3, seg_weight=2.0))
    _, giou, l1, center, focal, dice = terms
    torch.testing.assert_close(terms.total, 0.3 * (giou + l1 + center) + 2 * (focal + dice))


def test_one_task_alone() -> None:
    boxes, masks = torch.rand(2, 4), torch.zeros(2, 16, 16)
    rec = grounding_loss(output()._replace(mask_logits=None), boxes, None)
    res = grounding_loss(output()._replace(boxes=None, score_logits=None), None, masks)
    assert rec.mask_focal is None
    assert rec.dice is None
    assert res.giou is None
    assert res.center_focal is None
    assert rec.total.isfinite()
    assert res.total.isfinite()


def test_half_precision_output_is_computed_in_float32() -> None:
    half = HeadOutput(*(x if x is None else x.bfloat16() for x in output()))
    terms = grounding_loss(half, torch.rand(2, 4), torch.ones(2, 16, 16))
    assert all(term.dtype == torch.float32 for term in terms if term is not None)
