"""`evaluate` scores what `predict` answers: the same masks, the same protocol, whatever the options and threads."""

from __future__ import annotations

import json
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from fanet.config import DataConfig, ModelConfig
from fanet.data import load_mask, open_split
from fanet.evaluate import evaluate, run
from fanet.inference import describe_protocol, predict
from fanet.modeling.segmenter import Segmenter
from fanet.options import EvaluateOptions
from fanet.predict import predict_many
from fanet.toy import write_zerowaste
from papers_shared.dataclass_json import read_json
from papers_shared.files import write_json
from papers_shared.metrics import ConfusionMatrix

OPTIONS: list[dict[str, Any]] = [
    {},
    {"flip": True},
    {"flip": True, "ratios": (0.75, 1.25)},
    {"tile": 40, "overlap": 0.5},
    {"tile": 40, "flip": True},
]


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    """An untrained network whose answers vary over the image."""
    torch.manual_seed(0)
    names = ("background", "rigid_plastic", "cardboard", "metal", "soft_plastic")
    config = ModelConfig(
        backbone="test_fanet", class_names=names, decoder_channels=8, auxiliary=False, test_scale=(128, 64)
    )
    segmenter = Segmenter.from_config(config).eval()
    for parameter in segmenter.decode_head.parameters():
        nn.init.normal_(parameter, std=0.3)
    return segmenter


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DataConfig:
    root = tmp_path_factory.mktemp("scenes")
    write_zerowaste(root / "toy", train=1, val=3, test=1, size=(72, 112))
    return DataConfig(root=str(root / "toy"), cache=str(root / "cache"), workers=0)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_metrics_are_those_of_the_masks_that_predict_writes(
    segmenter: Segmenter, data: DataConfig, tmp_path: Path, options: dict[str, Any]
) -> None:
    rows = open_split(data, "val")
    records = predict_many(segmenter, [Path(row["image"]["path"]) for row in rows], tmp_path, **options)
    confusion = ConfusionMatrix(5)
    for row, record in zip(rows, records, strict=True):
        confusion.update(np.array(Image.open(tmp_path / record["mask"])), load_mask(row, 5))
    scores, found = confusion.compute(), evaluate(segmenter, rows, **options)
    assert found["miou"] == scores.miou
    assert found["iou"] == list(scores.iou)
    assert found["pixel_acc"] == scores.pixel_acc
    assert {record["protocol"] for record in records} == {found["protocol"]}


def test_flip_and_scales_average_the_class_probabilities(segmenter: Segmenter) -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    mirrored = predict(segmenter, np.ascontiguousarray(image[:, ::-1])).probabilities[..., ::-1]
    expected = (predict(segmenter, image).probabilities + mirrored) / 2
    np.testing.assert_allclose(predict(segmenter, image, flip=True).probabilities, expected, atol=1e-5)
    single = [predict(segmenter, image, ratios=(ratio,)).probabilities for ratio in (0.5, 1.5)]
    both = predict(segmenter, image, ratios=(0.5, 1.5)).probabilities
    np.testing.assert_allclose(both, (single[0] + single[1]) / 2, atol=1e-6)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_result_is_pickled_and_holds_no_network(segmenter: Segmenter, options: dict[str, Any]) -> None:
    image = np.random.default_rng(1).integers(0, 256, (90, 70, 3), dtype=np.uint8)
    calls: list[nn.Module] = []
    handle = segmenter.register_forward_hook(lambda module, *_: calls.append(module))
    result = predict(segmenter, image, **options)
    handle.remove()
    again = pickle.loads(pickle.dumps(result))
    count = len(calls)
    np.testing.assert_array_equal(again.mask, result.mask)
    np.testing.assert_array_equal(again.probabilities, result.probabilities)
    np.testing.assert_array_equal(result.probabilities.argmax(0), result.mask)
    assert len(calls) == count
    assert again.draw().tobytes() == result.draw().tobytes()


def test_threads_with_differing_options_answer_as_each_alone(segmenter: Segmenter) -> None:
    images = [np.random.default_rng(seed).integers(0, 256, (60, 80, 3), dtype=np.uint8) for seed in range(4)]
    jobs = [(image, options) for image in images for options in OPTIONS]
    alone = [predict(segmenter, image, **options).mask for image, options in jobs]
    config, buffers = segmenter.config, {k: v.clone() for k, v in segmenter.named_buffers()}
    segmenter.train()
    frozen = next(module for module in segmenter.modules() if isinstance(module, nn.BatchNorm2d)).eval()
    modes = [module.training for module in segmenter.modules()]
    try:
        with ThreadPoolExecutor(4) as pool:
            together = list(pool.map(lambda job: predict(segmenter, job[0], **job[1]).mask, jobs))
        assert [module.training for module in segmenter.modules()] == modes
        assert not frozen.training
    finally:
        segmenter.eval()
    for one, other in zip(together, alone, strict=True):
        np.testing.assert_array_equal(one, other)
    assert segmenter.config is config
    assert all(torch.equal(value, buffers[name]) for name, value in segmenter.named_buffers())


def test_evaluations_never_overwrite_each_other(
    segmenter: Segmenter, data: DataConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("best", "last"):
        segmenter.save_pretrained(tmp_path / "run" / name)
        for more in ({}, {"flip": True}, {"tile": 40}):
            options = EvaluateOptions(str(tmp_path / "run" / name), data, "val", **more)
            assert run(options) == 0
    files = sorted((tmp_path / "run").glob("*.json"))
    assert len(files) == 6
    assert files[0].name == "best-evaluation-toy-val-flip.json"
    found = [json.loads(file.read_text()) for file in files]
    assert len({(one["model"], one["protocol"]) for one in found}) == 6
    assert describe_protocol(segmenter.config, flip=True) == found[0]["protocol"]
    assert "mIoU" in capsys.readouterr().out


def test_images_of_one_name_have_results_of_their_own(segmenter: Segmenter, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        Image.new("RGB", (50, 40), (len(folder), 90, 10)).save(tmp_path / folder / "same.png")
    output = tmp_path / "out"
    for _ in range(2):
        predict_many(segmenter, [tmp_path / folder / "same.png" for folder in ("a", "b", "a")], output)
    lines = (output / "predictions.jsonl").read_text().splitlines()
    files = {Path(record["file"]).parent.name: record["mask"] for record in map(json.loads, lines)}
    assert files == {"a": "masks/same.png", "b": "masks/same-2.png"}
    assert len(lines) == 2


def test_a_folder_of_an_earlier_version_opens(segmenter: Segmenter, tmp_path: Path) -> None:
    """Missing options take their defaults, and entries have the names that they always had."""
    segmenter.save_pretrained(tmp_path / "model")
    description = read_json(tmp_path / "model" / "config.json")
    for option in ("head", "palette", "pool_scales"):
        del description["config"][option]
    write_json(tmp_path / "model" / "config.json", description)
    image = np.random.default_rng(2).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    opened = Segmenter.from_pretrained(tmp_path / "model")
    np.testing.assert_array_equal(opened.predict(image).mask, segmenter.predict(image).mask)
    assert {
        "decode_head.fusion.conv.weight",
        "decode_head.bottleneck.conv.weight",
    } <= opened.state_dict().keys()
