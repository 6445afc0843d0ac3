"""The data sets: a released layout on disk -> a memory-mapped `datasets.Dataset` of plain rows -> samples.

Rows have `name` (str), `image` and `mask` ({"path", "bytes"}, one of them None); those of class folders have
`label` (int) in place of `mask`.
"""

from fanet.data.check import check, quick_check
from fanet.data.layouts import class_names
from fanet.data.masks import load_mask
from fanet.data.pixels import image_size, load_image
from fanet.data.readers import open_split
from fanet.data.samples import ClassificationSamples, SegmentationSamples

__all__ = [
    "ClassificationSamples",
    "SegmentationSamples",
    "check",
    "class_names",
    "image_size",
    "load_image",
    "load_mask",
    "open_split",
    "quick_check",
]
