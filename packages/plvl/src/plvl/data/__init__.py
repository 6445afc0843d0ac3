"""The data sets: official releases -> `plvl data build` -> a memory-mapped `datasets.Dataset` -> samples.

A row is one sentence: `name`, `image` ({"path", "bytes"}), `width`, `height`, `expression`, `box_xyxy` (pixels of
the image, or None), `mask` (PNG bytes at the size of the image, or None), `source` (the data set), `image_id`
(COCO's number where there is one), `photo_id` (Flickr's, where it is known).
"""

from plvl.data.check import check, quick_check
from plvl.data.masks import load_mask
from plvl.data.pixels import image_size, load_image
from plvl.data.readers import open_split, splits_of
from plvl.data.samples import Collate, GroundingSamples

__all__ = [
    "Collate",
    "GroundingSamples",
    "check",
    "image_size",
    "load_image",
    "load_mask",
    "open_split",
    "quick_check",
    "splits_of",
]
