"""The data sets: a released layout on disk -> a `datasets.Dataset` of plain rows -> pixels and samples.

Rows have `name` (str), `image` ({"path", "bytes"}), `label` (0 authentic, 1 manipulated), `dataset` (str) and, only
where masks were asked for, `mask` (like `image`, or None).
"""

from cabl_cgsr.data.check import check, quick_check
from cabl_cgsr.data.pixels import load_levels, load_mask, load_picture
from cabl_cgsr.data.readers import open_set, open_split
from cabl_cgsr.data.samples import LabelSamples

__all__ = [
    "LabelSamples",
    "check",
    "load_levels",
    "load_mask",
    "load_picture",
    "open_set",
    "open_split",
    "quick_check",
]
