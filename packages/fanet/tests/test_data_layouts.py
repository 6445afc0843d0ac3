"""Data folders as people and tools write them: what is read, and what `data check` says of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from accelerate.state import AcceleratorState
from PIL import Image

from fanet.config import DataConfig
from fanet.data import check, class_names, load_image, load_mask, open_split
from fanet.data.layouts import locate
from fanet.recipes import toy
from fanet.train import train

HEIGHT, WIDTH = 32, 48
NAMES = ("background", "bottle", "can")
BOTTLE, CAN = (4, 8, 16, 20), (24, 12, 40, 28)
"""Left, upper, right, lower of the objects of each image."""


def labels() -> np.ndarray:
    """(H, W) uint8: 1 and 2 in the two rectangles, 0 elsewhere."""
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    for number, (left, upper, right, lower) in enumerate((BOTTLE, CAN), start=1):
        mask[upper:lower, left:right] = number
    return mask


def save(path: Path, pixels: np.ndarray, palette: list[int] | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels)
    if palette:
        image.putpalette(palette)
    image.save(path)


def image(path: Path, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    save(path, pixels)


def text(path: Path, content: str, encoding: str = "utf-8") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode(encoding))


def corners(box: tuple[int, int, int, int]) -> list[int]:
    left, upper, right, lower = box
    return [left, upper, right, upper, right, lower, left, lower]


def pairs(
    root: Path,
    images: str,
    masks: str,
    splits: tuple[str, ...] = ("train", "val"),
    mask: np.ndarray | None = None,
) -> None:
    """Two images a split; `{s}` in the patterns is the split and `{n}` the number of the image."""
    for position, split in enumerate(splits):
        for number in range(2):
            image(root / images.format(s=split, n=number), 10 * position + number)
            save(root / masks.format(s=split, n=number), labels() if mask is None else mask)


def classes(root: Path, names: tuple[str, ...] = NAMES) -> None:
    text(root / "classes.txt", "\n".join(names) + "\n")


def spelled(train_name: str, val_name: str) -> Callable[[Path], None]:
    def write(root: Path) -> None:
        pairs(root, "{s}/images/{n}.png", "{s}/masks/{n}.png", (train_name, val_name))
        classes(root)

    return write


def years(root: Path) -> None:
    pairs(root, "images/{s}/{n}.jpg", "annotations/{s}/{n}.png", ("train2017", "val2017"))
    classes(root)


def suffixes(mark: str) -> Callable[[Path], None]:
    def write(root: Path) -> None:
        pairs(root, "images/{s}/{n}.jpg", "masks/{s}/{n}" + mark + ".png")
        classes(root)

    return write


def prefixes(root: Path) -> None:
    pairs(root, "{s}/images/image_{n}.jpg", "{s}/masks/mask_{n}.png")
    classes(root)


def voc(root: Path) -> None:
    """Pascal VOC as it is packed: a folder of the year, palette masks, lists."""
    base = root / "VOC2012"
    palette = [0, 0, 0, 128, 0, 0, 0, 128, 0]
    for number, name in enumerate(("2007_000032", "2007_000033", "2007_000039", "2007_000042")):
        image(base / "JPEGImages" / f"{name}.jpg", number)
        save(base / "SegmentationClass" / f"{name}.png", labels(), palette)
    text(base / "ImageSets/Segmentation/train.txt", "2007_000032\n2007_000033\n")
    text(base / "ImageSets/Segmentation/val.txt", "2007_000039\n2007_000042\n")
    classes(base)


def cvat_masks(root: Path) -> None:
    """CVAT's "Segmentation mask 1.1": colours, and the list of them."""
    colours = np.array([[0, 0, 0], [250, 50, 83], [50, 183, 250]], np.uint8)
    for split, names in (("train", ("a", "b")), ("val", ("c", "d"))):
        for number, name in enumerate(names):
            image(root / "JPEGImages" / f"{name}.jpg", 10 * len(split) + number)
            save(root / "SegmentationClass" / f"{name}.png", colours[labels()])
        text(root / f"ImageSets/Segmentation/{split}.txt", "\n".join(names) + "\n")
    lines = [
        "# label:color_rgb:parts:actions",
        "background:0,0,0::",
        "bottle:250,50,83::",
        "can:50,183,250::",
    ]
    text(root / "labelmap.txt", "\n".join(lines) + "\n")


def labelme_voc(root: Path) -> None:
    """The folder that labelme's exporter to VOC writes, without lists of names."""
    for number in range(4):
        image(root / "JPEGImages" / f"{number}.jpg", number)
        save(root / "SegmentationClassPNG" / f"{number}.png", labels(), [0, 0, 0, 128, 0, 0, 0, 128, 0])
    text(root / "class_names.txt", "_background_\nbottle\ncan\n")


def roboflow_masks(root: Path) -> None:
    """Roboflow's "Semantic Segmentation Masks"."""
    for position, split in enumerate(("train", "valid")):
        for number in range(2):
            name = f"scene-{number}_jpg.rf.{position}{number}d41d8cd98f00b204e9800998ecf8427e"
            image(root / split / f"{name}.jpg", 10 * position + number)
            save(root / split / f"{name}_mask.png", labels())
        text(root / split / "_classes.csv", "Pixel Value, Class\n0, background\n1, bottle\n2, can\n")


def camvid(root: Path) -> None:
    colours = np.array([[64, 128, 64], [192, 0, 128], [0, 128, 192]], np.uint8)
    pairs(root, "{s}/{n}.png", "{s}_labels/{n}_L.png", mask=colours[labels()])
    text(root / "class_dict.csv", "name,r,g,b\nbackground,64,128,64\nbottle,192,0,128\ncan,0,128,192\n")


def ade20k(root: Path) -> None:
    base = root / "ADEChallengeData2016"
    mask = labels() + 1
    mask[:2] = 0
    pairs(
        base,
        "images/{s}/ADE_0000000{n}.jpg",
        "annotations/{s}/ADE_0000000{n}.png",
        ("training", "validation"),
        mask,
    )
    rows = ["Idx\tRatio\tTrain\tVal\tStuff\tName"]
    rows += [f"{i}\t0.1\t1\t1\t0\t{name}" for i, name in enumerate(NAMES, start=1)]
    text(base / "objectInfo150.txt", "\n".join(rows) + "\n")


def one_list(encoding: str, line: str) -> Callable[[Path], None]:
    """One folder for all, and lists of names."""

    def write(root: Path) -> None:
        for number in range(4):
            image(
                root / "images" / f"im {number}.png" if "{n} " in line else root / "images" / f"{number}.png",
                number,
            )
            save(root / "masks" / f"{number}.png", labels())
        for split, numbers in (("train", (0, 1)), ("val", (2, 3))):
            text(root / f"{split}.txt", "\r\n".join(line.format(n=n) for n in numbers) + "\r\n", encoding)
        classes(root)

    return write


def coco_content(
    files: list[str], segmentation: Callable[[tuple[int, int, int, int]], Any], **more: Any
) -> str:
    content: dict[str, Any] = {
        "categories": [
            {"id": 1, "name": "bottle", "supercategory": ""},
            {"id": 2, "name": "can", "supercategory": ""},
        ],
        "images": [{"id": i, "file_name": f, "width": WIDTH, "height": HEIGHT} for i, f in enumerate(files)],
        "annotations": [
            {
                "id": 2 * i + k,
                "image_id": i,
                "category_id": k,
                "iscrowd": 0,
                "segmentation": segmentation(box),
            }
            for i in range(len(files))
            for k, box in enumerate((BOTTLE, CAN), start=1)
        ],
    }
    return json.dumps(content | more)


def inside(box: tuple[int, int, int, int]) -> np.ndarray:
    left, upper, right, lower = box
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[upper:lower, left:right] = True
    return mask


def run_lengths(box: tuple[int, int, int, int]) -> list[int]:
    """Lengths of runs down the columns, that of 0 first."""
    flat = inside(box).T.reshape(-1).astype(int)
    borders = [0, *np.flatnonzero(np.diff(flat)) + 1, flat.size]
    return np.diff(borders).tolist()


def compressed(box: tuple[int, int, int, int]) -> str:
    """COCO's text form of the run lengths, written as its description says."""
    lengths, out = run_lengths(box), ""
    for position, length in enumerate(lengths):
        value = length - lengths[position - 2] if position > 2 else length
        while True:
            bits, value = value & 31, value >> 5
            more = value != (-1 if bits & 16 else 0)
            out += chr((bits | 32 if more else bits) + 48)
            if not more:
                break
    return out


def coco_2017(root: Path) -> None:
    for position, split in enumerate(("train2017", "val2017")):
        names = [f"{number:012d}.jpg" for number in range(2)]
        for number, name in enumerate(names):
            image(root / split / name, 10 * position + number)
        code = lambda box: {"size": [HEIGHT, WIDTH], "counts": run_lengths(box)}  # noqa: E731
        text(root / "annotations" / f"instances_{split}.json", coco_content(names, code))
        text(root / "annotations" / f"captions_{split}.json", "{}")


def coco_compressed(root: Path) -> None:
    for position, split in enumerate(("train", "val")):
        names = [f"{number}.jpg" for number in range(2)]
        for number, name in enumerate(names):
            image(root / "images" / split / name, 10 * position + number)
        code = lambda box: {"size": [HEIGHT, WIDTH], "counts": compressed(box)}  # noqa: E731
        text(root / "annotations" / f"instances_{split}.json", coco_content(names, code))


def roboflow_coco(root: Path) -> None:
    """With the category that groups the others."""
    categories = [
        {"id": 0, "name": "waste", "supercategory": "none"},
        {"id": 1, "name": "bottle", "supercategory": "waste"},
        {"id": 2, "name": "can", "supercategory": "waste"},
    ]
    for position, split in enumerate(("train", "valid", "test")):
        names = [f"{number}_jpg.rf.{position}abc{number}.jpg" for number in range(2)]
        for number, name in enumerate(names):
            image(root / split / name, 10 * position + number)
        content = coco_content(names, lambda box: [corners(box)], categories=categories)
        text(root / split / "_annotations.coco.json", content)


def label_studio_coco(root: Path) -> None:
    names = [f"{number}.png" for number in range(4)]
    for number, name in enumerate(names):
        image(root / "images" / name, number)
    content = coco_content([f"images\\{name}" for name in names], lambda box: [corners(box)])
    text(root / "result.json", content)


def label_studio(root: Path) -> None:
    """Polygons in percent, and the address of an upload."""
    tasks = []
    for number in range(4):
        image(root / "images" / f"{number}.jpg", number)
        results = []
        for name, box in (("bottle", BOTTLE), ("can", CAN)):
            points = np.array(corners(box)).reshape(-1, 2) * 100 / [WIDTH, HEIGHT]
            value = {"points": points.tolist(), "closed": True, "polygonlabels": [name]}
            result = {
                "id": name,
                "type": "polygonlabels",
                "from_name": "label",
                "to_name": "image",
                "value": value,
            }
            results.append(result | {"original_width": WIDTH, "original_height": HEIGHT, "image_rotation": 0})
        address = f"/data/upload/1/0a1b2c3d-{number}.jpg"
        tasks.append(
            {"id": number, "data": {"image": address}, "annotations": [{"id": 1, "result": results}]}
        )
    image(root / "images" / "undone.jpg", 9)
    tasks.append({"id": 9, "data": {"image": "/data/upload/1/0a1b2c3d-undone.jpg"}, "annotations": []})
    text(root / "project-1-at-2025-01-01-00-00-0a1b2c3d.json", json.dumps(tasks))


def yolo_line(number: int, box: tuple[int, int, int, int]) -> str:
    points = np.array(corners(box)).reshape(-1, 2) / [WIDTH, HEIGHT]
    return f"{number} " + " ".join(f"{value:.6f}" for value in points.reshape(-1))


def yolo_labels(path: Path) -> None:
    text(path, "\n".join(yolo_line(number, box) for number, box in enumerate((BOTTLE, CAN))) + "\n")


def roboflow_yolo(root: Path) -> None:
    for position, split in enumerate(("train", "valid")):
        for number in range(2):
            image(root / split / "images" / f"{number}.jpg", 10 * position + number)
            yolo_labels(root / split / "labels" / f"{number}.txt")
    text(
        root / "data.yaml",
        "train: ../train/images\nval: ../valid/images\n\nnc: 2\nnames: ['bottle', 'can']\n",
    )


def ultralytics(root: Path) -> None:
    for position, split in enumerate(("train", "val")):
        for number in range(2):
            image(root / "images" / split / f"{number}.jpg", 10 * position + number)
            yolo_labels(root / "labels" / split / f"{number}.txt")
    names = "names:\n  0: bottle\n  1: can\n"
    text(root / "set.yaml", f"path: ../datasets/set\ntrain: images/train\nval: images/val\n{names}")


def label_studio_yolo(root: Path) -> None:
    for number in range(4):
        image(root / "images" / f"0a1b2c3d-{number}.jpg", number)
        yolo_labels(root / "labels" / f"0a1b2c3d-{number}.txt")
    text(root / "classes.txt", "bottle\ncan\n")
    categories = [{"id": 0, "name": "bottle"}, {"id": 1, "name": "can"}]
    text(root / "notes.json", json.dumps({"categories": categories, "info": {"contributor": "Label Studio"}}))


def cvat_yolo(root: Path) -> None:
    """CVAT's "Ultralytics YOLO Segmentation": lists of images."""
    for position, split in enumerate(("train", "val")):
        for number in range(2):
            image(root / "images" / split / f"{number}.jpg", 10 * position + number)
            yolo_labels(root / "labels" / split / f"{number}.txt")
        text(root / f"{split}.txt", "".join(f"data/images/{split}/{number}.jpg\n" for number in range(2)))
    text(root / "data.yaml", "names:\n  0: bottle\n  1: can\npath: .\ntrain: train.txt\nval: val.txt\n")


def cvat_camvid(root: Path) -> None:
    colours = np.array([[0, 0, 0], [250, 50, 83], [50, 183, 250]], np.uint8)
    for number in range(4):
        image(root / "default" / f"{number}.png", number)
        save(root / "defaultannot" / f"{number}.png", colours[labels()])
    text(root / "default.txt", "".join(f"/default/{n}.png /defaultannot/{n}.png\n" for n in range(4)))
    text(root / "label_colors.txt", "0 0 0 background\n250 50 83 bottle\n50 183 250 can\n")


def pets(root: Path) -> None:
    """The Oxford-IIIT pets: masks one folder further down, and all in the folder of an archive."""
    for number in range(4):
        image(root / "unpacked/pets/images" / f"Bengal_{number}.jpg", number)
        save(root / "unpacked/pets/annotations/trimaps" / f"Bengal_{number}.png", labels())
    text(root / "unpacked/pets/annotations/list.txt", "#Image CLASS-ID SPECIES BREED ID\n")
    classes(root / "unpacked/pets")


def saved(root: Path) -> None:
    """A data set in the columns of the Hub's segmentation sets."""
    rows = {}
    for position, split in enumerate(("train", "validation")):
        files = []
        for number in range(2):
            image(root.parent / f"{split}{number}.png", 10 * position + number)
            files.append(str(root.parent / f"{split}{number}.png"))
        save(root.parent / "mask.png", labels())
        columns = {"pixel_values": files, "annotation": [str(root.parent / "mask.png")] * 2, "id": [3, 4]}
        one = datasets.Dataset.from_dict(columns).cast_column("pixel_values", datasets.Image())
        rows[split] = one.cast_column("annotation", datasets.Image())
    datasets.DatasetDict(rows).save_to_disk(str(root))
    classes(root)


SHARE = {"val_share": 0.5}
LAYOUTS: dict[str, tuple[Callable[[Path], None], str, dict[str, Any]]] = {
    "train and valid": (spelled("train", "valid"), "folders", {}),
    "Training and Validation": (spelled("Training", "Validation"), "folders", {}),
    "names of one's own": (spelled("one", "two"), "folders", {"train_split": "one", "val_split": "two"}),
    "years": (years, "official", {}),
    "a_mask.png": (suffixes("_mask"), "official", {}),
    "a_gt.png": (suffixes("_gt"), "official", {}),
    "a.jpg.png": (suffixes(".jpg"), "official", {}),
    "mask_1.png": (prefixes, "folders", {}),
    "unsplit": (
        lambda root: (pairs(root, "images/{s}{n}.jpg", "masks/{s}{n}.png"), classes(root))[0],
        "folders",
        SHARE,
    ),
    "list with a mark": (one_list("utf-8-sig", "{n}"), "folders", {}),
    "list of PowerShell": (one_list("utf-16", "{n}.png"), "folders", {}),
    "list of pairs": (one_list("utf-8", "images/{n}.png masks/{n}.png"), "folders", {}),
    "Pascal VOC": (voc, "voc", {}),
    "CVAT masks": (cvat_masks, "voc", {}),
    "labelme VOC": (labelme_voc, "voc", SHARE),
    "Roboflow masks": (roboflow_masks, "folders", {}),
    "CamVid": (camvid, "folders", {}),
    "Oxford pets": (pets, "folders", SHARE),
    "CVAT CamVid": (cvat_camvid, "folders", SHARE),
    "Label Studio YOLO": (label_studio_yolo, "yolo", SHARE),
    "CVAT YOLO": (cvat_yolo, "yolo", {}),
    "COCO 2017": (coco_2017, "coco", {}),
    "COCO compressed": (coco_compressed, "coco", {}),
    "Roboflow COCO": (roboflow_coco, "coco", {}),
    "Label Studio COCO": (label_studio_coco, "coco", SHARE),
    "Label Studio": (label_studio, "label_studio", SHARE),
    "Roboflow YOLO": (roboflow_yolo, "yolo", {}),
    "Ultralytics": (ultralytics, "yolo", {}),
    "columns of the Hub": (saved, "dataset", {}),
}


def config(root: Path, **options: Any) -> DataConfig:
    return DataConfig(root=str(root / "data"), cache=str(root / "cache"), workers=0, **options)


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_layout_is_read_as_its_tool_writes_it(name: str, tmp_path: Path) -> None:
    write, layout, options = LAYOUTS[name]
    write(tmp_path / "data")
    data = config(tmp_path, **options)
    assert locate(data).layout == layout
    assert class_names(data) == NAMES
    seen = []
    for split in (data.train_split, data.val_split):
        rows = open_split(data, split)
        assert len(rows) == 2
        for row in rows:
            np.testing.assert_array_equal(load_mask(row, 3), labels())
            seen.append(load_image(row).tobytes())
    assert len(set(seen)) == 4
    report = check(data, progress=False)
    assert not report.errors, report.errors
    said = "\n".join(f"{finding.source}: {finding.message}" for finding in report.findings)
    assert f"layout {layout}, 3 classes: background, bottle, can" in said
    assert "2 images; pixels: background" in said


def zerowaste(root: Path) -> None:
    pairs(root / "splits_final_deblurred", "{s}/data/0{n}_frame_1.PNG", "{s}/sem_seg/0{n}_frame_1.PNG")
    classes(root)


def cityscapes(root: Path) -> None:
    for split, city in (("train", "aachen"), ("val", "munster")):
        for number in range(2):
            name = f"{city}/{city}_000000_00001{number}"
            image(root / "leftImg8bit" / split / f"{name}_leftImg8bit.png", number)
            save(root / "gtFine" / split / f"{name}_gtFine_labelIds.png", labels() + 7)


TRAINED = {name: (write, options) for name, (write, _, options) in LAYOUTS.items()} | {
    "ADE20K": (ade20k, {}),
    "Cityscapes": (cityscapes, {}),
    "ZeroWaste": (zerowaste, {}),
}


@pytest.mark.parametrize("name", TRAINED)
def test_training_starts_on_it(name: str, tmp_path: Path) -> None:
    AcceleratorState._reset_state(reset_partial_state=True)
    write, options = TRAINED[name]
    write(tmp_path / "data")
    recipe = toy()
    run = train(
        replace(
            recipe,
            model=replace(recipe.model, decoder_channels=8, auxiliary=False, test_scale=(WIDTH, HEIGHT)),
            data=replace(config(tmp_path, **options), crop_size=32, scale=(WIDTH, HEIGHT), photometric=False),
            optim=replace(recipe.optim, batch_size=2, steps=1, warmup_steps=0),
            run=replace(recipe.run, output=str(tmp_path / "run"), eval_every=1),
        )
    )
    saved_config = json.loads((run / "best" / "config.json").read_text())["config"]
    assert saved_config["class_names"] == list(class_names(config(tmp_path, **options)))
    assert '"kind": "train", "step": 1' in (run / "log.jsonl").read_text()


def test_ids_of_ade20k_are_shifted_and_zero_is_ignored(tmp_path: Path) -> None:
    ade20k(tmp_path / "data")
    data = config(tmp_path)
    assert class_names(data) == NAMES
    expected = labels()
    expected[:2] = 255
    np.testing.assert_array_equal(load_mask(open_split(data, "val")[0], 3), expected)
    expected[:2] = 7
    row = open_split(replace(data, ignore_index=7), "val")[0]
    np.testing.assert_array_equal(load_mask(row, 3, ignore_index=7), expected)


def test_labels_of_cityscapes_become_its_19_classes(tmp_path: Path) -> None:
    stored = np.full((HEIGHT, WIDTH), 7, np.uint8)  # road
    stored[:4], stored[4:8], stored[8:12] = 33, 0, 34 - 1  # bicycle, unlabelled, bicycle
    for split, city in (("train", "aachen"), ("val", "munster")):
        name = f"{city}/{city}_000000_000019"
        image(tmp_path / "data/leftImg8bit" / split / f"{name}_leftImg8bit.png", len(split))
        save(tmp_path / "data/gtFine" / split / f"{name}_gtFine_labelIds.png", stored)
        save(
            tmp_path / "data/gtFine" / split / f"{name}_gtFine_instanceIds.png",
            stored.astype(np.uint16) * 1000,
        )
        text(tmp_path / "data/gtFine" / split / f"{name}_gtFine_polygons.json", "{}")
    data = config(tmp_path)
    assert (locate(data).layout, len(class_names(data))) == ("cityscapes", 19)
    mask = load_mask(open_split(data, "train")[0], 19)
    assert [mask[row, 0] for row in (0, 5, 20)] == [18, 255, 0]
    report = check(data, progress=False)
    assert not report.errors
    unused = [
        finding.source for finding in report.findings if finding.message == ".json files that are not used"
    ]
    assert unused == [
        f"gtFine/{split}/{city} (1: {city}_000000_000019_gtFine_polygons.json)"
        for split, city in (("train", "aachen"), ("val", "munster"))
    ]


def test_zerowaste_without_a_test_split(tmp_path: Path) -> None:
    pairs(
        tmp_path / "data/splits_final_deblurred", "{s}/data/0{n}_frame_1.PNG", "{s}/sem_seg/0{n}_frame_1.PNG"
    )
    data = config(tmp_path)
    assert locate(data).layout == "zerowaste"
    assert not check(data, progress=False).errors


def test_a_brush_of_label_studio_is_unpacked(tmp_path: Path) -> None:
    bits = f"{4 * HEIGHT * WIDTH:032b}" + f"{7:05b}" + "".join(f"{width - 1:04b}" for width in (3, 4, 8, 16))
    painted = np.zeros((HEIGHT, WIDTH), bool)
    painted[4:6, 3:9] = True
    values = np.repeat(painted.reshape(-1, 1) * 255, 4, axis=1).reshape(-1)
    start = 0
    for end in [*(np.flatnonzero(np.diff(values)) + 1), len(values)]:
        while start < end:
            length = min(end - start, 2**16)
            bits += "1" + f"{3:02b}" + f"{length - 1:016b}" + f"{values[start]:08b}"
            start += length
    bits += "0" * (-len(bits) % 8)
    code = [int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)]
    value = {"format": "rle", "rle": code, "brushlabels": ["bottle"]}
    result = {"type": "brushlabels", "value": value, "original_width": WIDTH, "original_height": HEIGHT}
    tasks = []
    for number in range(2):
        image(tmp_path / "data" / f"{number}.jpg", number)
        query = f"/data/local-files/?d=photos/{number}.jpg"
        tasks.append({"id": number, "data": {"image": query}, "annotations": [{"result": [result]}]})
    text(tmp_path / "data/export.json", json.dumps(tasks))
    rows = open_split(config(tmp_path, val_share=0.5), "train")
    np.testing.assert_array_equal(load_mask(rows[0], 2), painted)


@pytest.mark.parametrize(("rule", "winner"), [("class", 2), ("order", 1), ("area", 1)])
def test_which_object_wins_where_two_overlap(rule: str, winner: int, tmp_path: Path) -> None:
    big, small = [2, 2, 30, 2, 30, 30, 2, 30], [10, 10, 20, 10, 20, 20, 10, 20]
    annotations = [
        {"id": 1, "image_id": 0, "category_id": 2, "segmentation": [big]},
        {"id": 2, "image_id": 0, "category_id": 1, "segmentation": [small]},
    ]
    for split in ("train", "val"):
        image(tmp_path / "data" / split / "a.jpg", len(split))
        content = coco_content(["a.jpg"], lambda box: [], annotations=annotations)
        text(tmp_path / "data" / split / "_annotations.coco.json", content)
    data = config(tmp_path, overlap=rule)
    assert load_mask(open_split(data, "train")[0], 3)[15, 15] == winner
    hidden = [f.source for f in check(data, progress=False).findings if "not seen" in f.message]
    assert len(hidden) == (2 if rule == "class" else 0)


def test_a_share_is_set_aside_by_origin_and_seed(tmp_path: Path) -> None:
    root = tmp_path / "data"
    for video in range(6):
        for frame in range(3):
            image(root / "images" / f"{video:02d}_frame_{frame:06d}.png", 10 * video + frame)
            save(root / "masks" / f"{video:02d}_frame_{frame:06d}.png", labels())
    classes(root)

    def parts(**options: Any) -> tuple[set[str], set[str]]:
        data = config(tmp_path, val_share=0.34, **options)
        train_names, val_names = (set(open_split(data, split)["name"]) for split in ("train", "val"))
        assert len(train_names | val_names) == len(train_names) + len(val_names) == 18
        return train_names, val_names

    train_names, val_names = parts()
    assert len(val_names) == 6
    assert not {name[:2] for name in train_names} & {name[:2] for name in val_names}
    assert parts() == (train_names, val_names)
    assert any(parts(val_seed=seed)[1] != val_names for seed in range(1, 4))
