"""The leakage audit: which val and test images occur in what a model was trained on.

Images are recognised by COCO's number, by Flickr's number of the photograph, and without either by their path in
the data folder. What cannot be decided is reported.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import datasets

from papers_shared.doctor import Finding
from papers_shared.errors import UserError
from papers_shared.text import read_json
from plvl.config import DataConfig
from plvl.data.image_paths import COCO_NAME
from plvl.data.mixtures import ImageNumbers
from plvl.data.pixels import values_of
from plvl.data.readers import open_usable, splits_of
from plvl.data.sources.visual_genome import coco_images

SEEN = "val or test images that were seen in training"
REMEDY = "scores on them are too high; `plvl data build mixed_coco_clean` or `mixed_pretrain_clean` leaves them out"
DETECTOR = "the detector of the start weights (ViTDet-B, COCO train2017) was trained on images of val or test"
DETECTOR_REMEDY = "the paper's numbers share this; other start weights than a COCO detector's would avoid it"


@dataclass
class _Images:
    """The images of one split: (COCO's or another number, Flickr's number) -> file name."""

    files: dict[tuple[str, str], str] = field(default_factory=dict)

    def add(self, rows: datasets.Dataset) -> None:
        for image_id, photo_id, image in values_of(rows, "image_id", "photo_id", "image"):
            self.files.setdefault((image_id or str(image["path"]), photo_id), Path(str(image["path"])).name)

    def among(self, seen: ImageNumbers) -> int:
        return sum(seen.holds(*numbers) for numbers in self.files)


def audit(
    data: DataConfig, training: Sequence[str] = (), visual_genome: str = "", detector: str = ""
) -> Iterator[Finding]:
    """Compare each val and test split of a data folder with everything that is named as training data.

    Args:
        data: its `train_split` counts as training data, every other split is audited.
        training: further data folders, of which the train splits count.
        visual_genome: folder with image_data.json, or that file: all its images count.
        detector: COCO instances file of the detector's training; empty: decided by the names of the images.

    Raises:
        UserError: A folder or file cannot be read.
    """
    audited = {}
    for split in splits_of(data):
        if split != data.train_split:
            audited[split] = _Images()
            audited[split].add(open_usable(data, split)[0])
    sources = _training(data, training)
    if visual_genome:
        sources["all of Visual Genome"] = seen = ImageNumbers()
        for coco, photo in coco_images(visual_genome).values():
            seen.add(coco, photo)
    for split, images in audited.items():
        for name, seen in sources.items():
            count = images.among(seen)
            where = f"{split}: {count:,} of {len(images.files):,} images occur in {name}"
            yield Finding(
                "warning" if count else "note", where, SEEN if count else "not seen", REMEDY if count else ""
            )
        unknown = sum(not photo and not image.isdigit() for image, photo in images.files)
        if unknown:
            message = "images without a number of COCO or Flickr: identified by their paths only"
            yield Finding("note", f"{split}: {unknown:,} of {len(images.files):,}", message)
    if not audited:
        yield Finding("note", str(data.root), "no val or test split: nothing to audit")
    yield from _detector_findings(audited, detector)


def _training(data: DataConfig, folders: Sequence[str]) -> dict[str, ImageNumbers]:
    """Training images by data folder and source."""
    sources: dict[str, ImageNumbers] = defaultdict(ImageNumbers)
    for number, folder in enumerate((data.root, *folders)):
        config = replace(data, root=folder, layout="auto") if number else data
        if config.train_split not in splits_of(config):
            if number:
                raise UserError(f"{folder} has no split {config.train_split!r} to audit against")
            continue
        rows, _ = open_usable(config, config.train_split)
        for source, image_id, photo_id, image in values_of(rows, "source", "image_id", "photo_id", "image"):
            where = f"the train split, {source}" if not number else f"{folder}, {source}"
            sources[where].add(image_id or str(image["path"]), photo_id)
    return sources


def _detector_findings(audited: dict[str, _Images], detector: str) -> Iterator[Finding]:
    ids = _coco_ids(detector) if detector else set()
    for split, images in audited.items():
        total, seen, undecided = len(images.files), 0, 0
        for (image_id, _), file in images.files.items():
            match = COCO_NAME.fullmatch(file)
            if detector:
                seen += image_id in ids
            elif match and match[1]:
                seen += match[1].lower() == "train"
                undecided += match[1].lower() == "val"
            else:
                undecided += image_id.isdigit()
        if seen:
            how = f"by {detector}" if detector else "all of COCO train2014 is in train2017"
            where = f"{split}: {seen:,} of {total:,} images ({how})"
            yield Finding("warning", where, DETECTOR, DETECTOR_REMEDY)
        if undecided:
            message = "whether the detector saw these images of COCO cannot be decided by their names"
            yield Finding(
                "note",
                f"{split}: {undecided:,} of {total:,}",
                message,
                "give --detector instances_train2017.json",
            )


def _coco_ids(path: str) -> set[str]:
    content = read_json(Path(path).expanduser())
    try:
        return {str(image["id"]) for image in content["images"]}
    except (KeyError, TypeError) as error:
        raise UserError(f"{path} is not a COCO instances file: it has no `images` with `id`") from error
