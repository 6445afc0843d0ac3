"""Forensics scores against the released programs' values and scikit-learn."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from papers_shared.errors import UserError
from papers_shared.metrics import ForensicsMetrics, interval, resamples, roc_auc

GOLDEN = json.loads(Path(__file__).with_name("golden").joinpath("forensics.json").read_text())
MAPS = load_file(Path(__file__).with_name("golden") / "forensics.safetensors")


def accumulate(images: list[int]) -> ForensicsMetrics:
    metrics, level = ForensicsMetrics(), GOLDEN["image_level"]
    for i in images:
        metrics.update(
            f"{i:02d}",
            label=level["labels"][i],
            score=level["scores"][i],
            pixel_map=MAPS[f"pred{i:02d}"],
            mask=MAPS[f"mask{i:02d}"],
        )
    return metrics


def test_golden_counts() -> None:
    metrics = accumulate(list(range(12)))
    for golden, row in zip(GOLDEN["per_image"], metrics.rows.values(), strict=True):
        assert (row.tp, row.fp, row.fn) == (golden["tp"], golden["fp"], golden["fn"])
        assert row.best_f1 == pytest.approx(golden["best_threshold_f1_nonzero"], abs=1e-12)


@pytest.mark.parametrize(
    ("ours", "golden", "tolerance"),
    [
        ("p_f1", "recommended_P_F1", 1e-12),
        ("mvss_net", "mvss_net_all_manipulated", 1e-12),
        ("wscl", "wscl_without_image_7", 1e-12),
        ("imdlbenco_every_image", "imdlbenco_every_image", 1e-7),  # computed in float32 there
        ("imdlbenco_manipulated_only", "imdlbenco_manipulated_only", 1e-7),
        ("imdlbenco_masked", "imdlbenco_clean_manipulated", 1e-7),
        ("pooled_over_pixels", "pooled_over_pixels", 1e-12),
        ("best_threshold_per_image", "best_threshold_per_image", 1e-12),
        ("best_threshold_per_dataset", "best_threshold_per_dataset", 1e-12),
    ],
)
def test_golden_pixel_scores(ours: str, golden: str, tolerance: float) -> None:
    value = GOLDEN["pixel_f1"][golden]
    value = value["value"] if isinstance(value, dict) else value
    scores = accumulate(list(range(12))).compute()
    assert scores.pixel[ours] == pytest.approx(value, abs=tolerance)
    assert ours in scores.definition


def test_golden_image_scores() -> None:
    scores, golden = accumulate(list(range(12))).compute(), GOLDEN["image_level"]
    assert scores.i_auc == golden["I_AUC"]["value"]
    assert scores.accuracy == pytest.approx(golden["accuracy"], abs=1e-7)
    assert scores.sensitivity == pytest.approx(golden["sensitivity"], abs=1e-12)
    assert scores.specificity == pytest.approx(golden["specificity"], abs=1e-12)
    assert scores.image_f1 == pytest.approx(golden["image_f1_standard"], abs=1e-12)
    assert scores.image_f1_wscl == pytest.approx(golden["image_f1_mvss_and_wscl"]["value"], abs=1e-12)
    assert scores.combined_f1_wscl == pytest.approx(golden["combined_f1_wscl"]["value"], abs=1e-12)


def test_ranks_merge_to_the_same_figures() -> None:
    one, two = accumulate([7, 1, 2, 3, 4, 5, 11]), accumulate([0, 6, 7, 8, 9, 10])
    one.merge(two)
    assert one.compute() == accumulate(list(range(12))).compute()


def test_one_class_has_no_auc() -> None:
    scores = accumulate([8, 9]).compute()
    assert scores.i_auc is scores.p_f1 is scores.sensitivity is None


@pytest.mark.parametrize("seed", range(5))
def test_auc_agrees_with_scikit_learn(seed: int) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(seed)
    scores, labels = rng.integers(0, 9, 60) / 8, rng.integers(0, 2, 60)
    assert roc_auc(scores, labels) == pytest.approx(metrics.roc_auc_score(labels, scores), abs=1e-12)


def test_a_mask_of_zeros_and_ones_is_refused() -> None:
    ones = np.ones((2, 2), np.uint8)
    with pytest.raises(UserError, match="boolean"):
        ForensicsMetrics().update("a", label=1, score=0.5, pixel_map=ones.astype(float), mask=ones)


def test_trufor_is_the_larger_f1_away_from_the_border() -> None:
    """Against scipy's filters, written as TruFor's evaluation describes them."""
    ndimage = pytest.importorskip("scipy.ndimage")
    generator = np.random.default_rng(0)
    metrics, expected = ForensicsMetrics(), []
    for i, (top, left) in enumerate([(0, 0), (20, 30), (5, 60)]):
        mask = np.zeros((70, 90), bool)
        mask[top : top + 31, left : left + 24] = True
        pixel_map = np.clip(0.5 * mask * (-1) ** i + generator.random(mask.shape) * 0.7, 0, 1)
        inside = ndimage.minimum_filter(mask, 15)
        outside = ~ndimage.maximum_filter(mask, 11)
        found = pixel_map.astype(np.float32) > 0.5
        values = []
        for answer in (found, ~found):
            tp, fp, fn = (answer & inside).sum(), (answer & outside).sum(), (~answer & inside).sum()
            values.append(2 * tp / (2 * tp + fp + fn))
        expected.append(max(values))
        metrics.update(f"{i}", label=1, score=0.5, pixel_map=pixel_map, mask=mask)
    assert metrics.compute().pixel["trufor"] == pytest.approx(np.mean(expected), abs=1e-12)


def test_trufor_leaves_out_what_its_program_cannot_score() -> None:
    """Where one class remains in mask and map there is nothing to compare: the program gives NaN, and skips it."""
    metrics, shape = ForensicsMetrics(), (60, 60)
    thin, large = np.zeros(shape, bool), np.zeros(shape, bool)
    thin[20:28, 20:28] = True
    large[10:50, 10:50] = True
    metrics.update("perfect", label=1, score=0.9, pixel_map=large, mask=large)
    metrics.update("thin", label=1, score=0.9, pixel_map=thin, mask=thin)
    metrics.update("all", label=1, score=0.9, pixel_map=np.ones(shape, bool), mask=np.ones(shape, bool))
    assert metrics.compute().pixel["trufor"] == 1.0
    metrics.update(
        "missed", label=1, score=0.9, pixel_map=~thin, mask=thin
    )  # marks away from the border: counted
    assert metrics.rows["missed"].trufor_f1 == 0.0
    assert metrics.rows["thin"].trufor_f1 is None
    alone = ForensicsMetrics()
    alone.update("thin", label=1, score=0.9, pixel_map=thin, mask=thin)
    assert alone.compute().pixel["trufor"] is None


FINE = {"label": 1, "score": 0.5, "pixel_map": np.eye(4), "mask": np.eye(4, dtype=bool)}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"score": float("nan")}, "image score nan"),
        ({"score": float("inf")}, "image score inf"),
        ({"score": 7.0}, r"image score 7.0 is not in \[0, 1\]"),
        ({"score": -0.1}, "image score -0.1"),
        ({"label": 2}, "label is 2"),
        ({"label": -1}, "label is -1"),
        ({"pixel_map": np.full((4, 4), np.nan)}, "map holds values"),
        ({"pixel_map": np.full((4, 4), 1.5)}, "map holds values"),
        ({"pixel_map": np.zeros((4, 4, 1))}, "not \\(H, W\\)"),
        ({"pixel_map": np.zeros((4, 5))}, "differ in shape"),
        ({"mask": np.full((4, 4), 0.5)}, "mask holds float64"),
        ({"mask": np.full((4, 4), 300)}, "mask holds int64"),
    ],
)
def test_values_out_of_range_are_refused_and_not_counted(changed: dict, message: str) -> None:
    metrics = ForensicsMetrics()
    with pytest.raises(UserError, match=f"'x': .*{message}"):
        metrics.update("x", **{**FINE, **changed})
    assert not metrics.rows
    metrics.update("x", **FINE)


def test_an_area_needs_finite_scores_and_two_labels() -> None:
    with pytest.raises(UserError, match="1 of 3 scores are not finite"):
        roc_auc(np.array([0.1, np.nan, 0.3]), np.array([0, 1, 1]))
    with pytest.raises(UserError, match="0 and 1"):
        roc_auc(np.array([0.1, 0.2]), np.array([0, 2]))
    with pytest.raises(UserError, match="cannot be made"):
        resamples(3, -1)


def test_bootstrap_interval_of_a_mean_has_the_width_of_theory() -> None:
    values = np.random.default_rng(1).normal(size=400)
    low, high = interval(values[resamples(400, 2000, seed=3)].mean(axis=1))
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)
    assert low < values.mean() < high
    assert np.array_equal(resamples(7, 5, seed=3), resamples(7, 5, seed=3))
    assert interval(np.full(9, np.nan)) is None
