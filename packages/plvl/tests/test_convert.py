"""Other people's checkpoints in: every entry placed, nothing of a stranger's file executed."""

from __future__ import annotations

import argparse
import io
import json
import os
import pickle
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from named_noise import tensor
from safetensors.torch import save_file
from torch import Tensor

from papers_shared.errors import UserError
from plvl.checkpoints import load_official
from plvl.config import TABLE_7_MODELS, ModelConfig
from plvl.convert import config_of, convert, convert_state_dict, dropped_names
from plvl.modeling.backbone import LanguageGuidedViT
from plvl.modeling.language import create_bert
from plvl.modeling.plvl import PLVL

NAMES = json.loads((Path(__file__).parent / "golden" / "names.json").read_text())
VISION = "visumodel.backbone.0.body."
SMALL = {30522: 50, 16: 4, **{size: size // 16 for size in (64, 128, 256, 512, 768, 1024, 1536, 2304, 3072)}}


def shapes(kind: str) -> dict[str, list[int]]:
    """Names and shapes of a checkpoint of the `plvl`, `eevg`, `detectron2` or `bert` kind."""
    if kind == "eevg":
        shared = {
            name: shape
            for name, shape in NAMES["plvl"].items()
            if name.startswith(("textmodel.", VISION)) and "cross_attn" not in name and "prompt_" not in name
        }
        return {**shared, **NAMES["eevg_only"]}
    if kind == "detectron2":
        return {**NAMES["detectron2"], **{name: [1] for name in NAMES["detectron2_behind"]}}
    if kind == "bert":
        prefix = "textmodel."
        text = {n.removeprefix(prefix): s for n, s in NAMES["plvl"].items() if n.startswith(prefix)}
        return {**text, "cls.predictions.bias": [30522], "cls.seq_relationship.weight": [2, 768]}
    return NAMES["plvl"]


def official(kind: str) -> dict[str, Tensor]:
    """The checkpoint at its true size, without any storage."""
    return {name: torch.empty(shape, device="meta") for name, shape in shapes(kind).items()}


def small(kind: str) -> dict[str, Tensor]:
    """The checkpoint of a network with a sixteenth of the width and patches of 4 pixels."""
    integer = {name for name in NAMES["plvl"] if name.endswith("num_batches_tracked")}
    return {
        name: torch.tensor(3)
        if name in integer
        else tensor(name, tuple(SMALL.get(size, size) for size in shape))
        for name, shape in shapes(kind).items()
    }


EXPECTED = {
    "plvl": (ModelConfig(), 217_018_655),
    "eevg": (
        replace(TABLE_7_MODELS["EEVG"], head_dim=ModelConfig.head_dim),
        218_072_094 - 590_592,
    ),
}


@pytest.mark.parametrize("kind", EXPECTED)
def test_every_name_of_a_network_is_placed(kind: str) -> None:
    config, parameters = EXPECTED[kind]
    ours = convert_state_dict(official(kind))
    assert config_of(ours) == config
    with torch.device("meta"):
        model = PLVL.from_config(config)
    assert {name: tuple(x.shape) for name, x in ours.items()} == {
        name: tuple(x.shape) for name, x in model.state_dict().items()
    }
    assert sum(p.numel() for p in model.parameters()) == parameters


def test_what_is_dropped() -> None:
    dropped = dropped_names(NAMES["plvl"])
    assert sum(official("plvl")[name].numel() for name in dropped) == 996_890
    norms = [f"{VISION}prompt_norms.{i}.weight" for i in (0, 1, 3, 4, 6, 7, 9, 10)]
    assert set(norms) == {name for name in dropped if "prompt_norms" in name and name.endswith("weight")}
    assert {name.split(".")[0] for name in dropped} == {"visumodel", "textmodel", "mask_head", "mask_cnn"}
    assert dropped_names(shapes("eevg")) == [name for name in shapes("eevg") if ".pooler." in name]


def test_detector() -> None:
    ours = convert_state_dict(official("detectron2"))
    with torch.device("meta"):
        expected = LanguageGuidedViT.from_config(ModelConfig(language_blocks=()))
    assert ours.keys() == {"backbone." + name for name in expected.state_dict()}
    assert len(dropped_names(shapes("detectron2"))) == len(NAMES["detectron2_behind"]) == 110


def test_bert_with_old_names() -> None:
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): x
        for name, x in official("bert").items()
    }
    ours = convert_state_dict(old)
    with torch.device("meta"):
        expected = create_bert(ModelConfig())
    assert ours.keys() == {"language." + name for name in expected.state_dict()}


def test_module_prefix_and_missing_counters() -> None:
    weights = {f"module.{n}": x for n, x in official("plvl").items() if not n.endswith("_tracked")}
    assert convert_state_dict(weights).keys() == convert_state_dict(official("plvl")).keys()


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("visu_proj.bias", None, "1 names of PLVL without a value: decoder.vision_proj.bias"),
        ("visu_proj.extra", [4], "1 names without a place in PLVL: visu_proj.extra"),
        ("textmodel.bert.extra", [4], "1 names without a place in PLVL: textmodel.bert.extra"),
        ("visu_proj.bias", [4], r"decoder.vision_proj.bias \[4\] instead of \[512\]"),
        (
            f"{VISION}blocks.5.cross_attn.in_proj_bias",
            None,
            "3 names of PLVL without a value: .*guide.attn.q",
        ),
    ],
)
def test_strictness(name: str, change: list[int] | None, message: str) -> None:
    weights = official("plvl")
    weights.pop(name, None)
    if change is not None:
        weights[name] = torch.empty(change, device="meta")
    with pytest.raises(UserError, match=message):
        convert_state_dict(weights)


def test_packed_projections_are_taken_apart() -> None:
    weights = small("plvl")
    ours = convert_state_dict(weights)
    packed = weights[f"{VISION}blocks.2.cross_attn.in_proj_weight"]
    for i, part in enumerate("qkv"):
        assert torch.equal(ours[f"backbone.blocks.2.guide.attn.{part}.weight"], packed[48 * i : 48 * (i + 1)])


@pytest.mark.parametrize("kind", ["plvl", "eevg"])
def test_a_file_of_the_authors(tmp_path: Path, kind: str) -> None:
    args = argparse.Namespace(lr=1e-4, output_dir="out", ca_block_indexes=[2, 5, 8, 11])
    torch.save({"model": small(kind), "args": args, "epoch": 3, "val_accu": 0.5}, tmp_path / "best.pth")
    report = convert(tmp_path / "best.pth", tmp_path / "folder")
    assert report.exit_code == 0
    model = PLVL.from_pretrained(tmp_path / "folder")
    side = model.config.image_size if kind == "eevg" else 64
    output = model(torch.zeros(1, 3, side, side), torch.ones(1, 5, dtype=torch.long), torch.ones(1, 5))
    assert output.mask_logits is not None
    assert output.mask_logits.shape == (1, 1, side, side)
    expected = small(kind)["text_proj.weight"]
    assert torch.equal(model.state_dict()["decoder.text_proj.weight"], expected)


def test_the_vocabulary_comes_along(tmp_path: Path) -> None:
    torch.save({"model": small("plvl")}, tmp_path / "best.pth")
    words = b"[PAD]\n[UNK]\n[CLS]\n[SEP]\nman\n"
    (tmp_path / "vocab.txt").write_bytes(words)
    without = convert(tmp_path / "best.pth", tmp_path / "folder")
    assert [finding.message for finding in without.findings if finding.severity == "warning"] == [
        "it has no vocab.txt, which `plvl predict` and `plvl evaluate` need"
    ]
    with pytest.raises(UserError, match=r"the model's folder has no vocab\.txt"):
        _ = PLVL.from_pretrained(tmp_path / "folder").tokenizer
    convert(tmp_path / "best.pth", tmp_path / "folder", tmp_path / "vocab.txt")
    assert (tmp_path / "folder" / "vocab.txt").read_bytes() == words
    ids, _ = PLVL.from_pretrained(tmp_path / "folder").tokenizer(["Man"])
    assert ids[0, :4].tolist() == [2, 4, 3, 0]


def test_a_detector_file_starts_a_network(tmp_path: Path) -> None:
    arrays = {name: x.numpy() for name, x in small("detectron2").items()}
    content = {"model": arrays, "__author__": "someone", "matching_heuristics": True}
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(content, protocol=2))
    convert(tmp_path / "model.pkl", tmp_path / "vit")
    opened = LanguageGuidedViT.from_pretrained(tmp_path / "vit")
    assert torch.equal(opened.pos_embed, small("detectron2")["backbone.net.pos_embed"])


def bert_archive(path: Path) -> None:
    weights = {name.replace("LayerNorm.weight", "LayerNorm.gamma"): x for name, x in small("bert").items()}
    buffer = io.BytesIO()
    torch.save(weights, buffer, _use_new_zipfile_serialization=False)
    members = {
        "./pytorch_model.bin": buffer.getvalue(),
        "./bert_config.json": json.dumps({"num_attention_heads": 4}).encode(),
        "./vocab.txt": b"[PAD]\n[UNK]\n",
    }
    with tarfile.open(path, "w:gz") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def test_a_bert_archive_and_then_its_folder(tmp_path: Path) -> None:
    bert_archive(tmp_path / "bert.tar.gz")
    convert(tmp_path / "bert.tar.gz", tmp_path / "bert")
    convert(tmp_path / "bert", tmp_path / "again")
    for folder in (tmp_path / "bert", tmp_path / "again"):
        assert (folder / "vocab.txt").read_bytes() == b"[PAD]\n[UNK]\n"
        sizes = {"vocab_size": 50, "text_dim": 48, "text_heads": 4, "text_mlp_dim": 192, "text_positions": 32}
        bert = create_bert(ModelConfig(**sizes, text_pretrained=str(folder)))  # type: ignore[arg-type]
        words = "embeddings.word_embeddings.weight"
        assert torch.equal(bert.state_dict()[words], small("bert")[f"bert.{words}"])


class Harm:
    def __reduce__(self) -> Any:
        return os.system, ("touch harm",)


@pytest.mark.parametrize("suffix", [".pth", ".pkl"])
def test_other_objects_are_refused_by_name(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / f"file{suffix}"
    if suffix == ".pkl":
        path.write_bytes(pickle.dumps({"model": {}, "more": Harm()}))
    else:
        torch.save({"model": {}, "more": Harm()}, path)
    with pytest.raises(UserError, match=r"refused, it holds the Python object \w+\.system"):
        load_official(path)
    assert not (tmp_path / "harm").exists()


def test_a_pickle_of_arrays_of_objects_is_refused(tmp_path: Path) -> None:
    import numpy as np

    path = tmp_path / "file.pkl"
    path.write_bytes(pickle.dumps({"model": {"a": np.array([None, "b"], dtype=object)}}))
    with pytest.raises(UserError, match="no arrays of numbers: a"):
        load_official(path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.pth", None, "there is no such file"),
        ("text.pth", b"hello", "not a checkpoint"),
        ("text.pkl", b"hello", "not a checkpoint"),
        ("cut.pkl", pickle.dumps({"a": list(range(99))})[:-20], "not a checkpoint"),
        ("text.tar.gz", b"hello", "not a checkpoint"),
        ("text.safetensors", b"hello", "not a checkpoint"),
        ("list.pkl", pickle.dumps([1, 2]), "holds no state dict"),
    ],
)
def test_files_that_are_no_checkpoints(
    tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        load_official(tmp_path / name)


def test_a_safetensors_file_that_is_something_else(tmp_path: Path) -> None:
    save_file({"layer.weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match=r"other.safetensors: neither PLVL.*layer.weight"):
        convert(tmp_path / "other.safetensors", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_bert_does_not_replace_other_files(tmp_path: Path) -> None:
    bert_archive(tmp_path / "bert.tar.gz")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("")
    with pytest.raises(UserError, match="holds other files"):
        convert(tmp_path / "bert.tar.gz", tmp_path / "mine")
