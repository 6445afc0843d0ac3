"""Which layout a data folder has, and the list of its images. Nothing here decodes one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fanet.config import DataConfig, ModelConfig, Recipe
from fanet.data.codes import Codes
from fanet.data.hub import HubSource
from fanet.data.sources.base import WHOLE, FileSource, Item, Listing, Source, subfolders
from fanet.data.sources.class_folders import ClassFolders
from fanet.data.sources.coco import Coco
from fanet.data.sources.folders import Folders
from fanet.data.sources.label_studio import LabelStudio
from fanet.data.sources.splits import matching, origins_of, usual
from fanet.data.sources.yolo import Yolo
from fanet.drawing import class_palette
from papers_shared.doctor import Finding
from papers_shared.entries import shown
from papers_shared.errors import UserError
from papers_shared.held_out import check_share, divided
from papers_shared.ranges import Names

LISTING_FORMAT = 2
MOST_CLASSES = 255
DRAWN: tuple[type[FileSource], ...] = (Coco, Yolo, LabelStudio)
"""Layouts whose masks are drawn from objects."""
FOLDER_LAYOUTS = ("zerowaste", "official", "folders", "voc", "cityscapes")


@dataclass(frozen=True)
class Split:
    """The images of one split with their masks or labels, in the order of their names."""

    source: Source
    name: str
    items: tuple[Item, ...]
    findings: tuple[Finding, ...]
    """What is wrong already: missing pairs, two images of one name, annotations that cannot be read."""
    files: tuple[Path, ...]
    """Files that were read beside images and masks: annotations, lists."""
    codes: Codes | None
    """What the stored values of the masks mean; None: class ids."""
    key: str
    """Changes with the names, sizes and times of change of the files, and with what they are taken for."""

    @property
    def drawn(self) -> bool:
        """Whether the masks are drawn from objects."""
        return isinstance(self.source, DRAWN)


def locate(data: DataConfig) -> Source:
    """Find the splits in or below `data.root` and recognise the layout.

    Raises:
        UserError: There is no such folder, or no layout fits.
    """
    if not data.root:
        raise UserError(
            "no data folder given: add --data.root FOLDER (`fanet data toy FOLDER` writes a toy one)"
        )
    try:
        root = Path(data.root).expanduser()
        found = root.is_dir()
    except (OSError, RuntimeError, ValueError) as error:  # too long a name, no such user, a NUL
        raise UserError(f"--data.root {shown(data.root)} is no path ({error})") from None
    if data.layout == "dataset":
        return HubSource(root, data)
    if not found:
        if root.exists():
            raise UserError(f"{root} is a file: point --data.root at the data folder")
        hub = "; for a data set of the Hub add --data.layout dataset" if not root.is_absolute() else ""
        raise UserError(f"the data folder {root} does not exist: check --data.root{hub}")
    for base in _bases(root):
        if source := _recognise(base.resolve(), data):
            return source
    if data.layout != "auto":
        raise UserError(f"{root} does not have the layout {data.layout!r}: DATA.md describes the layouts")
    extra = "; it holds labels.json but no images" if (root / "labels.json").is_file() else ""
    raise UserError(
        f"{root} has none of the known layouts (SPLIT/data + sem_seg, images/SPLIT + annotations/SPLIT, SPLIT/images + "
        f"SPLIT/masks, images + masks, VOC, COCO, YOLO, Label Studio, SPLIT/CLASS, save_to_disk){extra}: point "
        "--data.root at the folder that holds the splits; DATA.md describes the layouts"
    )


def splits_of(data: DataConfig) -> tuple[str, ...]:
    """The splits that exist, as the folder names them, or as `--data.val-share` makes them."""
    source = locate(data)
    order = ("train", "val", "test", "")
    present = sorted(source.splits, key=lambda split: order.index(usual(split)))
    if not data.val_share:
        return tuple(present)
    whole = _whole(source, data)
    return (data.train_split, data.val_split, *(name for name in present if name != whole))


def list_split(data: DataConfig, split: str) -> Split:
    """The images of a split with their masks (or labels).

    Raises:
        UserError: The split does not exist or holds no image, or a file that describes it cannot be read.
    """
    source = locate(data)
    if not isinstance(source, FileSource):
        raise TypeError("the rows of a data set are no files")
    names = class_names(data)
    if not isinstance(source, ClassFolders):
        check_classes(names)
    own = own_split(source, data, split)
    found = source.read(own, names)
    items = tuple(sorted(found.items, key=lambda item: item.name))
    items = tuple(items[index] for index in part_of(source, data, split, [item.name for item in items]))
    if not items and not any(finding.severity == "error" for finding in found.findings):
        raise UserError(f"no image of the split {split!r} in {source.base}")
    stamp = [
        LISTING_FORMAT,
        *(source.layout, str(source.base), own, names, data.overlap, data.ignore_index),
        *(data.mask_values, data.allow_outside, split, data.val_share, data.val_seed, data.val_split),
        *(sorted(map(str, found.stamps)), [item.name for item in items]),
    ]
    told = list(found.findings)
    if isinstance(source, DRAWN) and items and not any(item.objects for item in items):
        message = "no object can be drawn: the masks would hold background only"
        told.append(Finding("error", f"{source.base}, split {own}", message, "export polygons or masks"))
    key = hashlib.sha256(json.dumps(stamp, default=str).encode(errors="surrogateescape")).hexdigest()[:32]
    codes = _codes(source, found, data, len(names))
    return Split(source, split, items, tuple(told), found.files, codes, key)


def own_split(source: Source, data: DataConfig, split: str) -> str:
    """The data set's own name of a split; of the one that `--data.val-share` divides, for both of its parts.

    Raises:
        UserError: There is no such split, or several can be meant.
    """
    if _is_shared(data, split):
        return _whole(source, data)
    return _resolved(source, data, split)


def part_of(source: Source, data: DataConfig, split: str, names: Sequence[str]) -> list[int]:
    """Positions of the images of `split` among those of `own_split`, whose names are given.

    Raises:
        UserError: `--data.val-share` finds nothing to divide.
    """
    if not _is_shared(data, split):
        return list(range(len(names)))
    origins = names if isinstance(source, ClassFolders) else origins_of(names)
    held = f"{source.base} holds {len(names)} images of one origin"
    return divided(origins, data.val_share, data.val_seed, val=split == data.val_split, source=held)


def _is_shared(data: DataConfig, split: str) -> bool:
    return data.val_share > 0 and split in (data.train_split, data.val_split)


def _resolved(source: Source, data: DataConfig, split: str) -> str:
    found = matching(split, source.splits)
    if len(found) == 1:
        return found[0]
    option = {data.train_split: "--data.train-split", data.val_split: "--data.val-split"}.get(
        split, "--split"
    )
    if found:
        raise UserError(
            f"{source.base} has several splits for {split!r} ({', '.join(found)}): choose with {option}"
        )
    present = ", ".join(source.splits) or "none"
    remedy = ""
    if split == data.val_split or source.splits == (WHOLE,):
        remedy = (
            ": set a part of the training images aside with --data.val-share 0.1, or name one with " + option
        )
    raise UserError(f"{source.base} has no split {split!r} (there are: {present}){remedy}")


def class_names(data: DataConfig) -> tuple[str, ...]:
    """Names in id order: `data.class_names`, else those of the data set, else (its own layouts) ZeroWaste's five.

    Raises:
        UserError: Nothing names them, or they cannot be names of classes.
    """
    if data.class_names:
        return tuple(data.class_names)
    source = locate(data)
    names = source.class_names()
    if not names:
        raise UserError(
            f"the names of the classes in {source.base} are unknown: write them to {source.base / 'classes.txt'}, "
            "one a line in id order (background first), or give --data.class-names"
        )
    if allowed := Names().problem(names):
        raise UserError(f"{source.base} names the classes {shown(list(names))}: they need {allowed}")
    return names


def model_of_data(recipe: Recipe, names: tuple[str, ...]) -> ModelConfig:
    """The network's configuration with the names and colours of the data's classes, and the value it ignores.

    Raises:
        UserError: `--model.class-names` names other classes, or there are more colours than classes.
    """
    given = recipe.model.class_names
    if given and given != names:
        raise UserError(
            f"--model.class-names gives {shown(list(given))}, and the classes of the data are {shown(list(names))}: "
            "name those of the data with --data.class-names"
        )
    palette = class_palette(names, recipe.model.palette)
    return replace(
        recipe.model,
        class_names=names,
        palette=palette,
        ignore_index=recipe.data.ignore_index,
        image_size=recipe.model.image_size or recipe.data.crop_size,
    )


def _whole(source: Source, data: DataConfig) -> str:
    """The split that `--data.val-share` divides."""
    has_val = bool(matching(data.val_split, source.splits))
    check_share(source.base, data.train_split, data.val_split, has_val=has_val)
    return WHOLE if source.splits == (WHOLE,) else _resolved(source, data, data.train_split)


def check_classes(names: Sequence[str]) -> None:
    """Refuse more classes than a mask can hold.

    Raises:
        UserError: There are more than 255.
    """
    if len(names) > MOST_CLASSES:
        raise UserError(
            f"masks are 8-bit: at most {MOST_CLASSES} classes, and the data has {len(names)}: name fewer, or join some"
        )


def codes_of_options(data: DataConfig, classes: int) -> Codes:
    """What `--data.mask-values` says.

    Raises:
        UserError: It does not give one value for each of the classes.
    """
    if len(data.mask_values) != classes or len(set(data.mask_values)) < classes:
        raise UserError(
            f"--data.mask-values gives {len(set(data.mask_values))} values for {classes} classes: give one for each"
        )
    return Codes.in_order(data.mask_values)


def _codes(source: Source, found: Listing, data: DataConfig, classes: int) -> Codes | None:
    """What the stored values mean, by `--data.mask-values` or by the data set."""
    if not data.mask_values:
        return found.codes
    if isinstance(source, DRAWN):
        raise UserError(
            f"--data.mask-values is for masks in files, and those of {source.base} are drawn: leave it out"
        )
    return codes_of_options(data, classes)


def _bases(root: Path) -> Iterator[Path]:
    """The root, and where the archives of ZeroWaste and Pascal VOC put their files below it."""
    yield root
    children = list(subfolders(root).values())
    for parent in (root, *children):
        yield from (child for name, child in subfolders(parent).items() if name == "splits_final_deblurred")
    yield from (child for child in children if child.name.startswith(("zerowaste", "VOC", "ADEChallenge")))
    while len(children) == 1:  # a folder that an archive was unpacked into
        yield children[0]
        children = list(subfolders(children[0]).values())


def _recognise(base: Path, data: DataConfig) -> Source | None:
    if data.layout == "auto":
        finders: tuple[Callable[[Path, DataConfig], Source | None], ...] = (
            *(HubSource.find, Folders.find, Coco.find, Yolo.find, LabelStudio.find, ClassFolders.find),
            Folders.find_anyhow,
        )
        return next((source for find in finders if (source := find(base, data))), None)
    if data.layout in FOLDER_LAYOUTS:
        found = Folders.find_anyhow(base, data)
        return replace(found, kind=data.layout) if found else None
    kinds: tuple[type[FileSource], ...] = (ClassFolders, *DRAWN)
    return next(kind.find(base, data) for kind in kinds if data.layout == kind.LAYOUT)
