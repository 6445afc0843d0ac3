"""One bad item: check and evaluate name it and go on, training names it before its first step, workers included."""

from __future__ import annotations

import json
import pickle
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import datasets
import pytest
import torch
from accelerate.state import AcceleratorState
from releases import write_refer
from shapes import small, write_shapes

from papers_shared.errors import UserError
from papers_shared.loading import loaded, make_loader
from plvl.config import DataConfig
from plvl.data import GroundingSamples, check, open_split, quick_check
from plvl.data.commands import build_dataset
from plvl.data.readers import open_usable
from plvl.evaluate import evaluate, run
from plvl.modeling.plvl import PLVL
from plvl.options import EvaluateOptions
from plvl.tokenizer import VOCABULARY, make_vocabulary
from plvl.train import train

WORDS = make_vocabulary(["the red green blue block"], 160)


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    AcceleratorState._reset_state(reset_partial_state=True)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-30])


def spoiled(root: Path) -> DataConfig:
    """Lists whose last image is cut off, and four entries that are no rows."""
    write_shapes(root, train=20, val=12)
    cut(root / "images" / "train-19.png")
    cut(root / "images" / "val-11.png")
    wrong = [
        {"image": "images/val-0.png", "expression": "x", "box": [1, 2, float("nan"), 5]},
        {"image": "images/val-0.png", "expression": None, "box": [1, 2, 3, 5]},
        {"image": "images/val-0.png", "expression": "x", "mask": "images/val-11.png"},
    ]
    with open(root / "val.jsonl", "a") as file:
        file.write("".join(json.dumps(line) + "\n" for line in wrong) + "{cut\n")
    return DataConfig(root=str(root), workers=0)


def test_check_names_all_of_them(tmp_path: Path) -> None:
    report = check(spoiled(tmp_path / "data"), progress=False)
    said = "\n".join(f"{finding.source} {finding.message}" for finding in report.errors)
    for line in (37, 38, 39, 40):
        assert f"val.jsonl, line {line}" in said
    assert "images/val-11.png unusable image" in said
    assert "images/train-19.png unusable image" in said
    rows, broken = open_usable(DataConfig(root=str(tmp_path / "data")), "val")
    assert (len(rows), len(broken)) == (36, 4)


def test_training_names_an_image_before_its_first_step(tmp_path: Path) -> None:
    data = spoiled(tmp_path / "data")
    recipe = small(tmp_path / "data", tmp_path / "run")
    with pytest.raises(UserError, match=r"train-19\.png: unusable image"):
        train(replace(recipe, data=replace(data, val_split="train")))
    assert not (tmp_path / "run").exists()


def look(looked: list[str], name: str, *_: object) -> list[object]:
    looked.append(name)
    return []


def test_sound_files_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_shapes(tmp_path / "data", train=2, val=1)
    lists = str(tmp_path / "data")
    build_dataset("jsonl", str(tmp_path / "built"), jsonl=lists)
    looked: list[str] = []
    for name in ("verify_image", "examine"):
        monkeypatch.setattr(sys.modules[quick_check.__module__], name, partial(look, looked, name))
    for root, read in ((lists, ["verify_image"] * 3), (str(tmp_path / "built"), ["examine"] * 9)):
        looked.clear()
        for _ in range(2):
            assert not quick_check(DataConfig(root=root), progress=False).findings
        assert looked == read, "images of both, and masks of the built one, once"
    cut(tmp_path / "data" / "images" / "val-0.png")
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert "val-0.png" in quick_check(DataConfig(root=lists), progress=False).errors[0].source


@pytest.mark.parametrize("workers", [0, 1])
def test_evaluation_goes_on_and_says_so(
    workers: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = spoiled(tmp_path / "data")
    torch.manual_seed(0)
    model = PLVL.from_config(small(Path(), Path()).model)
    model.extra_files = {VOCABULARY: WORDS}
    model.save_pretrained(tmp_path / "best")
    assert run(EvaluateOptions(str(tmp_path / "best"), replace(data, workers=workers))) == 1
    written = json.loads((tmp_path / "best-evaluation-data-val.json").read_text())
    assert written["expressions"] == 33
    assert len(written["failed"]) == 7
    assert "val-11.png" in written["failed"]["val/000034"]
    assert "7 sentences could not be scored" in capsys.readouterr().out


def test_a_damaged_mask_costs_its_own_sentence(tmp_path: Path) -> None:
    write_shapes(tmp_path / "data", val=2)
    rows = open_split(DataConfig(root=str(tmp_path / "data")), "val").to_list()
    rows[1]["mask"] = rows[1]["mask"][:40]
    model = PLVL.from_config(small(Path(), Path()).model)
    model.extra_files = {VOCABULARY: WORDS}
    spoiled_rows = datasets.Dataset.from_list(rows)
    found = evaluate(model, spoiled_rows, skip_failed=True)
    assert list(found["failed"]) == [rows[1]["name"]]
    assert found["expressions"] == 5
    with pytest.raises(UserError, match=f"{rows[1]['name']}'.*mask"):
        evaluate(model, spoiled_rows)


def test_a_worker_says_one_sentence(tmp_path: Path) -> None:
    data = spoiled(tmp_path / "data")
    samples = GroundingSamples(open_split(data, "train"), lambda sample: {}, 0)
    loader = make_loader(samples, sampler=[59], batch_size=None, workers=1)
    with pytest.raises(UserError) as told:
        next(loaded(loader))
    assert str(told.value).startswith(str(tmp_path / "data" / "images" / "train-19.png"))
    assert "Traceback" not in str(told.value)


def test_a_broken_reference_of_refer_is_named_among_sound_ones(tmp_path: Path) -> None:
    root = write_refer(tmp_path, "refcoco", "unc", {"train": [1, 2], "val": [3]}) / "refcoco"
    refs = pickle.loads((root / "refs(unc).p").read_bytes())
    refs[1]["ann_id"] = 77
    (root / "refs(unc).p").write_bytes(pickle.dumps(refs))
    report = check(DataConfig(root=str(root)), progress=False)
    (problem,) = {finding.message for finding in report.errors}
    assert "reference 2 does not fit instances.json: it has no ann_id 77" in problem
    assert any(finding.message.startswith("1 images, 2 expressions") for finding in report.findings)
