"""GrabCut as a prompted segmenter, and the rules that hold for every back end."""

from __future__ import annotations

import numpy as np
import pytest

from papers_shared.errors import UserError
from papers_shared.sam import GrabCut, make_refiner
from papers_shared.sam.protocol import check_prompt

YY, XX = np.mgrid[0:60, 0:90]
DISK = (XX - 30) ** 2 + (YY - 25) ** 2 < 12**2
OTHER = (XX - 72) ** 2 + (YY - 40) ** 2 < 9**2


@pytest.fixture(scope="module")
def scene() -> np.ndarray:
    """Two red disks on green."""
    rng = np.random.default_rng(0)
    image = rng.normal((60, 140, 70), 10, (60, 90, 3))
    image[DISK | OTHER] = rng.normal((200, 50, 40), 10, (int((DISK | OTHER).sum()), 3))
    return image.clip(0, 255).astype(np.uint8)


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


@pytest.mark.parametrize(
    "prompt",
    [
        {"box": (14, 8, 46, 42)},
        {"box": (14, 8, 46, 42), "points": [(30, 25), (72, 40)], "labels": [1, 0]},
        {"points": [(30, 25)], "labels": [1]},
        {"box": (0, 0, 89, 59), "points": [(30, 25), (72, 40)], "labels": [1, 0]},
    ],
)
@pytest.mark.parametrize("max_side", [0, 45])
def test_finds_the_object_in_pixels_of_the_image(prompt: dict, max_side: int, scene: np.ndarray) -> None:
    segmenter = GrabCut(max_side=max_side)
    segmenter.set_image(scene)
    masks, scores, logits = segmenter.predict(**prompt)
    assert masks.shape == (1, 60, 90)
    assert masks.dtype == bool
    assert np.isnan(scores).all()
    assert logits is None
    assert masks[0, 25, 30]
    if "box" not in prompt:
        assert iou(masks[0] & ~OTHER, DISK) > 0.7
    elif prompt["box"] != (0, 0, 89, 59):
        assert iou(masks[0], DISK) > 0.85
        assert not masks[0, :, 48:].any()  # nothing outside the box
    if 0 in prompt.get("labels", []):
        assert not masks[0, 40, 72]


def test_a_part_in_the_colours_of_its_surroundings_is_not_given_up() -> None:
    image = np.random.default_rng(1).integers(90, 140, (60, 90, 3), dtype=np.uint8)
    segmenter = GrabCut()
    segmenter.set_image(image)
    mask = segmenter.predict(box=(20, 10, 60, 50)).masks[0]
    assert mask[30, 40]
    assert mask[10:51, 20:61].mean() > 0.25


def test_a_far_point_widens_the_view(scene: np.ndarray) -> None:
    segmenter = GrabCut()
    segmenter.set_image(scene)
    mask = segmenter.predict(box=(14, 8, 46, 42), points=[(88, 58), (2, 2)], labels=[1, 0]).masks[0]
    assert mask[58, 88]
    assert not mask[2, 2]


def test_answers_do_not_depend_on_what_was_asked_before(scene: np.ndarray) -> None:
    segmenter = make_refiner("grabcut")
    segmenter.set_image(scene)
    first = segmenter.predict(box=(14, 8, 46, 42)).masks
    segmenter.predict(points=[(72, 40)], labels=[1])
    assert np.array_equal(segmenter.predict(box=(14, 8, 46, 42)).masks, first)


@pytest.mark.parametrize("image", [np.full((20, 30, 3), 90, np.uint8), np.zeros((1, 1, 3), np.uint8)])
def test_flat_and_tiny_pictures_and_negative_points_alone(image: np.ndarray) -> None:
    segmenter = GrabCut()
    segmenter.set_image(image)
    assert (
        segmenter.predict(box=(0, 0, image.shape[1] - 1, image.shape[0] - 1)).masks.shape[1:]
        == image.shape[:2]
    )
    assert not segmenter.predict(points=[(0, 0)], labels=[0]).masks.any()


def test_malformed_prompts_and_pictures_are_named(scene: np.ndarray) -> None:
    segmenter = GrabCut()
    with pytest.raises(UserError, match="set_image first"):
        segmenter.predict(box=(0, 0, 1, 1))
    segmenter.set_image(scene)
    with pytest.raises(UserError, match="got neither"):
        segmenter.predict()
    with pytest.raises(UserError, match="x0 <= x1"):
        segmenter.predict(box=(9, 9, 3, 12))
    with pytest.raises(UserError, match="as many labels"):
        segmenter.predict(points=[(1, 1)])
    with pytest.raises(UserError, match="as many labels"):
        segmenter.predict(points=[(1, 1)], labels=[2])
    with pytest.raises(UserError, match="uint8 RGB"):
        segmenter.set_image(scene[..., 0])
    for box in ((np.nan, 0, 5, 5), (0, 0, np.inf, 5), ("a", 0, 1, 2)):
        with pytest.raises(UserError, match="a box must be"):
            segmenter.predict(box=box)
    for points, labels in (([(1, np.nan)], [1]), ([(1, 1, 1)], [1])):
        with pytest.raises(UserError, match="points"):
            segmenter.predict(points=points, labels=labels)
    for label in (0.5, np.nan):
        with pytest.raises(UserError, match="label"):
            segmenter.predict(points=[(1, 1)], labels=[label])
    height, width = scene.shape[:2]
    for box in ((width, 0, width + 9, 9), (0, height, 9, height + 3), (-9, -9, -1, -1)):
        with pytest.raises(UserError, match="lies outside the image"):
            segmenter.predict(box=box)
    assert segmenter.predict(box=(-9, -9, 20, 20)).masks.any(), "a part of the box is inside"
    assert check_prompt(None, [(3, 4)], [1]).points.shape == (1, 2)
