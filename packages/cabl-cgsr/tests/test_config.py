"""Values that cannot be used are refused in one sentence, wherever they come from: options, files, model folders."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from cabl_cgsr.cli import main
from cabl_cgsr.config import DataConfig, check_data
from cabl_cgsr.modeling.localizer import Localizer
from papers_shared.errors import UserError

NAN, HUGE = float("nan"), 10**12


@pytest.mark.parametrize(
    ("option", "values"),
    [
        ("crop_size", (0, -5, 8, HUGE)),
        ("long_side", ((128, 64), (-5, -5), (0, 64), (HUGE, HUGE))),
        ("flip", (7.0, -0.1, NAN)),
        ("jitter", ((0.3, 0.3, 0.3, 0.9), (-1.0, 0.0, 0.0, 0.0), (NAN, 0.0, 0.0, 0.0), (2.0, 0.0, 0.0, 0.0))),
        ("val_share", (1.0, -0.1, NAN)),
        ("val_seed", (-1, 2**70)),
        ("mask_threshold", (-1, 255)),
        ("timeout", (-1,)),
    ],
)
def test_each_data_option_has_its_range(option: str, values: tuple[Any, ...]) -> None:
    check_data(DataConfig())
    for value in values:
        with pytest.raises(UserError, match=rf"--data\.{option.replace('_', '-')} is .*: give") as told:
            check_data(replace(DataConfig(), **{option: value}))
        assert len(str(told.value)) < 200


@pytest.mark.parametrize(
    ("verb", "options", "named"),
    [
        ("train", ["toy", "--model.num-logits", "1000000000"], "--model.num-logits"),
        ("train", ["toy", "--model.cam.sizes", "8"], "--model.cam.sizes"),
        ("train", ["toy", "--model.cam.sizes", "1000000000"], "--model.cam.sizes"),
        ("train", ["toy", "--model.drop-path-rate", "nan"], "--model.drop-path-rate"),
        ("train", ["toy", "--model.std", "0", "1", "1"], "--model.std"),
        ("train", ["toy", "--model.cabl.eps", "nan"], "--model.cabl.eps"),
        ("train", ["toy", "--model.prompts.threshold", "7"], "--model.prompts.threshold"),
        ("train", ["toy", "--data.jitter", "0", "0", "0", "0.9"], "--data.jitter"),
        ("evaluate", ["m", "--draws", "-1"], "--draws"),
        ("evaluate", ["m", "--batch-size", "0"], "--batch-size"),
        ("evaluate", ["m", "--sizes", "0"], "--sizes"),
        ("evaluate", ["m", "--data.mask-threshold", "300"], "--data.mask-threshold"),
        ("robustness", ["m", "--jpeg", "0"], "--jpeg"),
        ("robustness", ["m", "--blur", "-3"], "--blur"),
        ("figures", ["m", "--images", "i", "--width", "0"], "--width"),
        ("predict", ["m", "i", "--threshold", "nan"], "--threshold"),
        ("export", ["m", "--output", "o.pt2", "--size", "0"], "--size"),
        ("data", ["toy", "out", "--train", "0"], "--train"),
        ("data", ["toy", "out", "--size", "1", "1"], "--size"),
        ("demo", ["--seed", "-1"], "--seed"),
    ],
)
def test_options_out_of_range_are_one_sentence(
    verb: str,
    options: list[str],
    named: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([verb, *options]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert named in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir()), "nothing was begun"


@pytest.fixture
def folder(model_folder: Path, tmp_path: Path) -> Path:
    return shutil.copytree(model_folder, tmp_path / "model")


def rewrite(folder: Path, **changes: Any) -> None:
    file = folder / "config.json"
    described = json.loads(file.read_text())
    for path, value in changes.items():
        section = described["config"]
        *parents, name = path.split("__")
        for parent in parents:
            section = section[parent]
        section[name] = value
    file.write_text(json.dumps(described))


@pytest.mark.parametrize(
    "changes",
    [
        {"drop_path_rate": 2},
        {"num_logits": 10**9},
        {"num_logits": -1},
        {"cam__sizes": []},
        {"cam__sizes": [10**9]},
        {"cam__sizes": "all"},
        {"cabl__blocks": 99},
        {"cabl__eps": NAN},
        {"std": [0, 0, 0]},
        {"mean": [1e300, 0, 0]},
        {"prompts__threshold": NAN},
        {"prompts__threshold": "high"},
        {"backbone": "atlas"},
        {"backbone": None},
    ],
    ids=str,
)
def test_a_model_folder_with_impossible_values_is_one_sentence(changes: dict[str, Any], folder: Path) -> None:
    rewrite(folder, **changes)
    with pytest.raises(UserError) as told:
        Localizer.from_pretrained(folder)
    assert next(iter(changes)).rpartition("__")[2].replace("_", "-") in str(told.value).replace("_", "-")
    assert len(str(told.value)) < 600


def test_a_finished_model_needs_no_start_weights(folder: Path, tmp_path: Path) -> None:
    for start in (str(folder), str(tmp_path / "moved-away"), "owner/name"):
        rewrite(folder, pretrained=start)
        assert Localizer.from_pretrained(folder).config.pretrained == ""


@pytest.mark.parametrize("spoil", [lambda t: t.to(torch.int32), lambda t: t * NAN, lambda t: t[:1]])
def test_weights_that_are_none_are_named(spoil, folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    name = "backbone.trans_norm.weight"
    save_file({**tensors, name: spoil(tensors[name]).contiguous()}, folder / "model.safetensors")
    with pytest.raises(UserError, match=r"trans_norm\.weight"):
        Localizer.from_pretrained(folder)
