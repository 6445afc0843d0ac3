"""The command line: verbs, recipes, and one sentence for a user's mistake."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import cabl_cgsr
from cabl_cgsr.cli import USAGE, main
from cabl_cgsr.modeling.localizer import Localizer
from cabl_cgsr.recipes import RECIPES


@pytest.mark.parametrize("verb", [verb for verb in USAGE if verb not in ("train", "data")])
def test_every_verb_has_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([verb, "--help"])
    assert stop.value.code == 0
    assert f"usage: cabl-cgsr {verb}" in capsys.readouterr().out


def test_train_lists_the_recipes_and_the_options_of_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train"]) == 2
    listed = capsys.readouterr().out
    assert all(name in listed for name in RECIPES)
    with pytest.raises(SystemExit) as stop:
        main(["train", "casia2", "--help"])
    assert stop.value.code == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "Table I" in printed
    assert "--model.cabl.operator" in printed
    assert "5e-05" in printed


def test_every_recipe_names_a_table_or_none_and_its_command() -> None:
    for name, recipe in RECIPES.items():
        words = " ".join((recipe.__doc__ or "").split())
        assert "Table " in words or "No table" in words, name
        assert f"train {name} --data.root" in words
        assert recipe().name == name
    assert RECIPES["ablation_baseline"]().model.cabl.operator == "none"
    assert RECIPES["ablation_blocks_4"]().model.cabl.blocks == 4
    casia2 = RECIPES["casia2"]()
    assert (casia2.optim.epochs, casia2.optim.batch_size) == (30, 8)
    assert (casia2.optim.lr, casia2.optim.weight_decay) == (5e-5, 5e-4)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["paint"], "no verb 'paint'"),
        (["train", "casia3"], "no recipe 'casia3'"),
        (["predict", "nowhere/at-all", __file__, "--output", "x"], "nowhere/at-all"),
        (["convert", "nothing.pth", "model"], "nothing.pth: there is no such file"),
        (["evaluate", "--data.root", "nowhere"], "no model given"),
    ],
)
def test_a_mistake_is_one_sentence(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert sentence in error
    assert error.count("\n") == 1


def test_convert_writes_a_folder_with_the_operator_asked_for(
    localizer: Localizer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    official = {name.removeprefix("backbone."): value for name, value in localizer.state_dict().items()}
    torch.save(official, tmp_path / "transcam.pth")
    arguments = ["convert", str(tmp_path / "transcam.pth"), str(tmp_path / "model"), "--operator", "sobel"]
    assert main(arguments) == 0
    assert "edge operator sobel" in capsys.readouterr().out
    opened = cabl_cgsr.Localizer.from_pretrained(tmp_path / "model")
    assert opened.config.cabl.operator == "sobel"
    assert torch.equal(opened.conv_cls_head.weight, localizer.conv_cls_head.weight)


def test_the_package_gives_its_names_lazily() -> None:
    assert cabl_cgsr.Localization.__name__ == "Localization"
    assert {"Localizer", "convert", "predict"} <= set(dir(cabl_cgsr))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = cabl_cgsr.nothing
