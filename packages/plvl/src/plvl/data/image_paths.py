"""Where the images of a release lie."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal

from papers_shared.paths import inside
from plvl.data.pixels import Row, file_entry

Kind = Literal["coco", "flickr30k", "visual-genome", "saiapr"]
_COCO = ("train2014", "train2017", "val2014", "val2017")
FOLDERS: dict[Kind, tuple[str, ...]] = {
    "coco": (
        "",
        *(f"{above}{part}" for part in _COCO for above in ("", "mscoco/images/", "mscoco/", "coco/", "coco/images/")),
    ),
    "flickr30k": ("", "flickr30k", "flickr30k-images", "flickr30k_images", "flickr30k/flickr30k-images"),
    "visual-genome": (
        "", "VG_100K", "VG_100K_2", "visual-genome", "visual-genome/VG_100K", "visual-genome/VG_100K_2", "vg",
        "vg/VG_100K", "vg/VG_100K_2",
    ),
    "saiapr": ("", "saiapr_tc-12", "referit", "referit/images"),
}  # fmt: skip
"""Folders below an image root, in the order they are tried."""
ABOVE = ("", "images", "image_data", "other/images", "ln_data/other/images", "ln_data")
"""Folders between an image root and `FOLDERS`, as the known repositories have them."""
COCO_NAME = re.compile(r"(?:COCO_(train|val|test)(2014|2015)_)?(\d{12})(_\d+)?\.jpg", re.IGNORECASE)
"""Of an image; REFER's references have the number of an annotation behind it."""
PHOTO = re.compile(r"(\d+)_[0-9a-f]+(?:_[a-z])?\.jpg", re.IGNORECASE)


class ImageFinder:
    """Finds images by their file names below `roots`; COCO's also under its names of 2017."""

    def __init__(self, kind: Kind, roots: Sequence[str | Path], *, allow_outside: bool = False) -> None:
        bases = [Path(root).expanduser() for root in roots if str(root)]
        folders = [base / above / folder for above in ABOVE for base in bases for folder in FOLDERS[kind]]
        self.kind, self.allow_outside = kind, allow_outside
        self.folders = [folder.resolve() for folder in dict.fromkeys(folders) if folder.is_dir()]

    def entry(self, file_name: str, where: str) -> Row:
        """The `image` of a row; where there is no such image, the path where it was expected.

        Raises:
            UserError: The name is none of a file, or leads out of the folders; the message begins with `where`.
        """
        first = self.folders[0] if self.folders else Path()
        expected = inside(first, file_name, where, allow_outside=self.allow_outside)
        file_name = file_name.replace("\\", "/")
        names = [file_name]
        folder_name, _, base = file_name.rpartition("/")
        if self.kind == "coco" and (match := COCO_NAME.fullmatch(base)):
            part = f"COCO_{match[1]}{match[2]}_" if match[1] else ""
            plain = [f"{part}{match[3]}.jpg", f"{match[3]}.jpg"]
            names += [name for name in plain if name != base] + ([base] if folder_name else [])
        for name in names:
            for index, folder in enumerate(self.folders):
                if (folder / name).is_file():
                    if len(names) > 1:  # numbers of COCO are one image's in all folders, other names are not
                        self.folders.insert(0, self.folders.pop(index))
                    return file_entry(folder / name)
        if self.kind == "saiapr" and (path := self._deeper.get(Path(file_name).name)):
            return file_entry(path)
        return file_entry(expected)

    @cached_property
    def _deeper(self) -> dict[str, Path]:
        """File name -> image, anywhere below: SAIAPR TC-12 as released has numbered folders."""
        return {path.name: path for folder in reversed(self.folders) for path in folder.rglob("*.jpg")}


def coco_id(file_name: str) -> str:
    """COCO's number of an image by its file name; empty where it is not COCO's."""
    match = COCO_NAME.fullmatch(Path(file_name).name)
    return str(int(match[3])) if match else ""


def photo_of(url: object) -> str:
    """Flickr's number of the photograph at `url`; empty where there is none."""
    match = PHOTO.search(str(url or ""))
    return match[1] if match else ""
