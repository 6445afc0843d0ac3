"""Published sizes of the data sets, and where each number is from."""

from __future__ import annotations

from typing import Any

BENCHMARKS = {"refcoco_unc": "refcoco", "refcocoplus_unc": "refcocoplus", "refcocog_umd": "refcocog"}
"""The data sets of the paper's tables -> the prefix of their evaluation splits in a mixture."""
PAPER = "Section 4.1 of the PLVL paper"
CARD = "TensorFlow Datasets, card of ref_coco"
SPLIT_LISTS = "split lists in use by public repositories; their sum is the paper's"
COUNTS: dict[str, dict[str, dict[str, int]]] = {
    "refcoco_unc": {
        "train": {"images": 16_994, "objects": 42_404, "expressions": 120_624},
        "val": {"images": 1_500, "objects": 3_811, "expressions": 10_834},
        "testA": {"images": 750, "objects": 1_975, "expressions": 5_657},
        "testB": {"images": 750, "objects": 1_810, "expressions": 5_095},
    },
    "refcoco_google": {
        "train": {"images": 19_213, "objects": 40_000},
        "val": {"images": 4_559, "objects": 5_000},
        "test": {"images": 4_527, "objects": 5_000},
    },
    "refcocoplus_unc": {
        "train": {"images": 16_992, "objects": 42_278, "expressions": 120_191},
        "val": {"images": 1_500, "objects": 3_805, "expressions": 10_758},
        "testA": {"images": 750, "objects": 1_975, "expressions": 5_726},
        "testB": {"images": 750, "objects": 1_798, "expressions": 4_889},
    },
    "refcocog_google": {
        "train": {"images": 24_698, "objects": 44_822, "expressions": 85_474},
        "val": {"images": 4_650, "objects": 5_000, "expressions": 9_536},
    },
    "refcocog_umd": {
        "train": {"images": 21_899, "objects": 42_226, "expressions": 80_512},
        "val": {"images": 1_300, "objects": 2_573, "expressions": 4_896},
        "test": {"images": 2_600, "objects": 5_023, "expressions": 9_602},
    },
    "flickr30k": {"val": {"images": 1_000}, "test": {"images": 1_000}},
    "visual_genome": {"train": {"images": 108_077}},
}
"""Data set -> split -> counts; what is not known is not there."""
PROVENANCE = {
    "images, objects": CARD,
    "expressions": SPLIT_LISTS,
    "totals": f"{PAPER}: RefCOCO 142,210 expressions, RefCOCO+ 141,564, RefCOCOg 95,010",
    "flickr30k": "its split lists, repository BryanPlummer/flickr30k_entities",
    "visual_genome": "card of ranjaykrishna/visual_genome on the Hugging Face Hub",
}


def counts_of(dataset: str) -> dict[str, dict[str, int]]:
    """The published counts of a data set by split; of a mixture those of its evaluation splits."""
    if dataset.startswith("mixed_"):
        return {
            f"{prefix}_{split}": counts
            for name, prefix in BENCHMARKS.items()
            for split, counts in COUNTS[name].items()
            if split != "train"
        }
    return COUNTS.get(dataset, {})


def beside_published(dataset: str, splits: dict[str, dict[str, Any]]) -> tuple[list[str], bool]:
    """A table of the counts of each split beside the published ones, and whether all agree.

    Args:
        splits: split -> `images`, `objects`, `expressions`; the published splits that are missing are listed too.
    """
    known = counts_of(dataset)
    lines, agree = [f"{'split':<18}{'images':>18}{'objects':>20}{'expressions':>22}"], True
    for split in dict.fromkeys((*splits, *known)):
        cells = []
        for what, width in (("images", 18), ("objects", 20), ("expressions", 22)):
            count, wanted = splits.get(split, {}).get(what, 0), known.get(split, {}).get(what)
            agree &= wanted in (None, count)
            cells.append(f"{f'{count:,}' if wanted is None else f'{count:,} of {wanted:,}':>{width}}")
        lines.append(f"{split:<18}{''.join(cells)}")
    return lines, agree
