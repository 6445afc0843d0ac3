"""Grounding scores against the official program's values."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from papers_shared.boxes import cxcywh_to_xyxy
from papers_shared.errors import UserError
from papers_shared.metrics import GroundingMetrics

GOLDEN = json.loads(Path(__file__).with_name("golden").joinpath("grounding.json").read_text())


def corners(name: str) -> np.ndarray:
    return cxcywh_to_xyxy(torch.tensor(GOLDEN[name])).numpy()


def pixel_centres() -> tuple[np.ndarray, np.ndarray]:
    positions = (np.arange(448) + 0.5) / 448
    return positions[None, :], positions[:, None]


def test_golden_boxes() -> None:
    metrics, golden = GroundingMetrics(), GOLDEN["box_evaluation"]
    for i, (box, true_box) in enumerate(zip(corners("boxes"), corners("true_boxes"), strict=True)):
        metrics.update(str(i), box=box, true_box=true_box)
    assert [row.box_iou for row in metrics.rows.values()] == pytest.approx(golden["iou_each"], abs=2e-6)
    scores = metrics.compute()
    assert scores.acc_at_05 == golden["accuracy_at_0_5"]
    assert scores.miou is None


def test_golden_masks() -> None:
    metrics, (px, py) = GroundingMetrics(), pixel_centres()
    for i, (cx, cy, rx, ry) in enumerate(GOLDEN["target"]["ellipses_cx_cy_rx_ry"]):
        truth = ((px - cx) / rx) ** 2 + ((py - cy) / ry) ** 2 <= 1
        distance = ((px - cx - 0.02) / rx) ** 2 + ((py - cy + 0.03) / ry) ** 2
        metrics.update(str(i), mask=1 / (1 + np.exp(8 * (distance - 1))), true_mask=truth)
    ious = [row.mask_iou for row in metrics.rows.values()]
    assert ious == pytest.approx(GOLDEN["mask_evaluation"]["iou_each"], abs=1e-6)
    scores = metrics.compute()
    assert scores.miou == pytest.approx(GOLDEN["mask_evaluation"]["mean_iou"], abs=1e-6)
    assert scores.precision_at == {"0.5": 1.0, "0.6": 1.0, "0.7": 1.0, "0.8": 0.0, "0.9": 0.0}
    rows = metrics.rows.values()
    assert scores.oiou == sum(row.intersection for row in rows) / sum(row.union for row in rows)


def test_a_sample_on_two_ranks_counts_once() -> None:
    full, half = np.ones((4, 4), bool), np.tri(4, dtype=bool)
    ranks = [GroundingMetrics(), GroundingMetrics()]
    for rank, names in zip(ranks, (["a", "b"], ["b", "c"]), strict=True):
        for name in names:
            rank.update(name, mask=half if name == "a" else full, true_mask=full)
    ranks[0].merge(ranks[1])
    scores = ranks[0].compute()
    assert scores.num_samples == 3
    assert scores.miou == pytest.approx((10 / 16 + 2) / 3)
    with pytest.raises(UserError, match="'a' was counted already"):
        ranks[0].update("a", mask=full, true_mask=full)


def test_empty_masks_and_boxes_are_defined() -> None:
    metrics, empty = GroundingMetrics(), np.zeros((2, 2))
    metrics.update("a", mask=empty, true_mask=empty, box=[0.5, 0.5, 0.5, 0.5], true_box=[0.5, 0.5, 0.5, 0.5])
    scores = metrics.compute()
    assert (scores.miou, scores.oiou, scores.acc_at_05) == (1.0, 1.0, 0.0)


@pytest.mark.parametrize(
    "values",
    [
        {"box": [0.1, float("nan"), 0.5, 0.5], "true_box": [0, 0, 1, 1]},
        {"box": [0, 0, 1, 1], "true_box": [0, 0, float("inf"), 1]},
        {"box": [0, 0, 1], "true_box": [0, 0, 1, 1]},
        {"mask": np.full((2, 2), np.nan), "true_mask": np.ones((2, 2), bool)},
    ],
)
def test_values_that_are_not_finite_are_refused_and_not_counted(values: dict) -> None:
    metrics = GroundingMetrics()
    with pytest.raises(UserError, match=r"'x': .*finite"):
        metrics.update("x", **values)
    assert not metrics.rows
