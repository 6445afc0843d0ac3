"""Official checkpoints in: every entry is used, and nothing in a file is executed."""

from __future__ import annotations

import argparse
import io
import json
import os
import pickle
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from official_checkpoints import NAMES, VISION, official, shapes, small
from safetensors.torch import save_file

from papers_shared.errors import UserError
from plvl.config import TABLE_7_MODELS, ModelConfig
from plvl.convert import convert, convert_state_dict
from plvl.foreign import load_official
from plvl.modeling.backbone import LanguageGuidedViT
from plvl.modeling.language import create_bert
from plvl.modeling.plvl import PLVL
from plvl.modeling.start_weights import open_bert
from plvl.tokenizer import tokenizer_of

EXPECTED = {
    "plvl": (ModelConfig(), 217_018_655),
    "eevg": (
        replace(TABLE_7_MODELS["EEVG"], head_dim=ModelConfig.head_dim),
        218_072_094 - 590_592,
    ),
}


@pytest.mark.parametrize("kind", EXPECTED)
def test_every_name_of_a_network_is_used(kind: str) -> None:
    config, parameters = EXPECTED[kind]
    converted = convert_state_dict(official(kind))
    assert converted.config == config
    with torch.device("meta"):
        model = PLVL.from_config(config)
    assert {name: tuple(x.shape) for name, x in converted.tensors.items()} == {
        name: tuple(x.shape) for name, x in model.state_dict().items()
    }
    assert sum(p.numel() for p in model.parameters()) == parameters


def test_what_is_dropped() -> None:
    dropped = convert_state_dict(official("plvl")).dropped
    assert sum(official("plvl")[name].numel() for name in dropped) == 996_890
    norms = [f"{VISION}prompt_norms.{i}.weight" for i in (0, 1, 3, 4, 6, 7, 9, 10)]
    assert set(norms) == {name for name in dropped if "prompt_norms" in name and name.endswith("weight")}
    assert {name.split(".")[0] for name in dropped} == {"visumodel", "textmodel", "mask_head", "mask_cnn"}
    assert convert_state_dict(official("eevg")).dropped == [
        name for name in shapes("eevg") if ".pooler." in name
    ]


def test_detector() -> None:
    converted = convert_state_dict(official("detectron2"))
    with torch.device("meta"):
        expected = LanguageGuidedViT.from_config(ModelConfig(language_blocks=()))
    assert converted.tensors.keys() == {"backbone." + name for name in expected.state_dict()}
    assert len(converted.dropped) == len(NAMES["detectron2_behind"]) == 110


def test_bert_with_old_names() -> None:
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): x
        for name, x in official("bert").items()
    }
    ours = convert_state_dict(old).tensors
    with torch.device("meta"):
        expected = create_bert(ModelConfig())
    assert ours.keys() == {"language." + name for name in expected.state_dict()}


def test_module_prefix_and_missing_counters() -> None:
    weights = {f"module.{n}": x for n, x in official("plvl").items() if not n.endswith("_tracked")}
    found, expected = convert_state_dict(weights), convert_state_dict(official("plvl"))
    assert found.tensors.keys() == expected.tensors.keys()


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("visu_proj.bias", None, "1 names of PLVL without a value: decoder.vision_proj.bias"),
        ("visu_proj.extra", [4], "1 names that PLVL does not have: visu_proj.extra"),
        ("textmodel.bert.extra", [4], "1 names that PLVL does not have: textmodel.bert.extra"),
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
    ours = convert_state_dict(weights).tensors
    packed = weights[f"{VISION}blocks.2.cross_attn.in_proj_weight"]
    for i, part in enumerate("qkv"):
        assert torch.equal(ours[f"backbone.blocks.2.guide.attn.{part}.weight"], packed[48 * i : 48 * (i + 1)])


@pytest.mark.parametrize("kind", ["plvl", "eevg"])
def test_an_official_file(tmp_path: Path, kind: str) -> None:
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
        tokenizer_of(PLVL.from_pretrained(tmp_path / "folder"))
    convert(tmp_path / "best.pth", tmp_path / "folder", tmp_path / "vocab.txt")
    assert (tmp_path / "folder" / "vocab.txt").read_bytes() == words
    ids, _ = tokenizer_of(PLVL.from_pretrained(tmp_path / "folder"))(["Man"])
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
        bert = open_bert(ModelConfig(**sizes, text_pretrained=str(folder)))[0]  # type: ignore[arg-type]
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
        ("text.pkl", b"hello", "not a readable pickle"),
        ("cut.pkl", pickle.dumps({"a": list(range(99))})[:-20], "not a readable pickle"),
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


def test_declared_sizes_are_refused(tmp_path: Path) -> None:
    """An array of 728 TiB, weights that unpack to a thousand times their size, a sparse member of an archive."""
    array = np.zeros(1, np.float32)
    content = pickle.dumps({"model": {"a": array}}, 2)
    shaped = content.replace(b"K\x01\x85", b"\x8a\x06\x00\x00\x00\x00\x00\x7f\x85")
    assert shaped != content
    (tmp_path / "a.pkl").write_bytes(shaped)
    torch.save({"a": torch.zeros(1 << 20)}, tmp_path / "plain.pth")
    with (
        zipfile.ZipFile(tmp_path / "plain.pth") as plain,
        zipfile.ZipFile(tmp_path / "b.pth", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for name in plain.namelist():
            packed.writestr(name, plain.read(name))
    with open(tmp_path / "zeros", "wb") as zeros:
        zeros.truncate(1 << 20)
    with tarfile.open(tmp_path / "c.tar", "w") as archive:
        member = tarfile.TarInfo("pytorch_model.bin")
        member.size = 1 << 20
        with open(tmp_path / "zeros", "rb") as zeros:
            archive.addfile(member, zeros)
    header = bytearray((tmp_path / "c.tar").read_bytes())
    header[124:136] = b"\x80" + (1 << 40).to_bytes(11, "big")
    checked = bytes(header[:148]) + b" " * 8 + bytes(header[156:512])
    header[148:156] = b"%06o\0 " % sum(checked)
    (tmp_path / "c.tar").write_bytes(bytes(header))
    for name, message in (
        ("a.pkl", "not a checkpoint that torch or safetensors can read"),
        ("b.pth", "it is compressed"),
        ("c.tar", "declares 1,099,511,627,776 bytes"),
    ):
        with pytest.raises(UserError, match=message):
            load_official(tmp_path / name)


@pytest.mark.parametrize("shape", [(), (-1,)])
def test_entries_with_another_number_of_axes_are_one_sentence(shape: tuple[int, ...]) -> None:
    state = small("detectron2")
    name = next(name for name, tensor in state.items() if name.endswith("patch_embed.proj.weight"))
    state[name] = state[name].reshape(-1) if shape else torch.tensor(1.0)
    with pytest.raises(UserError, match="but not their shapes"):
        convert_state_dict(state)
