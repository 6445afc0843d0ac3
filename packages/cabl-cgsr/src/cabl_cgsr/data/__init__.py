"""The data sets: a released layout on disk -> a `datasets.Dataset` of plain rows -> pixels and samples.

Rows have `name` (str), `image` ({"path", "bytes"}), `label` (0 authentic, 1 manipulated), `dataset` (str) and, only
where masks were asked for, `mask` (like `image`, or None), `inverted` (bool) and `mask_threshold` (grey level).
"""

from cabl_cgsr.data.check import check, check_command, quick_check
from cabl_cgsr.data.masks import load_levels, load_mask
from cabl_cgsr.data.pixels import image_size, load_image
from cabl_cgsr.data.readers import ScoredSet, open_scored, open_set, training_split
from cabl_cgsr.data.samples import LabelSamples

__all__ = [
    "LabelSamples",
    "ScoredSet",
    "check",
    "check_command",
    "image_size",
    "load_image",
    "load_levels",
    "load_mask",
    "open_scored",
    "open_set",
    "quick_check",
    "training_split",
]
