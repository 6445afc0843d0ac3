"""Checkpoints in: strict by name and shape, safe against pickles, honest about what starts fresh."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from cabl_cgsr.config import BACKBONES, CablConfig, ModelConfig
from cabl_cgsr.convert import HEADS, convert, convert_state_dict, load_official
from cabl_cgsr.modeling.classifier import Classifier
from cabl_cgsr.modeling.localizer import Localizer
from papers_shared.errors import UserError
from papers_shared.provenance import VARIABLE

SIZES = BACKBONES["test_conformer"]


def official_names(model: torch.nn.Module) -> dict[str, Tensor]:
    return {name.removeprefix("backbone."): value for name, value in model.state_dict().items()}


@pytest.fixture
def imagenet() -> dict[str, Tensor]:
    return official_names(Classifier(SIZES, num_classes=7))


def transcam(num_classes: int) -> dict[str, Tensor]:
    config = ModelConfig(backbone="test_conformer", num_logits=num_classes)
    return official_names(Localizer.from_config(config))


def test_imagenet_checkpoint_keeps_all_but_the_heads(imagenet: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save(imagenet, tmp_path / "conformer.pth")
    report = convert(tmp_path / "conformer.pth", tmp_path / "model")
    fresh = [finding.source for finding in report.findings if finding.message == "starts fresh"]
    assert fresh == list(HEADS)
    opened = Localizer.from_pretrained(tmp_path / "model")
    assert opened.config.num_logits == 1
    assert opened.config.cabl.operator == "none"
    backbone = opened.backbone.state_dict()
    assert len(backbone) == 714
    for name, value in backbone.items():
        torch.testing.assert_close(value, imagenet[name])


def test_fresh_heads_are_the_same_every_time(imagenet: dict[str, Tensor], tmp_path: Path) -> None:
    save_file({name: value.contiguous() for name, value in imagenet.items()}, tmp_path / "c.safetensors")
    for name in ("a", "b"):
        convert(tmp_path / "c.safetensors", tmp_path / name)
        torch.rand(3)
    heads = [Localizer.from_pretrained(tmp_path / name).conv_cls_head.weight for name in ("a", "b")]
    torch.testing.assert_close(*heads)


@pytest.mark.parametrize("num_classes", [1, 2])
def test_heads_of_one_or_two_classes_are_kept(num_classes: int, tmp_path: Path) -> None:
    official = transcam(num_classes)
    torch.save({"model": {f"module.{k}": v for k, v in official.items()}, "epoch": 3}, tmp_path / "t.pth")
    report = convert(tmp_path / "t.pth", tmp_path / "model", CablConfig(operator="prewitt"))
    assert not [finding for finding in report.findings if finding.message == "starts fresh"]
    opened = Localizer.from_pretrained(tmp_path / "model")
    assert opened.config.num_logits == num_classes
    assert opened.config.cabl.operator == "prewitt"
    torch.testing.assert_close(official_names(opened), official)


def test_transcams_heads_come_along_and_give_no_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    official = transcam(21)
    torch.save(official, tmp_path / "transcam.pth")
    report = convert(tmp_path / "transcam.pth", tmp_path / "model")
    told = "the heads tell 21 classes that are no manipulations"
    assert told in [finding.message for finding in report.findings]
    opened = Localizer.from_pretrained(tmp_path / "model")
    torch.testing.assert_close(official_names(opened), official)
    assert opened.forward_maps(torch.zeros(1, 3, 32, 32)).trans_map.shape == (1, 21, 2, 2)
    monkeypatch.delenv(VARIABLE)
    with pytest.raises(UserError, match=r"never trained: conv_cls_head, trans_cls_head tell 21 classes"):
        opened.predict(np.zeros((32, 32, 3), np.uint8))
    started = Localizer.from_config(
        ModelConfig(backbone="test_conformer", pretrained=str(tmp_path / "model"))
    )
    assert (started.config.num_logits, started.origin.other_task) == (1, "")


def test_wscls_own_network_is_called_what_it_is() -> None:
    with pytest.raises(UserError, match="a network of WSCL, an FCN"):
        convert_state_dict({"sub_models.rgb.encoder.conv1.weight": torch.zeros(64, 3, 3, 3)})


def test_without_heads_they_start_fresh() -> None:
    official = {name: value for name, value in transcam(20).items() if name not in HEADS}
    converted = convert_state_dict(official)
    assert converted.fresh == list(HEADS)
    assert not set(converted.tensors) & set(HEADS)
    assert len(converted.tensors) == 714


def test_missing_counters_are_zero(imagenet: dict[str, Tensor]) -> None:
    bare = {name: value for name, value in imagenet.items() if not name.endswith("num_batches_tracked")}
    assert len(convert_state_dict(bare).tensors) == 714


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            {"conv_trans_5.cnn_block.conv9.weight": torch.zeros(1)},
            "1 unknown names: conv_trans_5",
        ),
        ({"trans_1.norm1.weight": None}, "1 missing names: trans_1.norm1.weight"),
        (
            {"trans_patch_conv.weight": torch.zeros(24, 16, 8, 8)},
            r"trans_patch_conv.weight \[24, 16, 8, 8\] inst",
        ),
        ({"trans_cls_head.bias": None}, "missing names: trans_cls_head.bias"),
    ],
)
def test_anything_else_is_an_error(damage: dict[str, Tensor | None], message: str) -> None:
    official = {**transcam(2), **damage}
    with pytest.raises(UserError, match=message):
        convert_state_dict({name: value for name, value in official.items() if value is not None})


def test_another_width_is_named(imagenet: dict[str, Tensor]) -> None:
    imagenet["trans_norm.weight"] = torch.zeros(25)
    with pytest.raises(UserError, match="not a Conformer-S with patches of 16 pixels"):
        convert_state_dict(imagenet)


class Stranger:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("this must not run",)


def test_a_strangers_pickle_is_refused_unread(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"model": transcam(1), "extra": Stranger()}, tmp_path / "bad.pth")
    with pytest.raises(UserError, match="refused, it holds the Python object"):
        load_official(tmp_path / "bad.pth")
    assert "must not run" not in capsys.readouterr().out


def test_training_arguments_are_harmless(tmp_path: Path, imagenet: dict[str, Tensor]) -> None:
    torch.save({"model": imagenet, "args": argparse.Namespace(lr=5e-5)}, tmp_path / "with_args.pth")
    assert load_official(tmp_path / "with_args.pth").keys() == imagenet.keys()


def test_averaged_weights_and_our_own_names_are_taken(imagenet: dict[str, Tensor], tmp_path: Path) -> None:
    ours = {f"backbone.{name}": value for name, value in imagenet.items()}
    for number, content in enumerate(({"model_ema": imagenet}, {"state_dict_ema": ours}, ours)):
        torch.save(content, tmp_path / f"{number}.pth")
        converted = convert_state_dict(load_official(tmp_path / f"{number}.pth"))
        assert len(converted.tensors) == 714


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(value: float, tmp_path: Path) -> None:
    official = transcam(1)
    official["trans_norm.weight"] = torch.full_like(official["trans_norm.weight"], value)
    torch.save(official, tmp_path / "diverged.pth")
    with pytest.raises(
        UserError, match=r"diverged\.pth: .*trans_norm\.weight holds values that are not finite"
    ):
        convert(tmp_path / "diverged.pth", tmp_path / "model")
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\n<!DOCTYPE html><html><title>404</title></html>", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1", "is a pointer of Git LFS"),
        (b"", "is empty"),
        (b"plain text", "not a checkpoint that torch can read"),
    ],
)
def test_what_is_no_checkpoint_is_called_what_it_is(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "file.pth").write_bytes(content)
    with pytest.raises(UserError, match=rf"file\.pth.* {message}"):
        load_official(tmp_path / "file.pth")


@pytest.mark.parametrize("content", [None, b"not a checkpoint", {"model": 3}])
def test_a_file_without_weights_is_named(content: object, tmp_path: Path) -> None:
    path = tmp_path / "file.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(UserError, match=r"file\.pth"):
        load_official(path)
