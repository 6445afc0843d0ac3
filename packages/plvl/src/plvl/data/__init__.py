"""The data sets: other people's releases -> `plvl data build` -> a memory-mapped `datasets.Dataset` -> samples.

A row is one expression: `name`, `image` ({"path", "bytes"}), `width`, `height`, `expression`, `box_xyxy` (pixels of
the picture, or None), `mask` (PNG bytes at the size of the picture, or None), `source` (the data set), `image_id`
(COCO's number where there is one), `photo_id` (Flickr's, where it is known).
"""

from plvl.data.check import check, quick_check
from plvl.data.readers import open_split, splits_of
from plvl.data.rows import load_mask, load_picture
from plvl.data.samples import GroundingSamples

__all__ = [
    "GroundingSamples",
    "check",
    "load_mask",
    "load_picture",
    "open_split",
    "quick_check",
    "splits_of",
]
