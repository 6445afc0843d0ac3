"""Whatever stands in an entry of an annotation file: it is a sound row, or one sentence that names its line."""

from __future__ import annotations

import json
import math
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from releases import SQUARE, write_image, write_refer, write_visual_genome

from papers_shared.errors import UserError
from plvl.config import DataConfig
from plvl.data.readers import open_usable


def deep(levels: int) -> list[Any]:
    found: list[Any] = []
    for _ in range(levels):
        found = [found]
    return found


NUMBERS = [0, -1, 1, 1.5, -0.0, 1e308, -1e308, math.nan, math.inf, 10**12, 10**400, -(10**30), True, False]
TEXTS = [
    "", " ", "x", "NaN", "[1, 2", "[NaN, 1, 2, 3]", "1e400 1 2 3", "\ud83d", "\0", "a\nb", "../a.png", "/etc/passwd",
    "C:\\a.png", "dead.png", "pipe.png", "folder", "empty.png", "cut.png", "eps.png", "x" * 100_000, "{" * 500,
]  # fmt: skip
LISTS = [
    [], {}, [[]], [None], [1, 2, 3], [True] * 4, [math.nan] * 4, [1e308] * 4, [10**400] * 4, ["1", "2", "3", "4"],
    [[1, 2, 3, 4]], [[1, 1, 9, 1, 9]], [[1e7, 1, 9, 1, 9, 9]], [[math.nan, 1, 9, 1, 9, 9]], [[{"x": 1}]],
    [{"sent": None}],
    {"size": [40, 60], "counts": "x"}, {"size": [40, 60], "counts": [5, -3]}, {"size": [10**6] * 2, "counts": [10**12]},
    {"counts": []}, {"bytes": None, "path": None}, deep(60), deep(400),
]  # fmt: skip
STRANGE = [None, *NUMBERS, *TEXTS, *LISTS]


def spoil(sound: dict[str, Any]) -> list[dict[str, Any]]:
    """The entry with every strange value in the place of each of its own."""
    return [{**sound, key: value} for key in sound for value in STRANGE]


def place(root: Path) -> None:
    write_image(root / "a.png")
    (root / "cut.png").write_bytes((root / "a.png").read_bytes()[:200])
    (root / "empty.png").write_bytes(b"")
    (root / "eps.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n")
    (root / "folder").mkdir()
    os.mkfifo(root / "pipe.png")
    (root / "dead.png").symlink_to("nowhere")


def of_json_lines(root: Path) -> tuple[DataConfig, str]:
    place(root)
    sound = {
        "name": "n", "image": "a.png", "expression": "x", "box": [1, 2, 30, 20], "mask": [SQUARE], "width": 60,
        "height": 40, "source": "s", "image_id": "1", "photo_id": "2", "object_id": "3",
    }  # fmt: skip
    lines = [sound, *spoil(sound), *spoil({"image": "a.png", "answer": "x", "bbox_xywh": [1, 2, 3, 4]})]
    (root / "train.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return DataConfig(root=str(root)), "train.jsonl, line "


def of_coco(root: Path) -> tuple[DataConfig, str]:
    place(root)
    sound = {
        "id": 1,
        "image_id": 1,
        "caption": "x",
        "bbox": [1, 2, 3, 4],
        "segmentation": [SQUARE],
        "iscrowd": 0,
    }
    images = [{"id": 1, "file_name": "a.png", "width": 60, "height": 40}]
    for number, image in enumerate(spoil({"file_name": "a.png", "width": 60, "height": 40}), start=2):
        images.append({"id": number, **image})
    about = [{**sound, "image_id": image["id"]} for image in images]
    content = {"images": images, "annotations": [*about, *spoil(sound)]}
    (root / "train.json").write_text(json.dumps(content))
    return DataConfig(root=str(root)), "train.json, annotation "


def of_refer(root: Path) -> tuple[DataConfig, str]:
    folder = write_refer(root, "refcoco", "unc", {"train": [1]}) / "refcoco"
    (sound,) = pickle.loads((folder / "refs(unc).p").read_bytes())
    sentences = [{**sound, "sentences": [one]} for one in spoil(sound["sentences"][0])]
    (folder / "refs(unc).p").write_bytes(pickle.dumps([sound, *spoil(sound), *sentences], 2))
    return DataConfig(root=str(folder)), "refs(unc).p: reference "


def of_visual_genome(root: Path) -> tuple[DataConfig, str]:
    write_visual_genome(root, [{"image_id": 3}])
    file = root / "region_descriptions.json"
    (sound,) = json.loads(file.read_text())
    regions = [{**sound, "regions": [one]} for one in spoil(sound["regions"][0])]
    file.write_text(json.dumps([sound, *spoil(sound), *regions]))
    return DataConfig(root=str(root)), "region_descriptions.json"


@pytest.mark.parametrize(
    ("write", "least"), [(of_json_lines, 400), (of_coco, 250), (of_refer, 200), (of_visual_genome, 150)]
)
def test_a_row_or_a_sentence(
    write: Callable[[Path], tuple[DataConfig, str]], least: int, tmp_path: Path
) -> None:
    data, place_of = write(tmp_path)
    rows, broken = open_usable(data, "train")
    assert len(broken) > least
    for problem in broken:
        assert place_of in problem
        assert len(problem) < 600
        assert "\n" not in problem
    for row in rows:
        x0, y0, x1, y1 = row["box_xyxy"]
        assert all(map(math.isfinite, (x0, y0, x1, y1)))
        assert x0 < x1
        assert y0 < y1
        assert 0 < row["width"] * row["height"] <= 60 * 40
        json.dumps({**row, "mask": None}, allow_nan=False).encode()


def test_long_values_are_cut_in_messages(tmp_path: Path) -> None:
    """Names that a file gives: of a mask and of splits."""
    release = write_refer(tmp_path / "masks", "refcoco", "unc", {"train": [1]}, shape="x" * 5000)
    with pytest.raises(UserError, match="not a readable image") as raised:
        open_usable(DataConfig(root=str(release / "refcoco")), "train")
    assert len(str(raised.value)) < 600
    folder = write_refer(tmp_path / "refer", "refcoco", "unc", {"train": [1], "y" * 5000: [2]}) / "refcoco"
    with pytest.raises(UserError, match="has no split 'val'") as raised:
        open_usable(DataConfig(root=str(folder)), "val")
    assert len(str(raised.value)) < 600


def test_a_label_list_that_is_a_pipe_is_refused(tmp_path: Path) -> None:
    (tmp_path / "unc").mkdir()
    os.mkfifo(tmp_path / "unc" / "unc_train.pth")
    with pytest.raises(UserError, match="no regular file"):
        open_usable(DataConfig(root=str(tmp_path / "unc")), "train")
