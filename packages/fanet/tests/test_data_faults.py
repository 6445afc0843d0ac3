"""What strangers' files hold: each fault is one sentence that names the file, or told by the check."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from fanet.cli import main
from fanet.config import DataConfig, ModelConfig
from fanet.data import check, class_names, load_image, load_mask, open_split, quick_check
from fanet.data.cache import PixelCache
from fanet.data.layouts import model_of_data
from fanet.data.objects import runs_of
from fanet.evaluate import evaluate
from fanet.modeling.segmenter import Segmenter
from fanet.recipes import toy
from papers_shared.errors import UserError

MASK = np.zeros((16, 24), np.uint8)
MASK[2:8, 2:8], MASK[8:14, 12:20] = 1, 2


def save(path: Path, pixels: np.ndarray | Image.Image, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    (pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)).save(path, **options)
    return path


def noise(seed: int, shape: tuple[int, ...] = (16, 24, 3)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def folders(
    root: Path, mask: Callable[[Path], object] | np.ndarray = MASK, names: str = "background red green"
) -> None:
    for position, split in enumerate(("train", "val")):
        for number in range(3):
            save(root / split / "images" / f"{number}.png", noise(10 * position + number))
            path = root / split / "masks" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            mask(path) if callable(mask) else save(path, mask)
    (root / "classes.txt").write_text("\n".join(names.split()) + "\n")


def coco(root: Path, change: Callable[[dict[str, Any]], object] = lambda content: None) -> None:
    for position, split in enumerate(("train", "val")):
        content: dict[str, Any] = {"images": [], "annotations": []}
        content["categories"] = [{"id": 1, "name": "red"}, {"id": 2, "name": "green"}]
        for number in range(2):
            save(root / split / "data" / f"{number}.png", noise(10 * position + number))
            content["images"].append({"id": number, "file_name": f"{number}.png", "width": 24, "height": 16})
            for category, box in ((1, [2, 2, 8, 2, 8, 8, 2, 8]), (2, [12, 8, 20, 8, 20, 14, 12, 14])):
                key = 2 * number + category
                content["annotations"].append(
                    {"id": key, "image_id": number, "category_id": category, "segmentation": [box]}
                )
        change(content)
        (root / split / "labels.json").write_text(json.dumps(content))


def config(root: Path, **options: Any) -> DataConfig:
    return DataConfig(root=str(root / "data"), cache=str(root / "cache"), workers=0, **options)


def said(data: DataConfig) -> str:
    findings = check(data, progress=False).findings
    return "\n".join(f"{f.severity}: {f.source}: {f.message} -> {f.remedy}" for f in findings)


def first(content: dict[str, Any]) -> dict[str, Any]:
    return content["annotations"][0]


BROKEN: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "odd": (lambda c: first(c)["segmentation"][0].append(5), "annotation 1: a polygon of 9 coordinates"),
    "NaN": (
        lambda c: first(c).update(segmentation=[[float("nan"), 1, 5, 5, 9, 9]]),
        "annotation 1: nan is no number",
    ),
    "far": (
        lambda c: first(c).update(segmentation=[[-1e308, 1, 1e308, 5, 9, 9]]),
        "annotation 1: -1e[+]308 is no number",
    ),
    "null": (lambda c: first(c).update(segmentation=[[None] * 8]), "annotation 1: None is no number"),
    "words": (lambda c: first(c).update(segmentation=[["a"] * 8]), "annotation 1: 'a' is no number"),
    "no category": (
        lambda c: first(c).pop("category_id"),
        "annotation 1: 'category_id' must be text, and is missing",
    ),
    "other category": (lambda c: first(c).update(category_id=9), "annotation 1: no category has the id '9'"),
    "width": (lambda c: c["images"][0].update(width=10**6), "image 0: the width 1000000 is no whole number"),
    "quoted": (lambda c: c["images"][0].update(height="16"), "image 0: the height '16' is no whole number"),
    "runs": (
        lambda c: first(c).update(segmentation={"size": [16, 24], "counts": [3, 4]}),
        "annotation 1: the run lengths cover 7 pixels, and 16 x 24 are 384",
    ),
    "runs of another size": (
        lambda c: first(c).update(segmentation={"size": [8, 8], "counts": [64]}),
        "annotation 1: a run-length code of 8x8 pixels, and its image is 24x16",
    ),
    "climbing": (lambda c: c["images"][0].update(file_name="../../x.png"), "'../../x.png' leads outside"),
    "two images": (lambda c: c["images"][1].update(id=0), "image 0: several images have this id"),
    "empty": (lambda c: c["annotations"].clear(), "no annotation at all"),
    "shares": (
        lambda c: [a.update(segmentation=[[0.1, 0.1, 0.5, 0.1, 0.5, 0.5]]) for a in c["annotations"]],
        "all coordinates lie in 0..1: pixels are expected",
    ),
    "boxes alone": (
        lambda c: [a.update(segmentation=[]) for a in c["annotations"]],
        "no object can be drawn",
    ),
    "turned": (lambda c: c["images"][0].update(width=16, height=24), "is 16x24 pixels and its image 24x16"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_annotation_is_named_and_stops_training_alone(fault: str, tmp_path: Path) -> None:
    change, message = BROKEN[fault]
    coco(tmp_path / "data", change)
    with pytest.raises(UserError, match=message) as caught:
        open_split(config(tmp_path), "train")
    assert len(str(caught.value)) < 600
    assert main(["data", "check", str(tmp_path / "data"), "--data.cache", str(tmp_path / "cache")]) == 1


WEIRD: list[Any] = [
    *(
        None,
        True,
        -1,
        0,
        1e308,
        float("nan"),
        float("inf"),
        "",
        "x" * 5000,
        "\ud800",
        "../../etc/passwd",
        "a\0b",
    ),
    *([], {}, [[]], [None], {"a": 1}, "NaN", "1", -0.5, 2**63, [1, 2, 3], [[1, 2], [3]], 300, "None"),
]


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, one in inner for place in _places(one, (*path, key)))]


@pytest.mark.parametrize("seed", range(30))
def test_whatever_stands_in_an_annotation_file_is_a_sentence(seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)

    def change(content: dict[str, Any]) -> None:
        *path, last = rng.choice(_places(content)[1:])
        for key in path:
            content = content[key]
        content[last] = rng.choice(WEIRD)

    coco(tmp_path / "data", change)
    data = config(tmp_path)
    report = check(data, progress=False)
    json.dumps(report.to_json(), allow_nan=False)
    refused = ""
    try:
        for row in open_split(data, "train"):
            load_mask(row, len(class_names(data)))
    except UserError as error:
        refused = str(error)
    assert report.errors or not refused, f"the check says nothing of: {refused}"
    assert len(refused) <= 600


LEFT_OUT: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "of no image": (
        lambda c: first(c).update(image_id=77),
        "annotation of an image that is not listed: left out",
    ),
    "a box alone": (
        lambda c: first(c).update(segmentation=[], bbox=[1, 1, 5, 5]),
        "annotation without a shape",
    ),
    "two points": (
        lambda c: first(c).update(segmentation=[[1, 1, 5, 5]]),
        "annotation of fewer than three points",
    ),
    "outside": (
        lambda c: first(c).update(segmentation=[[40, 4, 60, 4, 60, 9]]),
        "annotation reaches beyond its image",
    ),
    "image that is gone": (
        lambda c: c["images"].append({"id": 9, "file_name": "9.png"}),
        "listed image is not there",
    ),
    "group": (
        lambda c: (
            c["categories"].insert(0, {"id": 0, "name": "all"})
            or [x.update(supercategory="all") for x in c["categories"][1:]]
        ),
        "the category 'all' only groups others and is no class",
    ),
}


@pytest.mark.parametrize("fault", LEFT_OUT)
def test_what_is_left_out_is_told_and_the_rest_is_read(fault: str, tmp_path: Path) -> None:
    change, message = LEFT_OUT[fault]
    coco(tmp_path / "data", change)
    data = config(tmp_path)
    assert message in said(data)
    assert class_names(data) == ("background", "red", "green")
    rows = open_split(data, "train")
    assert len(rows) == 2
    assert load_mask(rows[1], 3)[10, 15] == 2


@pytest.mark.parametrize("kind", [str, float])
def test_ids_are_ids_however_they_are_written(kind: type, tmp_path: Path) -> None:
    coco(tmp_path / "data", lambda c: [a.update(image_id=kind(a["image_id"])) for a in c["annotations"]])
    assert load_mask(open_split(config(tmp_path), "train")[0], 3)[4, 4] == 1


@pytest.mark.parametrize("counts", ["", "\x00", "a" * 40, "~~~", "0"])
def test_a_damaged_run_length_code_is_a_sentence(counts: str) -> None:
    with pytest.raises(UserError, match=r"^here: "):
        runs_of({"size": [4, 4], "counts": counts}, "here")


def _rows(root: Path, columns: dict[str, Any], **features: Any) -> DataConfig:
    files = [str(save(root / f"{number}.png", noise(number))) for number in range(2)]
    columns = {key: files if value == "files" else value for key, value in columns.items()}
    rows = datasets.Dataset.from_dict(columns)
    for key, feature in features.items():
        rows = rows.cast_column(key, feature)
    datasets.DatasetDict({"train": rows, "val": rows}).save_to_disk(str(root / "data"))
    return config(root, class_names=("a", "b"))


def test_a_row_without_an_image_is_named(tmp_path: Path) -> None:
    save(tmp_path / "m.png", MASK % 2)
    columns = {
        "image": [str(save(tmp_path / "0.png", noise(0))), None],
        "mask": [None, str(tmp_path / "m.png")],
    }
    data = _rows(tmp_path, columns | {"id": ["x", None]}, image=datasets.Image(), mask=datasets.Image())
    errors = [f"{f.source}: {f.message}" for f in quick_check(data, progress=False).errors]
    assert errors[0] == "train_000000: unusable mask: the row holds no image"
    assert "train_000001: unreadable image: the row holds no image" in errors
    with pytest.raises(UserError, match="the row holds no image"):
        load_image(open_split(data, "train")[1])


@pytest.mark.parametrize("label", [-1, 2, None])
def test_a_label_that_is_no_class_is_an_error(label: int | None, tmp_path: Path) -> None:
    data = _rows(tmp_path, {"image": "files", "label": [0, label]}, image=datasets.Image())
    errors = quick_check(data, progress=False).errors
    assert errors[0].message == "a label that is none of the 2 classes"


def test_fractions_are_no_labels(tmp_path: Path) -> None:
    data = _rows(tmp_path, {"image": "files", "label": [0.5, 1.0]}, image=datasets.Image())
    with pytest.raises(UserError, match="no mask and no label column"):
        open_split(data, "train")


def _pages(path: Path) -> None:
    save(path.with_suffix(".tif"), MASK, save_all=True, append_images=[Image.fromarray(MASK)])


def _plates(path: Path) -> None:
    zero = Image.fromarray(MASK * 0)
    save(path.with_suffix(".tif"), Image.merge("CMYK", [zero, zero, zero, Image.fromarray(MASK)]))


def _see_through(path: Path) -> None:
    save(path, Image.merge("LA", [Image.fromarray(MASK), Image.fromarray(MASK * 100)]))


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (_pages, "several images .pages."),
        (_plates, "colour mode CMYK"),
        (_see_through, "transparent pixels"),
        (lambda path: save(path.with_suffix(".tif"), MASK * np.float32(0.4)), "colour mode F"),
        (lambda path: save(path, noise(1)), "a colour image"),
        (lambda path: save(path, MASK.astype(np.uint16) + 999), r"values outside 0\.\.255"),
    ],
)
def test_a_mask_that_would_be_read_in_part_is_refused(mask: Any, message: str, tmp_path: Path) -> None:
    folders(tmp_path / "data", mask)
    data = config(tmp_path)
    with pytest.raises(UserError, match=message):
        quick_check(data, progress=False).raise_if_broken("fanet data check")
    assert len([f for f in check(data, progress=False).errors if "unusable mask" in f.message]) == 6
    with pytest.raises(UserError, match=message):
        load_mask(open_split(data, "train")[0], 3)


@pytest.mark.parametrize("depth", ["1", "P", "L", "LA", "RGBA", "I;16"])
def test_modes_that_hold_ids_are_read(depth: str, tmp_path: Path) -> None:
    mask = MASK if depth != "1" else np.minimum(MASK, 1)
    picture = {
        "1": Image.fromarray(mask.astype(bool)),
        "LA": Image.merge("LA", [Image.fromarray(mask), Image.new("L", (24, 16), 255)]),
        "RGBA": Image.merge("RGBA", [Image.fromarray(mask)] * 3 + [Image.new("L", (24, 16), 255)]),
        "I;16": Image.fromarray(mask.astype(np.uint16)),
    }.get(depth, Image.fromarray(mask))
    if depth == "P":
        picture.putpalette([9, 9, 9, 200, 0, 0, 0, 200, 0])
    folders(tmp_path / "data", lambda path: save(path, picture))
    np.testing.assert_array_equal(load_mask(open_split(config(tmp_path), "train")[0], 3), mask)


STORED = {
    "black and white": (np.minimum(MASK, 1) * 255, "a b", "--data.mask-values 0 255"),
    "grey levels": (MASK * 100, "a b c", "--data.mask-values 0 100 200"),
    "ids from 1": (MASK + 1, "a b c", "--data.mask-values 1 2 3"),
    "0 for unlabelled": (
        np.where(MASK + 1 == 1, 0, MASK) + (MASK[::-1] == 2),
        "a b",
        "--data.mask-values 1 2 --data.ignore-index 0",
    ),
    "254 to ignore": (np.where(MASK == 2, 254, MASK), "a b", "--data.ignore-index 254"),
}


@pytest.mark.parametrize("stored", STORED)
def test_the_check_proposes_the_option_that_mends_the_values(stored: str, tmp_path: Path) -> None:
    mask, names, option = STORED[stored]
    folders(tmp_path / "data", mask.astype(np.uint8), names)
    assert check(config(tmp_path), progress=False).errors
    assert option in said(config(tmp_path))
    options: dict[str, Any] = {}
    for part in option.removeprefix("--data.").split(" --data."):
        key, *values = part.split()
        numbers = tuple(map(int, values))
        options[key.replace("-", "_")] = numbers if key == "mask-values" else numbers[0]
    data = config(tmp_path, **options)
    assert not check(data, progress=False).errors
    assert not quick_check(data, progress=False).errors


def test_inverted_masks_are_suspected(tmp_path: Path) -> None:
    folders(tmp_path / "data", (MASK == 0).astype(np.uint8) | (MASK == 2), "background object")
    assert "inverted masks? -> if black and white are exchanged: --data.mask-values 1 0" in said(
        config(tmp_path)
    )


def test_everything_in_a_folder_is_used_or_named(tmp_path: Path) -> None:
    root = tmp_path / "data"
    folders(root)
    (root / "notes.docx").write_text("x")
    (root / "train" / "images" / ".DS_Store").write_bytes(b"x")
    (root / "train" / "images" / "._0.png").write_bytes(b"x")
    (root / "train" / "images" / "0.xml").write_text("x")
    save(root / "extra" / "9.png", noise(99))
    os.symlink(root / "nowhere.png", root / "val" / "images" / "9.png")
    text = said(config(tmp_path))
    assert "note: . (1: notes.docx): .docx files that are not used" in text
    assert "note: train/images (1: 0.xml): .xml files that are not used" in text
    assert "warning: extra (1: 9.png): .png files that are not used" in text
    assert "9.png: a link to nothing" in text
    assert "DS_Store" not in text
    assert "._0" not in text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"0\n1\n77\n", "'77' is listed, and no image has this name"),
        ("0\n\u00e9\n".encode("latin-1"), "line 2, is not text in UTF-8"),
        (b"0\n../../etc/passwd\n", "leads outside"),
        (b"0\n/etc/passwd\n", "leads outside"),
    ],
)
def test_a_list_is_read_whole_or_refused(content: bytes, message: str, tmp_path: Path) -> None:
    root = tmp_path / "data"
    for number in range(3):
        save(root / "images" / f"{number}.png", noise(number))
        save(root / "masks" / f"{number}.png", MASK)
    (root / "classes.txt").write_text("a\nb\nc\n")
    (root / "train.txt").write_bytes(content)
    (root / "val.txt").write_bytes(b"\xef\xbb\xbf2\r\n")
    assert open_split(config(tmp_path), "val")["name"][:] == ["2"]
    with pytest.raises(UserError, match=message):
        open_split(config(tmp_path), "train")
    assert message.replace("/", "/") in said(config(tmp_path)) or "leads outside" in said(config(tmp_path))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xef\xbb\xbfbackground\nred\ngreen\n", ""),
        ("background\nred\ngreen\n".encode("utf-16"), ""),
        ("fond\nrouge\nfonc\u00e9\n".encode("latin-1"), "line 3, is not text"),
        (b"\n\n", "names no class"),
        (b"a\na\nb\n", "each name once"),
    ],
)
def test_classes_in_any_encoding(content: bytes, message: str, tmp_path: Path) -> None:
    folders(tmp_path / "data")
    (tmp_path / "data" / "classes.txt").write_bytes(content)
    if message:
        with pytest.raises(UserError, match=message):
            class_names(config(tmp_path))
    else:
        assert class_names(config(tmp_path)) == ("background", "red", "green")


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", "late.png"])
def test_an_image_that_exif_turns_needs_a_turned_mask(suffix: str, tmp_path: Path) -> None:
    folders(tmp_path / "data")
    (tmp_path / "data/train/images/2.png").unlink()
    exif = Image.Exif()
    exif[0x0112] = 6
    file = tmp_path / "data/train/images" / f"2{suffix.removeprefix('late')}"
    if suffix == "late.png":
        Image.fromarray(noise(2)).save(file)
        content = file.read_bytes()
        chunks = PngImagePlugin.Image.Exif()
        chunks[0x0112] = 6
        body = chunks.tobytes().removeprefix(b"Exif\0\0")
        import zlib

        block = len(body).to_bytes(4, "big") + b"eXIf" + body + zlib.crc32(b"eXIf" + body).to_bytes(4, "big")
        file.write_bytes(content[:-12] + block + content[-12:])
    else:
        save(file, noise(2), exif=exif)
    data = config(tmp_path)
    row = open_split(data, "train")[2]
    assert load_image(row).shape[:2] == (24, 16)
    with pytest.raises(UserError, match="24x16 pixels and its image 16x24"):
        load_mask(row, 3)
    assert quick_check(data, progress=False).errors
    save(tmp_path / "data/train/masks/2.png", np.rot90(MASK, -1).copy())
    assert load_mask(open_split(data, "train")[2], 3).shape == (24, 16)
    assert not quick_check(data, progress=False).errors
    if suffix == ".jpg":
        assert "1 images: 2): images that their EXIF block turns" in said(data)


def test_one_bad_image_does_not_end_an_evaluation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders(tmp_path / "data", names="background red green")
    names = ("background", "red", "green")
    options = {"decoder_channels": 8, "auxiliary": False, "test_scale": (32, 32), "class_names": names}
    model = ModelConfig(backbone="test_fanet", ignore_index=2, **options)  # type: ignore[arg-type]
    segmenter = Segmenter.from_config(model)
    segmenter.save_pretrained(tmp_path / "model")
    whole = (tmp_path / "data/val/images/1.png").read_bytes()
    (tmp_path / "data/val/images/1.png").write_bytes(whole[:60])
    command = ["evaluate", str(tmp_path / "model"), "--data.root", str(tmp_path / "data"), "--split", "valid"]
    command += [
        "--data.cache",
        str(tmp_path / "cache"),
        "--data.workers",
        "0",
        "--output",
        str(tmp_path / "e.json"),
    ]
    assert main(command) == 1
    result = json.loads((tmp_path / "e.json").read_text())
    assert list(result["failed"]) == ["1"]
    assert result["images"] == 2
    assert result["ignore_index"] == 2
    assert "ignored in the masks: 2, as in the model's training" in capsys.readouterr().out
    rows = open_split(config(tmp_path), "val")
    with pytest.raises(UserError, match=r"1: .*damaged|1: .*cut off|1: .*cannot be read"):
        evaluate(segmenter, rows)
    command[command.index("valid")] = "train"
    assert main(command) == 2
    assert "holds an evaluation with split 'valid'" in capsys.readouterr().err


def test_objects_in_white_are_not_ignored_in_an_evaluation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders(tmp_path / "data", np.minimum(MASK, 1) * 255, names="background object")
    model = ModelConfig(
        backbone="test_fanet", class_names=("background", "object"), decoder_channels=8, auxiliary=False
    )
    Segmenter.from_config(model).save_pretrained(tmp_path / "model")
    command = ["evaluate", str(tmp_path / "model"), "--data.root", str(tmp_path / "data"), "--split", "val"]
    assert (
        main([*command, "--data.cache", str(tmp_path / "cache"), "--output", str(tmp_path / "e.json")]) == 2
    )
    assert "0/255 mask instead of class ids" in capsys.readouterr().err
    assert not (tmp_path / "e.json").exists()


@pytest.mark.parametrize(
    "option",
    [
        *("--data.crop-size 0", "--data.ratio-range 2 0.5", "--data.ratio-range nan nan", "--data.scale 0 0"),
        *("--data.flip 2", "--data.workers -7", "--data.cache-gb nan", "--model.test-divisor 0"),
        *("--model.dropout 1.5", "--model.decoder-channels 0", "--model.pool-scales 0", "--model.in-chans 1"),
        *(
            "--model.std 0 1 1",
            "--model.class-names x y z",
            "--loss.auxiliary-weight -1",
            "--model.task classify",
        ),
    ],
)
def test_an_option_out_of_range_is_refused_before_the_run_folder(
    option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders(tmp_path / "data")
    command = ["train", "toy", "--data.root", str(tmp_path / "data"), "--data.cache", str(tmp_path / "cache")]
    assert main([*command, "--run.output", str(tmp_path / "run"), *option.split()]) == 2
    assert option.split()[0] in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_given_palette_is_kept() -> None:
    from dataclasses import replace

    recipe = toy()
    colours = ((255, 0, 0), (0, 255, 0), (0, 0, 255))
    recipe = replace(recipe, model=replace(recipe.model, palette=colours))
    assert model_of_data(recipe, ("a", "b", "c")).palette == colours
    with pytest.raises(UserError, match="3 colours for 2 classes"):
        model_of_data(recipe, ("a", "b"))


def test_a_stored_array_that_is_none_is_decoded_again(tmp_path: Path) -> None:
    cache = PixelCache(tmp_path, 1.0)
    pixels = noise(3)
    np.testing.assert_array_equal(cache.read("key", lambda: pixels), pixels)
    (file,) = tmp_path.rglob("*.npy")
    for content in (b"", b"PK\3\4" + bytes(80), b"\x93NUMPY\1\0" + bytes(90), b"text"):
        file.write_bytes(content)
        np.testing.assert_array_equal(cache.read("key", lambda: pixels), pixels)
    np.save(file, np.zeros((4, 4)))
    np.testing.assert_array_equal(cache.read("key", lambda: pixels), pixels)


def test_convert_writes_one_plain_layout_and_deletes_nothing_of_others(tmp_path: Path) -> None:
    coco(tmp_path / "data")
    command = [
        "data",
        "convert",
        str(tmp_path / "data"),
        str(tmp_path / "plain"),
        "--data.cache",
        str(tmp_path / "c"),
    ]
    assert main(command) == 0
    data = DataConfig(root=str(tmp_path / "plain"), cache=str(tmp_path / "cache"))
    assert class_names(data) == ("background", "red", "green")
    for split in ("train", "val"):
        for mine, theirs in zip(open_split(data, split), open_split(config(tmp_path), split), strict=True):
            np.testing.assert_array_equal(load_image(mine), load_image(theirs))
            np.testing.assert_array_equal(load_mask(mine, 3), load_mask(theirs, 3))
    assert main(command) == 0
    (tmp_path / "plain" / "images" / "train" / "mine.png").write_bytes(b"x")
    assert main(command) == 2
    assert (tmp_path / "plain" / "images" / "train" / "mine.png").read_bytes() == b"x"
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("x")
    command[3] = str(tmp_path / "notes")
    assert main(command) == 2
    assert (tmp_path / "notes" / "a.txt").read_text() == "x"


@pytest.mark.parametrize(
    "change", [{"backbone": "hf-hub:someone/model"}, {"backbone": "local-dir:other"}, {"std": [0, 1, 1]}]
)
def test_a_model_folder_that_names_sources_or_nonsense_is_refused(
    change: dict[str, Any], tmp_path: Path
) -> None:
    model = ModelConfig(backbone="test_fanet", class_names=("a", "b"), decoder_channels=8, auxiliary=False)
    Segmenter.from_config(model).save_pretrained(tmp_path / "model")
    file = tmp_path / "model" / "config.json"
    content = json.loads(file.read_text())
    content["config"] |= {"drop_path_rate": 0.0, "pretrained": "timm"} | change
    file.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"timm knows no model|std is .*: give 0.001 to 65535 each"):
        Segmenter.from_pretrained(tmp_path / "model")
