"""CASIA v2.0 (training) and CASIA v1.0 (test): authentic and tampered images, facts coded in the file names.

`Tp_D_CRN_S_N_cha00063_art00014_11818.jpg` (v1: `Sp_D_CND_A_pla0005_pla0023_0281.jpg`): D was made from two
images, S from one (copy-move); the two ids are those images, the last number runs. Codes between them have
stray values and are not interpreted.

The folders are those of the releases (`Au`, `Modified Tp/Tp` or `Tp`, masks in `CASIA 1.0 groundtruth`), of the copy
on Kaggle (`CASIA1/Au`, `CASIA1/Sp`; `CASIA2/Au`, `CASIA2/Tp`) and of IMDLBenCo (`Tp`, `Gt`).
"""

from __future__ import annotations

import re
from pathlib import Path

from cabl_cgsr.data.items import (
    AUTHENTIC,
    MANIPULATED,
    Found,
    Item,
    Listing,
    folder_in,
    images_in,
    mask_findings,
    mask_folders,
    masks_in,
    unique_names,
    without_masks,
)
from cabl_cgsr.data.pairing import Numbered, Pairs, pair

TAMPERED = re.compile(
    r"(?P<set>Tp|Sp)_(?P<kind>[DS])_(?P<codes>.*?)(?P<a>[a-z]{3}\d+)_(?P<b>[a-z]{3}\d+)[_.](?P<number>\d+)$",
    re.IGNORECASE,
)
SOURCE = re.compile(r"Au_([a-z]{3})_(\d+)$", re.IGNORECASE)
TAMPERED_FOLDERS = ("Modified Tp", "Tp", "Sp")


def casia_kind(base: Path) -> str:
    """casia2, casia1 or casia1plus by the folders and names below `base`; empty if it is none of them."""
    tampered, _ = _tampered(base)
    authentic = images_in(folder_in(base, "Au") or base / "Au")
    for prefix, kind in (("tp_", "casia2"), ("sp_", "casia1")):
        if tampered and sum(one.stem.lower().startswith(prefix) for one in tampered) * 2 > len(tampered):
            named = sum(bool(SOURCE.match(one.stem)) for one in authentic)
            plus = kind == "casia1" and authentic and named * 2 < len(authentic)
            return "casia1plus" if plus else kind
    return ""


def list_casia(base: Path, kind: str, masks: bool) -> Listing:
    """The images below `base`, with their masks if asked for."""
    tampered, former = _tampered(base)
    tampered, beside = without_masks(tampered)
    pairs = Pairs()
    if masks:
        folders = mask_folders(base, base.parent, digit="2" if kind == "casia2" else "1")
        pairs = pair(tampered, [*beside, *masks_in(folders)], numbered=numbered)
    items = [
        Item(one.stem, one.path, AUTHENTIC, None, origins(one.stem))
        for one in images_in(folder_in(base, "Au") or base / "Au", recursive=True)
    ]
    items += [
        Item(
            one.stem,
            one.path,
            MANIPULATED,
            pairs.masks.get(one.path),
            origins(one.stem),
            pairs.doubts.get(one.path, ""),
        )
        for one in tampered
    ]
    findings = [*pairs.findings, *mask_findings(items, pairs.unused)] if masks else []
    passed_over = {"images under their former names: the renamed ones are taken": former} if former else {}
    return Listing(
        kind, base, unique_names(items, base), tuple(findings), layout=kind, passed_over=passed_over
    )


def origins(stem: str) -> tuple[str, ...]:
    """The images of the set that an image was made from, by its name; none for other names."""
    if match := SOURCE.match(stem):
        return (f"{match[1].lower()}{int(match[2])}",)
    code = numbered(stem)
    return tuple(sorted(code.ids)) if code else ()


def numbered(stem: str) -> Numbered | None:
    """Running number, kind and source images that a tampered image's name codes."""
    match = TAMPERED.match(stem)
    if match is None or len(match["number"]) > 18:
        return None
    ids = {name.lower() for name in (match["a"], match["b"])}
    # a source that is not in the set is written xxx00000
    plain = {f"{name[:3]}{int(name[3:18])}" for name in ids if int(name[3:18])}
    # v1 made several images of one source, which differ in this letter alone: a circle, a rectangle, a triangle, ...
    shape = match["codes"].strip("_")[-1:].upper() if match["set"].lower() == "sp" else ""
    return Numbered(int(match["number"]), shape, match["kind"].upper(), frozenset(plain))


def _tampered(base: Path) -> tuple[list[Found], tuple[Path, ...]]:
    """The tampered images, and those under their former names that lie beside them.

    The renamed ("modified") images are taken where both copies are there: masks carry those names. Where spliced and
    copy-moved ones lie in folders directly beside `Au`, both are taken.
    """
    for name in TAMPERED_FOLDERS:
        folder = folder_in(base, name)
        if folder is None or not (found := images_in(folder, recursive=True)):
            continue
        if name == "Sp" and (moved := folder_in(base, "CM")):
            found = [*images_in(moved, recursive=True), *found]
        former = folder_in(base, "Tp") if name == "Modified Tp" else None
        return found, tuple(one.path for one in images_in(former, recursive=True)) if former else ()
    return [], ()
