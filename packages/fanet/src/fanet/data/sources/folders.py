"""Folders of images and folders of masks, paired by name.

    SPLIT/data + SPLIT/sem_seg                      ZeroWaste-f
    images/SPLIT + annotations/SPLIT                the authors' program, ADE20K
    SPLIT/images + SPLIT/masks
    images + masks + SPLIT.txt                      lists of names; without them the folder has no splits
    JPEGImages + SegmentationClass + ImageSets/Segmentation/SPLIT.txt    Pascal VOC, CVAT
    leftImg8bit/SPLIT/CITY + gtFine/SPLIT/CITY      Cityscapes
    SPLIT + SPLIT_labels                            CamVid
    SPLIT/a.jpg + SPLIT/a_mask.png                  Roboflow

The folders may be called otherwise, see `IMAGE_FOLDERS` and `MASK_FOLDERS`.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar, NamedTuple

from fanet.config import ZEROWASTE_CLASSES, DataConfig
from fanet.data.codes import Codes
from fanet.data.published import CITYSCAPES_CLASSES, CITYSCAPES_IDS, VOC_CLASSES
from fanet.data.sources.base import (
    WHOLE,
    FileSource,
    Folder,
    Item,
    Listing,
    has_images,
    is_file,
    stamp_of,
    stem,
    subfolders,
)
from fanet.data.sources.catalogues import Catalogue, find_catalogue
from fanet.data.sources.coco import annotation_files, classes_of, read_coco
from fanet.data.sources.splits import matching, usual
from papers_shared.doctor import Finding
from papers_shared.paths import inside
from papers_shared.text import read_text

IMAGE_FOLDERS = ("images", "image", "imgs", "img", "data", "img_dir", "jpegimages", "leftimg8bit", "rgb")
MASK_FOLDERS = (
    "masks", "mask", "annotations", "annotation", "labels", "label", "sem_seg", "segmentationclasspng",
    "segmentationclass", "ann_dir", "gt", "groundtruth", "ground_truth", "gtfine", "gtcoarse", "segmentation",
)  # fmt: skip
LISTS = ("", "ImageSets/Segmentation", "ImageSets", "splits", "lists")
IMAGE_MARK = re.compile(
    r"(?:^(?:image|img)[_-](?=.))|(?:[_-](?:image|img|sat|rgb|leftImg8bit)$)", re.IGNORECASE
)
MASK_MARK = re.compile(
    r"(?:^(?:mask|label|gt)[_-](?=.))"
    r"|(?:[_-](?:mask|masks|gt|label|labels|labeltrainids|seg|segmentation|annotation|ann|labelids|gt(?:Fine|Coarse)_labelIds|L)$)"
    r"|(?:\.(?:jpe?g|png|bmp|tiff?|webp)$)",
    re.IGNORECASE,
)
BESIDE = re.compile(r"(?P<split>.+?)[_-]?(?:labels?|annot|annotations?|masks?|gt)", re.IGNORECASE)


class Place(NamedTuple):
    """Where one split lies."""

    images: Path
    masks: Path
    list: Path | None = None
    """Names of its images, where several splits share the folders."""


@dataclass(frozen=True)
class Folders(FileSource):
    """Images and masks as files."""

    LAYOUT: ClassVar[str] = "folders"
    places: Mapping[str, Place]
    kind: str = "folders"
    """`zerowaste`, `official`, `voc`, `cityscapes` or `folders`."""

    @classmethod
    def find(cls, base: Path, data: DataConfig) -> Folders | None:
        """The source in `base`, if at least one mask is there."""
        found = cls.find_anyhow(base, data)
        return found if found and any(has_images(p.masks, deep=True) for p in found.places.values()) else None

    @classmethod
    def find_anyhow(cls, base: Path, data: DataConfig) -> Folders | None:
        """The source in `base`, where the masks may be missing."""
        asked = {data.train_split, data.val_split}
        children = subfolders(base)
        images = [children[name] for name in children if name.lower() in IMAGE_FOLDERS]
        masks = sorted(
            (children[name] for name in children if name.lower() in MASK_FOLDERS),
            key=lambda path: (not has_images(path, deep=True), MASK_FOLDERS.index(path.name.lower())),
        )
        for image_folder in images:
            for mask_folder in masks:
                kind = "voc" if image_folder.name.lower() == "jpegimages" else ""
                if places := _by_split(image_folder, mask_folder, asked):
                    city = mask_folder.name.lower() in ("gtfine", "gtcoarse")
                    return cls(base, data, places, kind or ("cityscapes" if city else "official"))
                if has_images(image_folder, deep=True) and _may_hold_masks(mask_folder):
                    lists = _lists(base, asked)
                    places = {name: Place(image_folder, mask_folder, file) for name, file in lists.items()}
                    places = places or {WHOLE: Place(image_folder, mask_folder)}
                    return cls(base, data, places, kind or "folders")
        return cls._of_splits(base, data, children, asked)

    @classmethod
    def _of_splits(
        cls, base: Path, data: DataConfig, children: Mapping[str, Path], asked: set[str]
    ) -> Folders | None:
        """Where each split is a folder of its own, or one folder holds images and masks side by side."""
        known = [name for name in children if name in asked or usual(name)]
        inner = {name: _pair_in(children[name]) for name in children}
        if known and any(inner[name] for name in known):
            places = {name: place for name, place in inner.items() if place}
            zerowaste = any(place.images.name == "data" for place in places.values())
            return cls(base, data, places, "zerowaste" if zerowaste else "folders")
        places = {}
        for name, folder in children.items():
            match = BESIDE.fullmatch(name)
            if match and has_images(folder) and match["split"] in known:
                places[match["split"]] = Place(children[match["split"]], folder)
            elif match and has_images(folder) and match["split"] == "default" and "default" in children:
                places[WHOLE] = Place(children["default"], folder)
        places = places or {
            name: Place(children[name], children[name]) for name in known if _side_by_side(children[name])
        }
        if not places and _side_by_side(base):
            places = {WHOLE: Place(base, base)}
        return cls(base, data, places) if places else None

    @property
    def layout(self) -> str:
        return self.kind

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(self.places)

    @cached_property
    def catalogue(self) -> Catalogue | None:
        """The list of classes in the base folder or a split's, else the categories of a COCO file beside the masks."""
        inner = [folder for place in self.places.values() for folder in (place.images.parent, place.images)]
        if found := find_catalogue([self.base, *inner]):
            return found
        files = annotation_files(self.base, {self.data.train_split, self.data.val_split})
        for name in matching(self.data.train_split, list(files)) or list(files):
            return Catalogue(classes_of(read_coco(files[name])), None, files[name])
        return None

    def class_names(self) -> tuple[str, ...]:
        if self.catalogue:
            return self.catalogue.names
        if self.kind == "voc":
            return VOC_CLASSES
        if self.kind == "cityscapes":
            return CITYSCAPES_CLASSES
        return ZEROWASTE_CLASSES if self.kind in ("zerowaste", "official") else ()

    def read(self, split: str, names: Sequence[str]) -> Listing:
        place = self.places[split]
        beside = place.images == place.masks
        found = Folder.scan(place.images, deep=not beside)
        truth = found if beside else Folder.scan(place.masks)
        images, masks = found.images, truth.images
        if beside:
            images, masks = _told_apart(images)
        if self.kind == "cityscapes":
            masks = {name: path for name, path in masks.items() if stem(name).endswith("_labelIds")}
        items, unused, findings = _paired(images, _aligned(masks, images))
        stamps = found.stamps if beside else found.stamps + truth.stamps
        files = [self.catalogue.file] if self.catalogue else []
        if place.list:
            files.append(place.list)
            items, told = self._listed(place, items)
            findings += told
        else:
            remedy = "add the image, or remove the mask"
            findings += [
                Finding("warning", str(f), "mask without an image: not used", remedy) for f in unused
            ]
        folder = f"{place.images} as NAME_mask.png" if beside else f"{place.masks} under the same name"
        remedy = f"put its mask into {folder}, or remove the image"
        findings += [
            Finding("error", str(i.image), "image without a mask", remedy) for i in items if i.mask is None
        ]
        findings += found.findings if beside else found.findings + truth.findings
        stamps += tuple(map(stamp_of, files))
        return Listing(tuple(items), tuple(findings), tuple(files), self._codes(), stamps)

    def _codes(self) -> Codes | None:
        if self.catalogue:
            return self.catalogue.codes
        return Codes(values=CITYSCAPES_IDS) if self.kind == "cityscapes" else None

    def _listed(self, place: Place, items: list[Item]) -> tuple[list[Item], list[Finding]]:
        """The items that the list of a split names, in the order of their names."""
        file = place.list
        assert file is not None
        index: dict[str, list[Item]] = defaultdict(list)
        folder = place.images.relative_to(self.base).as_posix()
        for item in items:
            below = item.image.relative_to(place.images).as_posix()
            names = {below, item.name}
            short = {name.rpartition("/")[2] for name in names}
            for key in names | short | {f"{folder}/{name}" for name in names}:
                index[key].append(item)
        chosen: dict[str, Item] = {}
        findings = []
        for number, line in enumerate(read_text(file).split("\n"), start=1):
            where = f"{file}, line {number}"
            if not line.strip():
                continue
            entry = self._entry(place, line.strip(), where, index)
            if isinstance(entry, Finding):
                findings.append(entry)
            elif entry.name in chosen:
                findings.append(Finding("warning", where, f"{entry.name!r} is listed twice: used once"))
            else:
                chosen[entry.name] = entry
        return [chosen[name] for name in sorted(chosen)], findings

    def _entry(
        self, place: Place, line: str, where: str, index: Mapping[str, Sequence[Item]]
    ) -> Item | Finding:
        """The item that a line of a list names: by its name, or by its path and that of its mask."""
        for name, mask in ((line, ""), _two_names(line)):
            key = name.replace("\\", "/").removeprefix("./")
            if len(index.get(key, ())) == 1:
                item = index[key][0]
                return replace(item, mask=inside(self.base, mask, where)) if mask else item
        name, mask = _two_names(line)
        path = inside(self.base, name, where, allow_outside=self.data.allow_outside)
        if self.data.allow_outside and is_file(path):
            truth = (
                [inside(self.base, mask, where, allow_outside=True)]
                if mask
                else place.masks.glob(f"{path.stem}.*")
            )
            return Item(path.stem, path, next(iter(truth), None))
        several = len(index.get(name, ())) > 1
        message = (
            f"{line[:200]!r} is listed, and {'several images have' if several else 'no image has'} this name"
        )
        return Finding("error", where, message, f"list names of images in {place.images}, one a line")


def _by_split(images: Path, masks: Path, asked: set[str]) -> dict[str, Place]:
    """images/SPLIT + masks/SPLIT."""
    inner = subfolders(images)
    truth = subfolders(masks)
    if not any((usual(name) or name in asked) and name in truth for name in inner):
        return {}
    return {name: Place(images / name, masks / name) for name in inner}


def _pair_in(folder: Path) -> Place | None:
    """SPLIT/images + SPLIT/masks; the masks may be missing beside a folder called `data`."""
    inner = subfolders(folder)
    images = next(
        (
            inner[name]
            for name in inner
            if name.lower() in IMAGE_FOLDERS and has_images(inner[name], deep=True)
        ),
        None,
    )
    masks = [inner[name] for name in inner if name.lower() in MASK_FOLDERS and _may_hold_masks(inner[name])]
    if images is None or not (masks or images.name == "data"):
        return None
    return Place(images, masks[0] if masks else folder / "sem_seg")


def _may_hold_masks(folder: Path) -> bool:
    """Whether a folder holds images or nothing at all."""
    return has_images(folder, deep=True) or not any(folder.iterdir())


def _lists(base: Path, asked: set[str]) -> dict[str, Path]:
    """The lists of names that stand for splits, by split."""
    for folder in LISTS:
        files = {path.stem: path for path in sorted((base / folder).glob("*.txt"))}
        if found := {
            name: path for name, path in files.items() if usual(name) or name in asked or name == "trainval"
        }:
            return found
    return {}


def _side_by_side(folder: Path) -> bool:
    """Whether a folder holds an image and its mask under a name made from the image's."""
    if annotation_files(folder):
        return False
    names = {stem(name) for name in Folder.scan(folder, deep=False).images}
    return any(MASK_MARK.search(name) and MASK_MARK.sub("", name) in names for name in names)


def _image_key(name: str) -> str:
    """What an image's name and that of its mask have in common."""
    folder, _, file = name.rpartition("/")
    return f"{folder}/{IMAGE_MARK.sub('', file)}"


def _mask_key(name: str) -> str:
    folder, _, file = name.rpartition("/")
    return f"{folder}/{IMAGE_MARK.sub('', MASK_MARK.sub('', file))}"


def _told_apart(files: Mapping[str, Path]) -> tuple[dict[str, Path], dict[str, Path]]:
    """Images and masks of one folder: a mask's name is made from that of an image."""
    marked = {name for name in files if MASK_MARK.search(stem(name))}
    keys = {_image_key(stem(name)) for name in files if name not in marked}
    masks = {name: path for name, path in files.items() if name in marked and _mask_key(stem(name)) in keys}
    return {name: path for name, path in files.items() if name not in masks}, masks


def _aligned(masks: Mapping[str, Path], images: Mapping[str, Path]) -> Mapping[str, Path]:
    """Masks by bare name, where all lie in a folder that no image lies in, such as `annotations/trimaps`."""
    folders = {name.rpartition("/")[0] for name in masks}
    if len(folders) != 1 or folders & {name.rpartition("/")[0] for name in images}:
        return masks
    return {name.rpartition("/")[2]: path for name, path in masks.items()}


def _paired(
    images: Mapping[str, Path], masks: Mapping[str, Path]
) -> tuple[list[Item], list[Path], list[Finding]]:
    """The images with their masks, the masks of no image, and names that several share.

    A mask of the image's own name goes before one whose name is made from it.
    """
    owners: dict[str, list[str]] = defaultdict(list)
    for name in images:
        owners[stem(name)].append(name)
    by_key: dict[str, list[str]] = defaultdict(list)
    for owner in owners:
        by_key[_image_key(owner)].append(owner)
    exact: dict[str, list[Path]] = defaultdict(list)
    made: dict[str, list[Path]] = defaultdict(list)
    unused = []
    for name, path in masks.items():
        if stem(name) in owners:
            exact[stem(name)].append(path)
        elif len(found := by_key.get(_mask_key(stem(name)), [])) == 1:
            made[found[0]].append(path)
        else:
            unused.append(path)
    unused += [path for owner in exact.keys() & made.keys() for path in made[owner]]
    truth = {**made, **exact}
    findings = [
        Finding(
            "error", owner, "several images share this name", "keep one of them, or rename image and mask"
        )
        for owner, names in owners.items()
        if len(names) > 1
    ]
    findings += [
        Finding("error", owner, f"several masks share this name in {paths[0].parent}", "keep one of them")
        for owner, paths in truth.items()
        if len(paths) > 1
    ]
    items = [
        Item(stem(name), path, truth[stem(name)][0] if stem(name) in truth else None)
        for name, path in images.items()
    ]
    return items, sorted(unused), findings


def _two_names(line: str) -> tuple[str, str]:
    """The image and the mask of a line such as `images/a.png masks/a.png`."""
    parts = re.split(r"[\s,;]+", line)
    return (parts[0], parts[1]) if len(parts) == 2 else (line, "")
