"""Folders of images: names, failures, records, the verb's exit codes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import datasets
import numpy as np
import pytest
from datasets import Dataset, DatasetDict
from PIL import Image

from fanet.config import ModelConfig
from fanet.modeling.segmenter import Segmenter
from fanet.options import PredictOptions
from fanet.predict import predict_many, run
from papers_shared.batches import Item
from papers_shared.errors import UserError
from papers_shared.inputs import match_items, unique_names


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    config = ModelConfig(
        backbone="test_fanet",
        class_names=("background", "box"),
        decoder_channels=8,
        auxiliary=False,
        test_scale=(128, 32),
    )
    return Segmenter.from_config(config).eval()


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    (folder / "deeper").mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    for name in ("a.png", "a.jpg", "b[1].PNG", "deeper/a.png"):
        Image.fromarray(pixels).save(folder / name)
    (folder / "broken.jpg").write_bytes((folder / "a.jpg").read_bytes()[:300])
    (folder / "notes.txt").write_text("no image")
    return folder


def names(items: list[Item]) -> list[str]:
    return [item.path.name for item in items]


def test_match_items(images: Path, capsys: pytest.CaptureFixture) -> None:
    assert names(match_items([str(images)])) == ["a.jpg", "a.png", "b[1].PNG", "broken.jpg", "a.png"]
    assert "1 files" in capsys.readouterr().err
    assert names(match_items([str(images / "b[1].PNG")])) == ["b[1].PNG"]
    assert len(match_items([str(images / "**/a.png"), str(images / "a.png")])) == 2


@pytest.mark.parametrize("given", ["missing.png", "in/*.bmp", "empty"])
def test_nothing_matches(images: Path, given: str) -> None:
    (images.parent / "empty").mkdir()
    with pytest.raises(UserError, match=given.replace("*", r"\*")):
        match_items([str(images / "a.png"), str(images.parent / given)])


def test_unique_names() -> None:
    paths = [Path(name) for name in ("x/a.png", "x/A.jpg", "y/a.png", "y/a-2.png", "y/b.tar.png")]
    assert unique_names(paths) == ["a", "A-2", "a-3", "a-2-2", "b.tar"]


def test_a_broken_image_is_reported_and_the_rest_goes_on(
    segmenter: Segmenter, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    paths = match_items([str(images), str(images / "deeper")])
    records = predict_many(segmenter, paths, tmp_path / "out", model_name="tiny")
    assert [
        json.loads(line) for line in (tmp_path / "out/predictions.jsonl").read_text().splitlines()
    ] == records
    failed = [record for record in records if "error" in record]
    assert [Path(record["file"]).name for record in failed] == ["broken.jpg"]
    assert "broken.jpg" in capsys.readouterr().err
    done = [record for record in records if "error" not in record]
    assert len({record["mask"] for record in done}) == len(done) == 4
    for record in done:
        mask = np.asarray(Image.open(tmp_path / "out" / record["mask"]))
        assert mask.shape == (record["height"], record["width"]) == (40, 60)
        assert record["shares"]["box"] == pytest.approx((mask == 1).mean())
        assert (tmp_path / "out" / record["overlay"]).is_file()
        assert record["model"] == "tiny"
        assert "128x32" in record["protocol"]


def test_results_never_replace_a_image(segmenter: Segmenter, images: Path, tmp_path: Path) -> None:
    (images / "deeper").rename(tmp_path / "masks")
    with pytest.raises(UserError, match="overwritten"):
        predict_many(segmenter, match_items([str(tmp_path / "masks")]), tmp_path)


@pytest.mark.parametrize(("given", "code"), [("a.png", 0), ("*.jpg", 1)])
def test_exit_codes(
    segmenter: Segmenter, images: Path, tmp_path: Path, given: str, code: int, capsys: pytest.CaptureFixture
) -> None:
    segmenter.save_pretrained(tmp_path / "model")
    options = PredictOptions(
        model=str(tmp_path / "model"),
        inputs=(str(images / given),),
        output=str(tmp_path / "out"),
        tile=32,
        device="cpu",
    )
    assert run(options) == code
    assert ("1 failed" in capsys.readouterr().out) == bool(code)


@pytest.mark.parametrize("options", [{}, {"flip": True, "ratios": (0.5, 1.0)}, {"tile": 32}], ids=str)
def test_batches_read_by_processes_answer_as_one_by_one(
    segmenter: Segmenter, tmp_path: Path, options: dict
) -> None:
    """Two classes are equally likely nowhere in these images, so that the rounding of a batch changes no pixel."""
    rng, paths = np.random.default_rng(0), []
    (tmp_path / "in").mkdir()
    for number in range(9):
        paths.append(tmp_path / f"in/{number}.png")
        size = [(40, 60, 3), (80, 120, 3), (50, 30, 3)][
            number % 3
        ]  # the first two are one size in the network
        Image.fromarray(rng.integers(0, 256, size, dtype=np.uint8)).save(paths[-1])
    sizes: list[int] = []
    alone = predict_many(segmenter, paths, tmp_path / "alone", **options)
    handle = segmenter.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    together = predict_many(segmenter, paths, tmp_path / "together", batch_size=4, workers=2, **options)
    handle.remove()
    assert max(sizes) == 4
    assert together == alone
    for record in alone:
        for kind in ("mask", "overlay"):
            one, other = (tmp_path / folder / record[kind] for folder in ("alone", "together"))
            assert one.read_bytes() == other.read_bytes()


def test_the_rows_of_a_data_set(
    segmenter: Segmenter, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*_: object, **__: object) -> None:
        raise ConnectionError("nobody/nothing: no network")

    monkeypatch.setattr(datasets, "load_dataset", offline)
    files = [str(images / "a.png"), str(images / "b[1].PNG"), str(images / "broken.jpg")]
    rows = Dataset.from_dict({"label": [0, 1, 2], "photo": files}).cast_column("photo", datasets.Image())
    folder = tmp_path / "saved"
    DatasetDict({"val": rows, "test": rows.select([0])}).save_to_disk(folder)
    items = match_items([str(folder), str(images / "a.png")])
    records = predict_many(segmenter, items, tmp_path / "out", workers=2)
    assert [(record.get("split"), record.get("row"), "error" in record) for record in records] == [
        *(("val", 0, False), ("val", 1, False), ("val", 2, True), ("test", 0, False), (None, None, False))
    ]
    assert records[0]["mask"] == "masks/saved-val-000000.png"
    assert records[0]["shares"] == records[4]["shares"]
    assert names(match_items([str(folder / "test")])[:1]) == ["test"]
    for nothing in (str(tmp_path / "in" / "empty"), "hub:nobody/nothing"):
        with pytest.raises(UserError, match=Path(nothing).name):
            match_items([nothing])
    Dataset.from_dict({"text": ["a"]}).save_to_disk(tmp_path / "words")
    with pytest.raises(UserError, match="no column of images"):
        match_items([str(tmp_path / "words")])
    (stored,) = (tmp_path / "words").glob("*.arrow")
    stored.unlink()
    os.mkfifo(stored)
    with pytest.raises(UserError, match="is no regular file"):
        match_items([str(tmp_path / "words")])
