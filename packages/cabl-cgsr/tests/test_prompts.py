"""CGSR's coarse mask, box and points: golden cases and every corner case."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from cabl_cgsr.cam import scale_map
from cabl_cgsr.config import PromptConfig
from cabl_cgsr.prompts import (
    Prompts,
    bounding_box,
    coarse_mask,
    extreme_points,
    largest_component,
    make_prompts,
)
from papers_shared.errors import UserError

FOLDER = Path(__file__).with_name("golden")
CASES = json.loads((FOLDER / "network.json").read_text())["prompts"]
GOLDEN = load_file(FOLDER / "network.safetensors")
SCALING = {"minmax": "minmax", "relu_max": "clip_max"}


@pytest.mark.parametrize(("name", "case"), [(name, case) for name, cases in CASES.items() for case in cases])
def test_golden_prompts(name: str, case: dict) -> None:
    raw = GOLDEN[f"prompts.{name}"]
    scaled = scale_map(raw, SCALING[case["scaling"]]).numpy()
    config = PromptConfig(threshold=case["threshold"], connectivity=case["connectivity"])
    mask = coarse_mask(scaled, config)
    tolerance = 1 if name == "upsampled" else 0
    assert mask.sum() == pytest.approx(case["mask_pixels"], rel=5e-3)
    component = largest_component(mask, case["connectivity"])
    assert component.sum() == pytest.approx(case["largest_area"], rel=5e-3)
    prompts = make_prompts(raw.numpy(), mask, config)
    assert prompts.box_xyxy == pytest.approx(case["box_xyxy_inclusive"], abs=tolerance)
    assert bounding_box(component, "exclusive") == pytest.approx(case["box_xyxy_exclusive"], abs=tolerance)
    assert prompts.points_xy == (tuple(case["positive_point_xy"]), tuple(case["negative_point_xy"]))
    assert prompts.labels == (1, 0)
    x, y = prompts.points_xy[0]
    assert component[y, x] == case["positive_point_inside_component"]


def test_the_peak_may_lie_outside_the_box() -> None:
    raw = GOLDEN["prompts.blobs"].numpy()
    mask = coarse_mask(scale_map(torch.from_numpy(raw)).numpy())
    prompts = make_prompts(raw, mask)
    assert prompts.points_xy[0] == (44, 14)
    assert prompts.point_in_box is False
    inside = make_prompts(raw, mask, PromptConfig(positive_from="component"))
    assert inside.point_in_box is True
    assert inside.box_xyxy == prompts.box_xyxy
    assert inside.points_xy[1] == prompts.points_xy[1]


RAW = np.array([[0.0, 0.2, 0.1], [0.9, 0.8, -0.5], [0.0, 0.0, 0.0]], dtype=np.float32)


@pytest.mark.parametrize(
    ("variant", "expected"),
    [
        ("null", Prompts()),
        ("point", Prompts(points_xy=((0, 1),), labels=(1,))),
        ("box", Prompts(box_xyxy=(0, 1, 1, 1))),
        ("box_point", Prompts((0, 1, 1, 1), ((0, 1), (2, 1)), (1, 0))),
    ],
)
def test_variants_of_table_vi(variant: str, expected: Prompts) -> None:
    prompts = make_prompts(RAW, RAW > 0.5, PromptConfig(variant=variant))
    assert prompts == expected
    assert prompts.empty == (variant == "null")


def test_exclusive_far_corner() -> None:
    prompts = make_prompts(RAW, RAW > 0.5, PromptConfig(far_corner="exclusive"))
    assert prompts.box_xyxy == (0, 1, 2, 2)


@pytest.mark.parametrize("variant", ["null", "point", "box", "box_point"])
def test_an_empty_mask_gives_no_prompts(variant: str) -> None:
    prompts = make_prompts(RAW, np.zeros((3, 3), dtype=bool), PromptConfig(variant=variant))
    assert prompts.empty
    assert prompts.point_in_box is None


@pytest.mark.parametrize("scaling", ["clip_minmax", "clip_max", "minmax"])
@pytest.mark.parametrize("threshold", [0.5, "otsu"])
def test_a_constant_map_gives_an_empty_mask_and_no_prompts(scaling: str, threshold: float | str) -> None:
    raw = torch.full((4, 5), 0.7)
    mask = coarse_mask(scale_map(raw, scaling).numpy(), PromptConfig(threshold=threshold))
    assert not mask.any()
    assert make_prompts(raw.numpy(), mask).empty


def test_a_constant_map_with_a_mask_of_its_own_gives_a_box_and_no_points() -> None:
    assert make_prompts(np.ones((3, 3)), RAW > 0.5) == Prompts(box_xyxy=(0, 1, 1, 1))
    assert extreme_points(np.ones((3, 3))) is None


def test_ties_go_to_the_first_in_row_major_order() -> None:
    tied = np.array([[0, 1, 0], [1, -1, -1]])
    assert extreme_points(tied) == ((1, 0), (1, 1))
    blocks = np.zeros((6, 9), dtype=bool)
    blocks[3:5, 0:2] = blocks[0:2, 6:8] = True  # equal areas; the right one begins in an earlier row
    assert bounding_box(largest_component(blocks)) == (6, 0, 7, 1)


def test_corner_contact_joins_only_under_8_connectivity() -> None:
    mask = np.eye(3, dtype=bool)
    assert largest_component(mask, 8).sum() == 3
    assert largest_component(mask, 4).sum() == 1


def test_one_pixel_and_full_masks_have_boxes() -> None:
    mask = np.zeros((3, 4), dtype=bool)
    mask[2, 3] = True
    assert bounding_box(mask) == (3, 2, 3, 2)
    assert bounding_box(np.ones((3, 4), dtype=bool)) == (0, 0, 3, 2)


def test_the_threshold_is_strict_and_otsu_splits_two_levels() -> None:
    scaled = np.array([[0.1, 0.5, 0.51, 0.9]])
    assert coarse_mask(scaled).tolist() == [[False, False, True, True]]
    levels = np.array([[0.1, 0.1, 0.12, 0.4, 0.42]])
    assert coarse_mask(levels, PromptConfig(threshold="otsu")).tolist() == [[False, False, False, True, True]]


def test_a_broken_map_is_refused() -> None:
    broken = np.array([[0.0, np.nan]])
    with pytest.raises(UserError, match="NaN"):
        coarse_mask(broken)
    with pytest.raises(UserError, match="NaN"):
        make_prompts(broken, np.ones((1, 2), dtype=bool))
