"""Every command of docs/weights.md works, on stand-ins with the true entry names and places, without a network."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import official_checkpoints
import pytest
import tiny_sam
import torch
from calibrated_localizer import calibrated
from PIL import Image
from readme_commands import printed_commands
from torch import Tensor
from transformers import UperNetConfig, UperNetForSemanticSegmentation

from cabl_cgsr.config import BACKBONES, CamConfig, ModelConfig
from cabl_cgsr.modeling.classifier import Classifier
from cabl_cgsr.names import MMPRETRAIN_PARTS
from papers_shared.sam.hf import convert_meta_checkpoint
from papers_shared.weights import kept_file

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/weights.md"
CONFORMER = (
    "https://download.openmmlab.com/mmclassification/v0/conformer/"
    "conformer-small-p16_3rdparty_8xb128_in1k_20211206-3065dcf5.pth"
)
VITDET = (
    "https://dl.fbaipublicfiles.com/detectron2/ViTDet/COCO/cascade_mask_rcnn_vitdet_b/f325358525/"
    "model_final_435fa9.pkl"
)
SAM = "https://dl.fbaipublicfiles.com/segment_anything/sam_vit_b_01ec64.pth"
RUN = """
import importlib, json, pathlib, sys
module = sys.argv[1]
train = importlib.import_module(f"{module}.train")
def started(recipe):
    if module == "fanet":
        from fanet.modeling.segmenter import Segmenter
        from dataclasses import replace
        print(Segmenter.from_config(replace(recipe.model, class_names=("a", "b"))).origin.start_weights)
    if module == "cabl_cgsr":
        from cabl_cgsr.modeling.localizer import Localizer
        print(Localizer.from_config(recipe.model).origin.start_weights)
    return pathlib.Path(".")
train.train = started
main = importlib.import_module(f"{module}.cli").main
for command in json.loads(sys.stdin.read()):
    code = main(command[1:])
    if code:
        sys.exit(f"{command}: {code}")
    if command[2:4] == ["best_mask_checkpoint.pth", "PLVL"]:  # patches of 4 pixels, and attention over all of them
        with open("PLVL/config.json") as file:
            config = json.load(file)
        config["config"] |= {"image_size": 64, "max_tokens": 20}
        with open("PLVL/config.json", "w") as file:
            json.dump(config, file)
"""


def without_storage(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Zeros of the same shapes; a file of them is small, as all values of a tensor share one."""
    return {name: torch.zeros((), dtype=x.dtype, device="cpu").expand(x.shape) for name, x in state.items()}


def cached(root: Path, repository: str) -> Path:
    """An empty snapshot of a Hub repository in the cache below `root`."""
    folder = root / "hub" / f"models--{repository.replace('/', '--')}"
    snapshot = folder / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs/main").write_text("0" * 40)
    return snapshot


def kept(address: str, package: str) -> Path:
    path = kept_file(address, package)
    path.parent.mkdir(parents=True)
    return path


def run(program: str, module: str, folder: Path) -> str:
    commands = printed_commands(PAGE, program)
    assert len(commands) >= 5
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_CACHE": str(folder / "hub"),
        "XDG_CACHE_HOME": str(folder / "cache"),
        "PAPERS_UNTRAINED": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", RUN, module],
        cwd=folder,
        env=environment,
        input=json.dumps(commands),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-1500:] + done.stderr[-1500:]
    return done.stdout


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    Image.fromarray(np.arange(64 * 64 * 3, dtype=np.uint8).reshape(64, 64, 3)).save(tmp_path / "photo.jpg")
    return tmp_path


def test_fanet(folder: Path) -> None:
    import timm

    names = json.loads((ROOT / "packages/fanet/tests/golden/names.json").read_text())["classifier"]
    state = without_storage({name: torch.empty(shape, device="meta") for name, shape in names.items()})
    torch.save(
        {"state_dict": state}, cached(folder, "mubashir04/fanet_zerowaste_segmentation") / "fanet.pth.tar"
    )
    with torch.device("meta"):
        for name in ("focalnet_tiny_lrf.ms_in1k", "convnext_tiny.in12k_ft_in1k"):
            model = timm.create_model(name)
            torch.save(
                without_storage(model.state_dict()), cached(folder, f"timm/{name}") / "pytorch_model.bin"
            )
        config = UperNetConfig(
            backbone_config={
                "model_type": "convnext",
                "depths": [3, 3, 9, 3],
                "hidden_sizes": [96, 192, 384, 768],
                "out_features": ["stage1", "stage2", "stage3", "stage4"],
            },
            num_labels=150,
        )
        model = UperNetForSemanticSegmentation(config)
    snapshot = cached(folder, "openmmlab/upernet-convnext-tiny")
    torch.save(without_storage(model.state_dict()), snapshot / "pytorch_model.bin")
    config.save_pretrained(snapshot)
    said = run("fanet", "fanet", folder)
    assert said.count("SHA-256") >= 4
    origin = json.loads((folder / "IMAGENET/config.json").read_text())["origin"]
    assert origin["start_weights"][0].startswith(
        "all: hf://mubashir04/fanet_zerowaste_segmentation/fanet.pth.tar, SHA-256 "
    )


def test_plvl(folder: Path) -> None:
    state = official_checkpoints.small("plvl")
    state = {name: x.abs() if name.endswith("running_var") else x for name, x in state.items()}
    torch.save({"model": state}, folder / "best_mask_checkpoint.pth")
    arrays = {name: x.numpy() for name, x in official_checkpoints.small("detectron2").items()}
    kept(VITDET, "plvl").write_bytes(pickle.dumps({"model": arrays}, protocol=2))
    bert = cached(folder, "google-bert/bert-base-uncased")
    torch.save(official_checkpoints.small("bert"), bert / "pytorch_model.bin")
    (bert / "config.json").write_text(json.dumps({"num_attention_heads": 12, "model_type": "bert"}))
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "left", "one"]
    (bert / "vocab.txt").write_text("\n".join(pieces) + "\n")
    run("plvl", "plvl", folder)
    assert (folder / "BERT/vocab.txt").read_text() == (folder / "PLVL/vocab.txt").read_text()


@pytest.mark.skipif(
    find_spec("segment_anything") is None, reason="Meta's SAM checkpoints need segment-anything"
)
def test_cabl_cgsr(folder: Path) -> None:
    with torch.device("meta"):
        state = Classifier(BACKBONES["conformer_small"]).state_dict()
    authors = without_storage({name.removeprefix("backbone."): x for name, x in state.items()})
    torch.save({"model": authors}, folder / "Conformer_small_patch16.pth")
    heads = {"conv_cls_head.weight": (20, 1024, 3, 3), "conv_cls_head.bias": (20,)}
    heads |= {"trans_cls_head.weight": (20, 384), "trans_cls_head.bias": (20,)}
    transcam = {**authors, **without_storage({n: torch.empty(s, device="meta") for n, s in heads.items()})}
    torch.save(transcam, folder / "transcam.pth")
    theirs = {mmpretrain_name(name): x for name, x in authors.items()}
    torch.save({"state_dict": theirs}, kept(CONFORMER, "cabl-cgsr"))
    calibrated(ModelConfig(backbone="test_conformer", cam=CamConfig(sizes=(32,)))).save_pretrained(
        folder / "MODEL"
    )
    checkpoint = tiny_sam.checkpoint(folder)
    for path in (
        kept(SAM, "papers-shared"),
        folder / "sam_vit_l_0b3195.pth",
        folder / "sam_vit_h_4b8939.pth",
    ):
        path.write_bytes(checkpoint.read_bytes())
    for name in ("facebook/sam-vit-base", "nielsr/slimsam-77-uniform"):
        written = convert_meta_checkpoint(checkpoint, folder / "sam", decoder_heads=tiny_sam.HEADS)
        snapshot = cached(folder, name)
        for file in written.iterdir():
            (snapshot / file.name).write_bytes(file.read_bytes())
    run("cabl-cgsr", "cabl_cgsr", folder)
    origins = [
        json.loads((folder / name / "config.json").read_text())["origin"] for name in ("IMAGENET", "TRANSCAM")
    ]
    assert origins[0]["start_weights"][0].startswith(f"backbone: {CONFORMER}, SHA-256 ")
    assert origins[1]["untrained"] == ["conv_cls_head", "trans_cls_head"]


def mmpretrain_name(name: str) -> str:
    if "_cls_head." in name:
        return f"head.{name}"
    for theirs, ours in MMPRETRAIN_PARTS.items():
        if "trans_1." in name or ".trans_block." in name:
            name = name.replace(f".{ours}.", f".{theirs}.")
    return f"backbone.{name}"
