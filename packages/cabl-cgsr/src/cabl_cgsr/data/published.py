"""What is known about each released set: its counts, and the defects that everybody meets."""

from __future__ import annotations

from collections.abc import Iterator

from cabl_cgsr.data.items import MANIPULATED, Item, Listing, stem_of
from papers_shared.doctor import Finding

PUBLISHED = {
    "casia2": (7491, 5123),
    "casia1": (800, 921),
    "casia1plus": (782, 921),
    "columbia": (183, 180),
    "coverage": (100, 100),
    "imd2020": (414, 2010),
    "nist16": (560, 564),
    "dso1": (100, 100),
    "korus": (220, 220),
    "autosplice": (2273, 3621),
}
"""Authentic and manipulated images."""
VARIANTS = {
    "casia2": "others train on fewer manipulated ones: WSCL 5121, CAT-Net 5105, MVSS-Net 5063",
    "casia1": "920 of the manipulated ones have a mask in the release, WSCL scores 919; some authentic ones are in "
    "CASIAv2 too (`cabl-cgsr data check CASIA2 --against CASIA1` names them)",
    "casia1plus": "authentic images from Corel in place of CASIAv1's, some of which are in CASIAv2",
    "coverage": "others score 91 forgeries, those whose masks have their image's size "
    "(--data.coverage-forgeries 91)",
    "imd2020": "the real-life part; its 35,000 inpainted images are not used",
    "nist16": "many probes are made from one photograph: images of one origin are not known here",
    "korus": "grey in a mask, collateral damage, counts as manipulated",
}
UNMASKED = frozenset({"Sp_D_NRN_A_cha0011_sec0011_0542", "Sp_D_NRN_A_sce0011_cha0011_0542"})
"""The one image of CASIAv1 for which there is no mask in any release, under both of its names."""
DOTTED = "Sp_D_NNN_A_ani0099_ani0100.0288"
"""A name with a dot in it, at which some programs cut the suffix."""
SKIPPED = "_02437"
"""Running number of a TIFF of CASIAv2 that CAT-Net skips."""
MASK_REMEDY = {
    "casia2": "take the corrected masks (CASIA2.0-Corrected-Groundtruth): 17 published ones have another size or "
    "lie on their side",
    "casia1": "take a corrected mask, or leave the image out",
}


def counts_finding(listing: Listing, masks: bool = True) -> Finding:
    """A note or warning that compares what was found of a set with what is published.

    Args:
        masks: Whether masks were looked for.
    """
    authentic, manipulated = listing.counts
    found = f"{listing.dataset}: {authentic:,} authentic, {manipulated:,} manipulated images"
    if masks and manipulated:
        drawn = sum(item.mask is not None for item in listing.items)
        found += f", {drawn:,} of them with a mask"
    published = PUBLISHED.get(listing.dataset)
    if published is None:
        return Finding("note", found, "a set without published counts")
    variant = VARIANTS.get(listing.dataset, "")
    if published == (authentic, manipulated):
        return Finding("note", found, "as many images as published" + (f"; {variant}" if variant else ""))
    missing = authentic < published[0] or manipulated < published[1]
    message = f"published are {published[0]:,} authentic and {published[1]:,} manipulated ones"
    return Finding(
        "warning" if missing else "note",
        found,
        message + (f"; {variant}" if variant else ""),
        "metrics of a part of a set are not comparable: complete the download" if missing else "",
    )


def known_findings(items: tuple[Item, ...]) -> Iterator[Finding]:
    """Notes on images that other programs treat in their own way."""
    for item in items:
        stem = stem_of(item.image)
        if stem in UNMASKED and item.mask is None:
            message = "has no mask in any release: left out where pixels are scored (920 instead of 921)"
            yield Finding("note", str(item.image), message)
        if stem == DOTTED:
            yield Finding("note", str(item.image), "a dot inside the name: WSCL leaves this image out (919)")
        if (
            item.label == MANIPULATED
            and stem.endswith(SKIPPED)
            and item.image.suffix.lower().startswith(".tif")
        ):
            yield Finding("note", str(item.image), "CAT-Net skips this image")
