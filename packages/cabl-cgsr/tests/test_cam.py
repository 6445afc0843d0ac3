"""Maps and scores as pure functions; the network's own maps are held to golden values in test_golden_network."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from named_noise import tensor
from safetensors.torch import load_file

from cabl_cgsr.cam import (
    activation_map,
    aggregate,
    couple,
    image_score,
    min_max,
    scale_map,
    union,
)
from cabl_cgsr.config import CamConfig, ModelConfig
from cabl_cgsr.inference import network_scores, run_scales
from cabl_cgsr.modeling.localizer import Localizer
from cabl_cgsr.transforms import normalization

FOLDER = Path(__file__).with_name("golden")
ABOUT = json.loads((FOLDER / "network.json").read_text())
GOLDEN = load_file(FOLDER / "network.safetensors")
A = torch.tensor([[0.0, 1.0], [2.0, 4.0]])
B = torch.tensor([[9.0, 7.0], [5.0, 5.0]])


@pytest.fixture(scope="module")
def aggregated() -> torch.Tensor:
    maps = []
    for grid in (16, 32, 48):
        for mirrored in (0, 1):
            cam = tensor(f"cabl_cgsr.aggregate.g{grid}.f{mirrored}", (1, 2, grid, grid)) + 0.15
            maps.append(cam.flip(-1)[0] if mirrored else cam[0])
    height, width = ABOUT["tensors"]["aggregate.sum"]["size"]
    return aggregate(maps, (height, width))


def test_aggregated_maps_match_transcam(aggregated: torch.Tensor) -> None:
    torch.testing.assert_close(
        6 * aggregated[:, ::5, ::5], GOLDEN["aggregate.sum"].squeeze(), rtol=0, atol=1e-5
    )


def test_scaled_maps_match_transcam(aggregated: torch.Tensor) -> None:
    scaled = scale_map(6 * aggregated)
    torch.testing.assert_close(scaled[:, ::5, ::5], GOLDEN["aggregate.transcam_norm"], rtol=0, atol=1e-5)
    share = (scaled > 0.5).float().mean((1, 2))
    assert share.tolist() == pytest.approx(ABOUT["aggregate"]["fraction_over_0_5"], rel=5e-3)


def test_aggregation_by_maximum_and_of_a_batch() -> None:
    maps = [torch.zeros(3, 2, 2), torch.full((3, 4, 4), 2.0)]
    assert aggregate(maps, (5, 6)).unique().tolist() == [1.0]
    assert aggregate(maps, (5, 6), "max").unique().tolist() == [2.0]
    assert aggregate(maps, (5, 6)).shape == (3, 5, 6)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("max", [[1.0, 0.5], [0.5, 1.0]]),
        ("sum", [[1.0, 0.75], [0.5, 1.0]]),
        ("probabilistic", [[1.0, 0.625], [0.5, 1.0]]),
    ],
)
def test_union(kind: str, expected: list[list[float]]) -> None:
    torch.testing.assert_close(union(A, B, kind), torch.tensor(expected))
    torch.testing.assert_close(union(A, B, kind), union(B, A, kind))


def test_min_max_takes_each_map_by_itself_and_leaves_a_constant_one_at_zero() -> None:
    maps = torch.stack([A, 100 * A, torch.full((2, 2), 3.0), torch.full((2, 2), 3.0) + 1e-7 * A])
    scaled = min_max(maps)
    torch.testing.assert_close(scaled[0], A / 4)
    torch.testing.assert_close(scaled[1], A / 4)
    assert not scaled[2].any()
    assert scaled[3].max() < 0.1


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("clip_minmax", [0.0, 0.0, 0.25, 1.0]),
        ("clip_max", [0.0, 0.0, 0.25, 1.0]),
        ("minmax", [0.0, 0.5, 0.625, 1.0]),
    ],
)
def test_scaling(kind: str, expected: list[float]) -> None:
    scaled = scale_map(torch.tensor([[-4.0, 0.0, 1.0, 4.0]]), kind)
    torch.testing.assert_close(scaled, torch.tensor([expected]))


@pytest.mark.parametrize("kind", ["clip_minmax", "clip_max", "minmax"])
@pytest.mark.parametrize("value", [-2.0, 0.0, 5.0])
def test_a_constant_map_scales_to_zero(kind: str, value: float) -> None:
    assert not scale_map(torch.full((2, 3, 4), value), kind).any()


def test_coupling_on_a_hand_made_attention() -> None:
    attention = torch.tensor([[[0.5, 0.3, 0.2], [0.1, 0.6, 0.3], [0.0, 1.0, 0.0]]])
    maps = torch.tensor([[[[10.0, 1.0]]]])
    expected = {"matrix": [6.3, 10.0], "transposed": [7.0, 3.0], "class_row": [3.0, 0.2], "none": [10.0, 1.0]}
    for kind, values in expected.items():
        torch.testing.assert_close(couple(maps, attention, kind), torch.tensor([[[values]]]))


def test_the_source_of_the_map() -> None:
    conv, trans, attention = A[None, None], B[None, None], torch.eye(5)[None]
    for source, expected in (("conv", A), ("trans", B), ("union", union(A, B))):
        torch.testing.assert_close(
            activation_map(conv, trans, attention, CamConfig(source=source))[0, 0], expected
        )


def test_image_score_of_two_logits_counts_the_last() -> None:
    logits = torch.tensor([[50.0, 0.0], [0.0, 50.0]])
    assert image_score(logits, logits).tolist() == pytest.approx([0.5, 1.0])
    assert image_score(logits, logits, "softmax").tolist() == pytest.approx([0.0, 1.0])


@torch.no_grad()
@pytest.mark.parametrize("mirror", [True, False])
def test_scales_and_mirrors(mirror: bool) -> None:
    torch.manual_seed(0)
    localizer = Localizer.from_config(ModelConfig(backbone="test_conformer")).eval()
    images = [torch.randn(2, 3, side, side) for side in (32, 64)]
    config = replace(localizer.config.cam, mirror=mirror)
    seen = run_scales(localizer, images, config)
    views = 4 if mirror else 2
    assert [tuple(cam.shape) for cam in seen.maps] == [(2, 2, 2)] * (views // 2) + [(2, 4, 4)] * (views // 2)
    assert seen.names[-1] == ("64x64 mirrored" if mirror else "64x64")
    assert seen.scores.shape == (2, views)
    torch.testing.assert_close(seen.maps[0], localizer(images[0], cam=True).cam)
    if mirror:
        swapped = run_scales(localizer, [x.flip(-1) for x in images], config)
        both, same = aggregate(seen.maps, (20, 30)), aggregate(swapped.maps, (20, 30)).flip(-1)
        torch.testing.assert_close(both, same, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(seen.scores.mean(1), swapped.scores.mean(1))


@torch.no_grad()
def test_views_that_go_through_the_network_together_answer_as_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    localizer = Localizer.from_config(ModelConfig(backbone="test_conformer")).eval()
    views = [torch.randint(0, 256, (2, 3, side, side), dtype=torch.uint8) for side in (32, 64)]
    images = [normalization(localizer.config)(view) for view in views]
    alone, scores = run_scales(localizer, images), network_scores(localizer, views)
    sizes: list[int] = []
    monkeypatch.setattr("cabl_cgsr.inference.inputs_at_once", lambda device, pixels: 4)
    handle = localizer.backbone.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    together = run_scales(localizer, images)
    assert network_scores(localizer, views) == pytest.approx(scores, rel=1e-5)
    handle.remove()
    assert set(sizes) == {4}
    assert together.names == alone.names
    torch.testing.assert_close(together.maps, alone.maps)
    torch.testing.assert_close(together.scores, alone.scores)
