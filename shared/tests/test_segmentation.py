"""The confusion matrix against stored values and torchmetrics."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from named_noise import noise

from papers_shared.errors import UserError
from papers_shared.metrics import ConfusionMatrix

GOLDEN = json.loads(Path(__file__).with_name("golden").joinpath("segmentation.json").read_text())


def golden_maps(case: str) -> list[tuple[np.ndarray, np.ndarray]]:
    maps = []
    for i, shape in enumerate(GOLDEN["definition"]["images"]):
        truth = np.floor((noise(f"fanet/metric/gt{i}", shape) + 1) * 3).astype(np.int64)
        truth[truth == 5] = 255
        pred = np.floor((noise(f"fanet/metric/pred{i}", shape) + 1) * 2.5).astype(np.int64)
        kept = (noise(f"fanet/metric/keep{i}", shape) > -0.4) & (truth != 255)
        pred[kept] = truth[kept]
        if case == "absent_classes":
            truth[(truth == 3) | (truth == 4)] = 0
            pred[pred == 4] = 0
        maps.append((pred, truth))
    return maps


@pytest.mark.parametrize("case", ["all_classes_present", "absent_classes"])
def test_golden_figures(case: str) -> None:
    matrix = ConfusionMatrix(5)
    for pred, truth in golden_maps(case):
        matrix.update(torch.from_numpy(pred), truth.astype(np.uint8))
    scores, golden = matrix.compute(), GOLDEN[case]["mmseg"]
    assert matrix.counts.T.tolist() == GOLDEN[case]["confusion_rows_pred_cols_gt"]
    assert (scores.miou, scores.pixel_acc, scores.macc) == (golden["mIoU"], golden["aAcc"], golden["mAcc"])
    assert list(scores.iou) == golden["IoU"]
    assert list(scores.class_acc) == golden["Acc"]


def test_ranks_merge_to_the_same_figures() -> None:
    whole, ranks = ConfusionMatrix(5), [ConfusionMatrix(5), ConfusionMatrix(5)]
    for i, (pred, truth) in enumerate(golden_maps("absent_classes")):
        whole.update(pred, truth)
        ranks[i % 2].update(pred, truth)
    ranks[0].merge(ranks[1])
    assert ranks[0].compute() == whole.compute()
    assert whole.counts.dtype == torch.int64


@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_torchmetrics(seed: int) -> None:
    classification = pytest.importorskip("torchmetrics.classification")
    generator = torch.Generator().manual_seed(seed)
    pred = torch.randint(0, 7, (2, 20, 30), generator=generator)
    truth = torch.randint(0, 7, (2, 20, 30), generator=generator)
    truth[torch.rand(truth.shape, generator=generator) < 0.2] = 255
    matrix = ConfusionMatrix(7)
    matrix.update(pred, truth)
    jaccard = classification.MulticlassJaccardIndex(7, average="none", ignore_index=255)(pred, truth)
    accuracy = classification.MulticlassAccuracy(7, average="micro", ignore_index=255)(pred, truth)
    scores = matrix.compute()
    assert scores.iou == pytest.approx(jaccard.tolist(), abs=1e-6)
    assert scores.miou == pytest.approx(float(jaccard.mean()), abs=1e-6)
    assert scores.pixel_acc == pytest.approx(float(accuracy), abs=1e-6)


@pytest.mark.parametrize(
    ("pred", "truth", "message"),
    [
        ([0, 1], [0, 3], "label 3"),
        ([0, 1], [0, -1], "label -1"),
        ([0, 7], [0, 1], "predicted class 7"),
        ([0, 1], [[0], [1]], "shape"),
        ([0.0, 1.0], [0, 1], "integer"),
    ],
)
def test_wrong_values_are_named(pred: list, truth: list, message: str) -> None:
    with pytest.raises(UserError, match=message):
        ConfusionMatrix(3).update(torch.tensor(pred), torch.tensor(truth))


def test_predictions_under_ignored_pixels_do_not_count() -> None:
    matrix = ConfusionMatrix(2)
    matrix.update(torch.tensor([1, 0, 1]), torch.tensor([255, 0, 1]))
    assert matrix.counts.tolist() == [[1, 0], [0, 1]]


def test_no_labelled_pixel_is_an_error() -> None:
    matrix = ConfusionMatrix(2)
    matrix.update(torch.tensor([1, 0]), torch.tensor([255, 255]))
    with pytest.raises(UserError, match="no labelled pixel"):
        matrix.compute()
