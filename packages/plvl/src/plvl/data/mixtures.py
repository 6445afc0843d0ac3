"""Several data sets in one folder: the mixtures of the pre-trained setting, and their clean forms.

`mixed_coco`: `train` is the train parts of RefCOCO, RefCOCO+ and RefCOCOg (umd), `val` their val parts, and each val
and test part also stands alone (refcoco_testA, refcocoplus_val, refcocog_test, ...). `mixed_pretrain` adds Visual
Genome's regions and Flickr30k's train part to `train`. Neither the paper nor the authors' repositories say whether
val and test images were taken out of their mixtures; the images of the three sets overlap across the sets, and
Visual Genome holds many of them. `_clean` leaves every sentence out of `train` whose image occurs in any val or
test part of the three, by COCO's number or by Flickr's number of the photograph.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from plvl.data.build import Plan
from plvl.data.items import Item, Listing
from plvl.data.published import BENCHMARKS

HELD_OUT = "its image is in a val or test part"


@dataclass
class ImageNumbers:
    """A set of images, known by COCO's and by Flickr's numbers."""

    images: set[str] = field(default_factory=set)
    photos: set[str] = field(default_factory=set)

    def add(self, image_id: str, photo_id: str) -> None:
        """Take one more in; empty numbers are none."""
        self.images |= {image_id} - {""}
        self.photos |= {photo_id} - {""}

    def holds(self, image_id: str, photo_id: str) -> bool:
        """Whether the image is among them by either number."""
        return image_id in self.images or photo_id in self.photos


def held_out(listings: Iterable[Listing]) -> ImageNumbers:
    """The images of all val and test parts of the benchmarks among the listings."""
    found = ImageNumbers()
    for listing in listings:
        if listing.name in BENCHMARKS:
            for split, item in listing.read():
                if split != "train":
                    found.add(item.image_id, item.photo_id)
    return found


def mixture_plan(without: ImageNumbers | None = None) -> Plan:
    """Which splits of a mixture take a item.

    Args:
        without: images that `train` must not have.
    """

    def plan(listing: Listing, split: str, item: Item) -> Sequence[str]:
        prefix = BENCHMARKS.get(listing.name)
        if split == "train":
            if without is not None and without.holds(item.image_id, item.photo_id):
                listing.leave_out(HELD_OUT)
                return ()
            return ("train",)
        if prefix is None:
            return ()
        return ("val", f"{prefix}_val") if split == "val" else (f"{prefix}_{split}",)

    return plan
