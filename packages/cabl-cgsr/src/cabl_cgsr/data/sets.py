"""Columbia, COVERAGE, IMD2020, IMDLBenCo's Tp and Gt folders, and folders of one's own images."""

from __future__ import annotations

import re
from pathlib import Path

from cabl_cgsr.data.items import (
    AUTHENTIC,
    MANIPULATED,
    Item,
    Listing,
    images_in,
    mask_findings,
    mask_folders,
    mask_index,
    stem_of,
    unique_names,
)
from papers_shared.errors import UserError

COVERAGE_RESIZED = (41, 48, 55, 56, 57, 58, 59, 61, 95)
"""Forgeries whose masks have another size than their images: without them the set is the one of 91."""
COVERAGE_NAME = re.compile(r"(\d+)(t?)")


def list_columbia(base: Path, masks: bool) -> Listing:
    """`4cam_auth`, `4cam_splc` and, in it, `edgemask`; converted `_gt` masks beside them are preferred."""
    spliced = base / "4cam_splc"
    index = {}
    if masks:
        plain = mask_index(f for f in mask_folders(base, spliced) if f.name.lower() != "edgemask")
        index = mask_index([spliced / "edgemask"]) | plain
    items = _labelled(images_in(base / "4cam_auth"), AUTHENTIC, {})
    items += _labelled(images_in(spliced), MANIPULATED, index)
    return _listing("columbia", base, items, masks, index)


def list_coverage(base: Path, masks: bool, forgeries: int = 100) -> Listing:
    """`image/{n}.tif`, `image/{n}t.tif`, `mask/{n}forged.tif`; `forgeries`: 100, or the 91 that others use."""
    items = []
    index = {}
    if masks:
        index = {
            stem_of(path).lower(): path
            for path in images_in(base / "mask")
            if "forged" in stem_of(path).lower()
        }
    for path in images_in(base / "image"):
        match = COVERAGE_NAME.fullmatch(stem_of(path).lower())
        if match is None:
            raise UserError(f"{path}: COVERAGE names its images N.tif and Nt.tif; move this one away")
        number, forged = int(match[1]), bool(match[2])
        if not (forged and forgeries == 91 and number in COVERAGE_RESIZED):
            mask = index.get(f"{match[1]}forged") if forged else None
            items.append(Item(stem_of(path), path, int(forged), mask, (str(number),)))
    items.sort(key=lambda item: (item.label, int(item.origins[0])))
    unused = {} if forgeries == 91 else index
    return _listing("coverage", base, items, masks, unused)


def list_imd2020(base: Path, masks: bool) -> Listing:
    """Folders with one `*_orig` each, and manipulated images with `*_mask`."""
    items = []
    paths: set[Path] = set()
    for folder in sorted(path for path in base.iterdir() if path.is_dir()):
        files = images_in(folder)
        drawn = {stem_of(p)[:-5]: p for p in files if stem_of(p).endswith("_mask")}
        for path in files:
            stem = stem_of(path)
            if stem.endswith("_mask"):
                continue
            label = AUTHENTIC if stem.endswith("_orig") else MANIPULATED
            mask = drawn.get(stem) if masks and label else None
            items.append(Item(f"{folder.name}/{stem}", path, label, mask, (folder.name,)))
        paths |= set(drawn.values())
    items.sort(key=lambda item: item.label)
    return _listing("imd2020", base, items, masks, {str(path): path for path in paths})


def list_imdlbenco_folders(base: Path, masks: bool) -> Listing:
    """`Tp` and `Gt` paired in sorted order, and `Au` if there is one.

    Raises:
        UserError: the two folders hold different numbers of images.
    """
    tampered, drawn = images_in(base / "Tp"), images_in(base / "Gt") if masks else []
    if masks and len(tampered) != len(drawn):
        raise UserError(
            f"{base}: Tp holds {len(tampered)} images and Gt {len(drawn)}, but they are paired in sorted order: "
            "add or remove what has no partner"
        )
    items = _labelled(images_in(base / "Au"), AUTHENTIC, {})
    pairs = zip(tampered, drawn if masks else [None] * len(tampered), strict=True)
    items += [Item(stem_of(path), path, MANIPULATED, mask) for path, mask in pairs]
    return _listing(base.name.lower(), base, items, masks, {})


def list_folders(base: Path, masks: bool) -> Listing:
    """`authentic`, `manipulated` and, if there is one, `masks`; all with subfolders."""
    index = mask_index([base / "masks"]) if masks else {}
    items = _labelled(images_in(base / "authentic", recursive=True), AUTHENTIC, {})
    items += _labelled(images_in(base / "manipulated", recursive=True), MANIPULATED, index)
    return _listing(base.name, base, items, masks, index)


def _labelled(paths: list[Path], label: int, index: dict[str, Path]) -> list[Item]:
    return [Item(stem_of(path), path, label, index.get(stem_of(path).lower())) for path in paths]


def _listing(dataset: str, base: Path, items: list[Item], masks: bool, index: dict[str, Path]) -> Listing:
    findings = []
    if masks:
        findings = mask_findings(items, sorted(set(index.values()) - {item.mask for item in items}))
    return Listing(dataset, base, unique_names(items, base), tuple(findings))
