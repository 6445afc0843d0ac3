"""From each layout in its tool's true form: the check says what it took, training starts, `data convert` keeps it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from accelerate.state import AcceleratorState
from PIL import Image
from releases import SQUARE, coco_name, write_flickr30k, write_image, write_refer, write_visual_genome
from shapes import small

from papers_shared.doctor import Report
from plvl.config import DataConfig
from plvl.data import check, open_split
from plvl.data.commands import build_dataset, run_convert
from plvl.data.masks import decode_shape, encode_shape
from plvl.options import DataConvertOptions
from plvl.train import train

BOX, XYWH = [10.0, 5.0, 30.0, 25.0], [10.0, 5.0, 20.0, 20.0]
SIZE = {"width": 60, "height": 40}
SPLITS = {"train": [1, 2], "val": [3]}


@pytest.fixture(autouse=True)
def _fresh_accelerate() -> None:
    AcceleratorState._reset_state(reset_partial_state=True)


def named(root: Path, *folders: str) -> dict[str, list[str]]:
    """An image of COCO for each number of `SPLITS`."""
    for numbers in SPLITS.values():
        for number in numbers:
            write_image(root.joinpath(*folders, coco_name(number)))
    return {split: [coco_name(number) for number in numbers] for split, numbers in SPLITS.items()}


def lines(root: Path, entry: Callable[[str], dict[str, Any]], suffix: str = ".jsonl") -> Path:
    for split, names in named(root).items():
        entries = [entry(name) for name in names]
        if suffix == ".jsonl":
            text = "".join(json.dumps(one) + "\n" for one in entries)
        else:
            rows = [list(entries[0]), *([str(value) for value in one.values()] for one in entries)]
            text = "".join(",".join(row) + "\n" for row in rows)
        (root / f"{split}{suffix}").write_text(text)
    return root


def saved(root: Path, row: Callable[[str], dict[str, Any]], **names: str) -> Path:
    """A set as `save_to_disk` writes it, images inside it where a row has `image`; its names of splits by ours."""
    splits = {}
    for split, files in named(root, "coco", "train2014").items():
        listed = datasets.Dataset.from_list([row(name) for name in files])
        if "image" in listed.column_names:
            paths = [str(root / "coco" / "train2014" / name) for name in files]
            listed = listed.remove_columns("image").add_column("image", paths)
            listed = listed.cast_column("image", datasets.Image())
        splits[names.get(split, split)] = listed
    datasets.DatasetDict(splits).save_to_disk(str(root / "hub"))
    return root / "hub"


def of_refer(root: Path) -> DataConfig:
    return DataConfig(root=str(write_refer(root, "refcoco", "unc", SPLITS) / "refcoco"))


def of_refer_several(root: Path) -> DataConfig:
    write_refer(root, "refcocog", "google", {"train": [1]})
    write_refer(root, "refcocog", "umd", SPLITS)
    return DataConfig(root=str(root / "refcocog" / "refs(umd).p"))


def of_built(root: Path) -> DataConfig:
    release = write_refer(root / "release", "refcoco", "unc", SPLITS)
    build_dataset("refcoco_unc", str(root / "built"), refer=str(release))
    return DataConfig(root=str(root / "built"))


def of_labels(root: Path) -> DataConfig:
    folder = root / "mask_data" / "unc"
    folder.mkdir(parents=True)
    for split, names in named(root, "images", "mscoco", "images", "train2014").items():
        entries = [(name, "coco", [*XYWH, SQUARE], "the left square", None) for name in names]
        torch.save(entries, folder / f"unc_{split}.pth")
    return DataConfig(root=str(folder), images=str(root / "images"))


def of_visual_genome(root: Path) -> DataConfig:
    write_visual_genome(root, [{"image_id": 3}, {"image_id": 4}])
    return DataConfig(root=str(root), val_split="train")


def of_flickr30k(root: Path) -> DataConfig:
    return DataConfig(root=str(write_flickr30k(root, {"train": ["11", "12"], "val": ["13"]})))


def of_json_lines(root: Path) -> DataConfig:
    entry = {"expression": "the left square", "box": BOX, "mask": [SQUARE]}
    return DataConfig(root=str(lines(root, lambda name: {"image": name, **entry})))


def of_corners_in_csv(root: Path) -> DataConfig:
    def row(name: str) -> dict[str, Any]:
        corners = dict(zip(("xmin", "ymin", "xmax", "ymax"), BOX, strict=True))
        return {"filename": name, "caption": "the square", **corners}

    return DataConfig(root=str(lines(root, row, ".csv")))


def of_fractions(root: Path) -> DataConfig:
    box = [10 / 60, 5 / 40, 30 / 60, 25 / 40]
    entry = {"expression": "the left square", "box": box}
    return DataConfig(root=str(lines(root, lambda name: {"image": name, **entry})), box_unit="unit")


def of_thousandths(root: Path) -> DataConfig:
    box = [1000 * 10 / 60, 1000 * 5 / 40, 1000 * 30 / 60, 1000 * 25 / 40]
    entry = {"query": "the left square", "box": box}
    return DataConfig(root=str(lines(root, lambda name: {"image": name, **entry})), box_unit="thousand")


def of_sizes(root: Path) -> DataConfig:
    entry = {"sentence": "the left square", "bbox": XYWH}
    return DataConfig(root=str(lines(root, lambda name: {"image": name, **entry})), box_format="xywh")


def of_solutions(root: Path) -> DataConfig:
    """Questions and answers of a reinforcement-learning set: the answer is the box."""
    entry = {"problem": "the left square", "solution": BOX}
    return DataConfig(root=str(lines(root, lambda name: {"image": name, **entry})))


def of_coco(root: Path) -> DataConfig:
    """CVAT's and FiftyOne's form, with captions as attributes of the annotations."""
    (root / "annotations").mkdir(parents=True)
    for split, names in named(root, "train2014").items():
        content = {
            "images": [{"id": n, "file_name": name, **SIZE} for n, name in enumerate(names)],
            "annotations": [
                {"id": n, "image_id": n, "category_id": 1, "bbox": XYWH, "segmentation": [SQUARE], "iscrowd": 0,
                 "area": 400.0, "caption": "the left square"} for n in range(len(names))
            ],
            "categories": [{"id": 1, "name": "thing"}],
        }  # fmt: skip
        (root / "annotations" / f"captions_{split}2014.json").write_text(json.dumps(content))
    return DataConfig(root=str(root))


def of_mdetr(root: Path) -> DataConfig:
    """One image for each sentence, which is the image's caption."""
    for split, names in named(root).items():
        content = {
            "images": [{"id": n, "file_name": name, **SIZE, "caption": "a"} for n, name in enumerate(names)],
            "annotations": [{"id": n, "image_id": n, "bbox": XYWH} for n in range(len(names))],
        }
        (root / f"finetune_refcoco_{split}.json").write_text(json.dumps(content))
    return DataConfig(root=str(root))


def of_hub_objects(root: Path) -> DataConfig:
    """jxu124/refcoco, whose images lie elsewhere."""
    annotation = {"bbox": XYWH, "segmentation": [SQUARE], "id": 1, "iscrowd": 0}

    def row(name: str) -> dict[str, Any]:
        number = int(name[-6:-4])
        sentences = [{"raw": "A!", "sent": "the left square", "sent_id": number, "tokens": ["a"]}]
        info = {"id": number, "file_name": name, **SIZE}
        return {
            "ref_id": number, "ann_id": 1, "image_id": number, "sentences": sentences, "bbox": BOX, "category_id": 1,
            "raw_anns": json.dumps(annotation), "raw_image_info": json.dumps(info),
            "image_path": f"coco/train2014/{name}", "raw_sentences": json.dumps(sentences), "captions": ["a"],
            "file_name": name.replace(".jpg", "_1.jpg"), "global_image_id": f"coco.{number}",
        }  # fmt: skip

    return DataConfig(root=str(saved(root, row, val="validation")), images=str(root))


def of_hub_evaluation(root: Path) -> DataConfig:
    """lmms-lab/RefCOCO: the question is a prompt, the answers are the sentences."""

    def row(name: str) -> dict[str, Any]:
        return {
            "question_id": name, "image": None, "question": "Please describe the marked area.",
            "answer": ["the left square", "square"], "segmentation": SQUARE, "bbox": XYWH, "iscrowd": 0,
            "file_name": name.replace(".jpg", "_7.jpg"),
        }  # fmt: skip

    return DataConfig(root=str(saved(root, row)))


def of_hub_samples(root: Path) -> DataConfig:
    """moondream/refcoco-m: the objects of an image with their sentences and run-length codes."""
    mask = decode_shape([SQUARE], 40, 60, "")
    assert mask is not None
    code = encode_shape(mask)

    def row(name: str) -> dict[str, Any]:
        samples = [{"sentences": ["the left square", "square"], "mask": code}]
        return {"image": None, "image_id": int(name[-6:-4]), "file_name": name, "samples": samples}

    return DataConfig(root=str(saved(root, row, val="validation")))


def of_hub_benchmark(root: Path) -> DataConfig:
    """jxu124/refcoco-benchmark: the references of an image, each of two parts."""

    def row(name: str) -> dict[str, Any]:
        reference = {
            "ref_info": {"ref_id": 1, "ann_id": 1, "split": "val", "sentences": [{"sent": "square", "sent_id": 4}]},
            "ann_info": {"id": 1, "bbox": XYWH, "segmentation": [SQUARE], "category_id": 1, "image_id": 1},
        }  # fmt: skip
        info = {"file_name": name, "id": 1, **SIZE}
        return {"ref_list": [reference], "image_info": info, "image": None}

    return DataConfig(root=str(saved(root, row)))


def of_hub_captions(root: Path) -> DataConfig:
    """JierunChen/Ref-L4: one sentence a row, boxes alone, images that are only named."""

    def row(name: str) -> dict[str, Any]:
        return {
            "id": name, "caption": "the left square", "bbox": XYWH, "bbox_area": 400.0, "bbox_id": 1,
            "image_id": int(name[-6:-4]), "ori_category_id": "1", "file_name": name, "is_rewrite": False, **SIZE,
            "split": "val",
        }  # fmt: skip

    return DataConfig(root=str(saved(root, row)), images=str(root / "coco"))


ON_RAMPS: dict[Callable[[Path], DataConfig], str] = {
    of_refer: "layout refer",
    of_refer_several: "layout refer",
    of_built: "layout built",
    of_labels: "layout labels",
    of_visual_genome: "layout visual-genome",
    of_flickr30k: "layout flickr30k",
    of_json_lines: "layout jsonl",
    of_corners_in_csv: "layout jsonl",
    of_fractions: "layout jsonl",
    of_thousandths: "layout jsonl",
    of_sizes: "layout jsonl",
    of_solutions: "layout jsonl",
    of_coco: "layout coco",
    of_mdetr: "layout coco",
    of_hub_objects: "layout dataset",
    of_hub_evaluation: "layout dataset",
    of_hub_samples: "layout dataset",
    of_hub_benchmark: "layout dataset",
    of_hub_captions: "layout dataset",
}
OTHER_BOXES = {of_visual_genome: [0, 8, 10, 40], of_flickr30k: [1, 1, 40, 30]}


@pytest.mark.parametrize("write", ON_RAMPS, ids=lambda write: write.__name__.removeprefix("of_"))
def test_check_training_and_convert(
    write: Callable[[Path], DataConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    data = replace(write(tmp_path / "in"), workers=0)
    report = check(data, progress=False)
    assert not report.errors, report.errors
    notes = [finding.message for finding in report.findings if finding.severity == "note"]
    assert notes[0].startswith(ON_RAMPS[write]), "what it took"
    rows = open_split(data, "train")
    assert f"2 images, {len(rows)} expressions" in " ".join(notes)
    assert rows[0]["box_xyxy"] == pytest.approx(OTHER_BOXES.get(write, BOX))

    assert run_convert(DataConvertOptions("", str(tmp_path / "plain"), data)) == 0
    plain = DataConfig(root=str(tmp_path / "plain"), workers=0, val_split=data.val_split)
    told = ("expression", "box_xyxy", "mask", "width", "height")
    again = open_split(plain, "train")
    assert [{key: row[key] for key in told} for row in again] == [
        {key: row[key] for key in told} for row in rows
    ]
    for number, config in enumerate((data, plain)):
        assert steps(config, tmp_path / f"run{number}", masks=rows[0]["mask"] is not None) == [1]


def steps(data: DataConfig, output: Path, *, masks: bool) -> list[int]:
    """The steps that a training of one step logs."""
    recipe = small(Path(data.root), output, steps=1, warmup_steps=0, batch_size=2, micro_batch=2)
    model = replace(recipe.model, res=masks, head_groups=recipe.model.head_groups)
    recipe = replace(recipe, model=model, data=data, run=replace(recipe.run, eval_every=1))
    log = train(recipe) / "log.jsonl"
    records = [json.loads(line) for line in log.read_text().splitlines()]
    return [record["step"] for record in records if record["kind"] == "train"]


def test_a_release_of_several_sets_asks_for_one(tmp_path: Path) -> None:
    of_refer_several(tmp_path)
    report: Report = check(DataConfig(root=str(tmp_path)), progress=False)
    assert "holds several sets" in report.errors[0].message
    assert "refcocog/refs(umd).p" in report.errors[0].message


def test_an_image_in_two_folders_is_that_of_the_nearer_one(tmp_path: Path) -> None:
    """Names that are not COCO's numbers may stand for other images in other folders."""
    for folder, grey in (("train", 40), ("val", 200)):
        (tmp_path / folder).mkdir()
        Image.new("RGB", (60, 40), (grey, grey, grey)).save(tmp_path / folder / "1.png")
        content = {
            "images": [{"id": 1, "file_name": "1.png", **SIZE}],
            "annotations": [{"id": 1, "image_id": 1, "bbox": XYWH, "caption": "a"}],
        }
        (tmp_path / f"{folder}.json").write_text(json.dumps(content))
    for folder in ("train", "val"):
        row = open_split(DataConfig(root=str(tmp_path)), folder)[0]
        assert Path(row["image"]["path"]) == tmp_path / folder / "1.png"
