"""The official files become model folders, name by name or not at all."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor

import fanet
import fanet.registry
from fanet.config import ZEROWASTE_CLASSES
from papers_shared.errors import UserError
from papers_shared.foreign import load_official


def cheap_state(golden: Any, kind: str) -> dict[str, Tensor]:
    """One value per entry, under the official names and in their shapes."""
    shapes = golden.names[kind]
    return {name: torch.full(shape, float(i % 97)) for i, (name, shape) in enumerate(shapes.items())}


def imagenet_file(state: dict[str, Tensor], path: Path) -> Path:
    arguments = argparse.Namespace(
        lr=np.float64(1e-3), epochs=np.int64(300), sizes=np.arange(3), out=Path("x")
    )
    wrapped = {f"module.{name}": tensor for name, tensor in state.items()}
    torch.save({"state_dict": wrapped, "args": arguments, "epoch": 300, "metric": np.float32(82.5)}, path)
    return path


def mmseg_file(state: dict[str, Tensor], path: Path) -> Path:
    meta = {
        "mmseg_version": "0.13.0",
        "config": "model = dict()",
        "CLASSES": None,
        "PALETTE": None,
        "iter": 40000,
    }
    optimizer = {
        "state": {0: {"step": 1, "exp_avg": torch.zeros(3)}},
        "param_groups": [{"lr": 9e-5, "params": [0]}],
    }
    torch.save({"meta": meta, "state_dict": state, "optimizer": optimizer}, path)
    return path


def test_segmentor_file_answers_as_the_official_code(golden: Any, tmp_path: Path) -> None:
    source = mmseg_file(golden.official_state("segmentor"), tmp_path / "iter_40000.pth")
    report = fanet.convert.convert(source, tmp_path / "model")
    assert report.exit_code == 0
    assert not report.errors
    segmenter = fanet.Segmenter.from_pretrained(tmp_path / "model")
    assert segmenter.config.class_names == ZEROWASTE_CLASSES
    with torch.inference_mode():
        logits = segmenter(golden.tensor("fanet/seg64", (1, 3, 64, 64))).logits
    golden.check("seg64", "decode_logits", logits)


@pytest.mark.parametrize("kind", ["classifier", "backbone"])
def test_imagenet_file_starts_a_segmenter(golden: Any, tmp_path: Path, kind: str) -> None:
    state = cheap_state(golden, kind)
    fanet.convert.convert(imagenet_file(state, tmp_path / "model_best.pth.tar"), tmp_path / "model")
    classifier = fanet.Classifier.from_pretrained(tmp_path / "model")
    assert classifier.config.num_classes == (1000 if kind == "classifier" else 0)
    config = fanet.config.ModelConfig(class_names=("a", "b"), pretrained=str(tmp_path / "model"))
    segmenter = fanet.Segmenter.from_config(config)
    assert segmenter.config.pretrained == ""
    loaded = segmenter.backbone.state_dict()
    assert torch.equal(
        loaded["stage3.blocks.7.afe.scm.conv.weight"], state["stages.2.7.attn.ctx_conv.weight"]
    )
    assert torch.equal(loaded["stem.conv.weight"], state["downsample_layers.0.weight"])
    other = fanet.config.ModelConfig(
        task="classify", class_names=("a", "b"), pretrained=str(tmp_path / "model")
    )
    loaded = fanet.Classifier.from_config(other).model.state_dict()
    assert torch.equal(loaded["stem.conv.weight"], state["downsample_layers.0.weight"])
    assert loaded["head.fc.weight"].shape == (2, 768)


def test_names_fit_timm_models_strictly(golden: Any) -> None:
    bare = fanet.convert.convert_state_dict(cheap_state(golden, "backbone"))
    whole = fanet.convert.convert_state_dict(cheap_state(golden, "classifier"))
    for arguments, state in [({"features_only": True}, bare), ({"num_classes": 0}, bare), ({}, whole)]:
        model = timm.create_model("fanet_tiny", **arguments)
        assert model.load_state_dict(state) == ([], [])


def test_other_classes_no_auxiliary_head_no_counters_and_safetensors(golden: Any, tmp_path: Path) -> None:
    state = {
        name: tensor[:1].expand(3, *tensor.shape[1:]).clone() if "conv_seg" in name else tensor
        for name, tensor in cheap_state(golden, "segmentor").items()
        if not name.startswith("auxiliary_head.") and not name.endswith("num_batches_tracked")
    }
    save_file(state, tmp_path / "stripped.safetensors")
    fanet.convert.convert(tmp_path / "stripped.safetensors", tmp_path / "model")
    segmenter = fanet.Segmenter.from_pretrained(tmp_path / "model")
    assert segmenter.config.class_names == ("class_0", "class_1", "class_2")
    assert segmenter.auxiliary_head is None


@pytest.mark.parametrize("kind", ["backbone", "classifier", "segmentor"])
@pytest.mark.parametrize(
    ("change", "listed"),
    [
        (lambda state, name: state.pop(name), "1 names of FANet without a value"),
        (lambda state, name: state.update({"stages.0.0.attn.rel_pos.weight": torch.ones(1)}), "rel_pos"),
        (lambda state, name: state.update({name: torch.ones(2, 3)}), r"\[2, 3\] instead of"),
    ],
)
def test_every_misfit_is_listed(
    golden: Any, kind: str, change: Callable[[dict[str, Tensor], str], object], listed: str
) -> None:
    state = cheap_state(golden, kind)
    change(state, next(name for name in state if name.endswith("stages.2.7.mlp.pos.weight")))
    with pytest.raises(UserError, match=listed):
        fanet.convert.convert_state_dict(state)


class Harmful:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path: Path) -> None:
    torch.save({"state_dict": {}, "args": Harmful(tmp_path / "executed")}, tmp_path / "evil.pth")
    with pytest.raises(UserError, match=r"evil\.pth: refused, it holds the Python object posix\.mkdir"):
        fanet.convert.convert(tmp_path / "evil.pth", tmp_path / "model")
    assert not (tmp_path / "executed").exists()
    assert not (tmp_path / "model").exists()


def test_files_that_are_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "page.pth").write_text("<html>not found</html>")
    torch.save({"epoch": 3}, tmp_path / "empty.pth")
    for name, message in (
        ("no.pth", "no such file"),
        ("page.pth", "page.pth"),
        ("empty.pth", "no state dict"),
    ):
        with pytest.raises(UserError, match=message):
            load_official(tmp_path / name)
