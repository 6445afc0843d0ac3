"""Which released layout a data folder has, and the list of its images. Nothing here opens an image."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from cabl_cgsr.config import DataConfig
from cabl_cgsr.data.casia import casia_kind, list_casia
from cabl_cgsr.data.items import (
    MANIPULATED,
    Item,
    Listing,
    folder_in,
    holds_masks,
    images_in,
    mask_folders,
    subfolders,
    unique_names,
)
from cabl_cgsr.data.lists import list_entries, pick, read_list
from cabl_cgsr.data.sets import (
    korus_cameras,
    labelled_folders,
    list_autosplice,
    list_columbia,
    list_coverage,
    list_dso1,
    list_folders,
    list_imd2020,
    list_imdlbenco_folders,
    list_korus,
    list_nist16,
)
from papers_shared.doctor import Finding
from papers_shared.entries import is_text
from papers_shared.errors import UserError

KNOWN = (
    "Au + Tp or Sp (CASIA), 4cam_auth + 4cam_splc (Columbia), image + mask (COVERAGE), probe + world (NIST16), folders "
    "with *_orig (IMD2020), DSO-1, pristine + tampered-realistic (Korus), Authentic + Forged_JPEG100 (AutoSplice), "
    "Tp + Gt (IMDLBenCo), authentic + manipulated or real + fake"
)
LISTERS: dict[str, Callable[[Path, bool], Listing]] = {
    "columbia": list_columbia,
    "imd2020": list_imd2020,
    "nist16": list_nist16,
    "dso1": list_dso1,
    "korus": list_korus,
    "autosplice": list_autosplice,
    "imdlbenco": list_imdlbenco_folders,
    "folders": list_folders,
}
LEVELS = 3
"""Folders inside one another in which a set is looked for: archives often hold a folder of their own name."""
SPLITS = {"train": ("train", "training"), "val": ("test", "testing", "val", "valid", "validation")}
"""Names of a set's parts: those to train on, and those to evaluate on, the first that is there."""


def list_set(data: DataConfig, masks: bool, subset: str = "val") -> Listing:
    """The images that `data` describes.

    Args:
        masks: Look for the masks too; without it no mask and no folder of masks is looked at.
        subset: `train`, `val` or `all`, where a list or a folder has parts and `data.subset` is `auto`.

    Raises:
        UserError: there is no such folder or list, its layout is unknown or ambiguous, or it holds no image.
    """
    if not data.root and not data.list:
        raise UserError(
            "no data folder given: add --data.root FOLDER (`cabl-cgsr data toy FOLDER` writes a toy one)"
        )
    root = Path(data.root or ".").expanduser()
    subset = subset if data.subset == "auto" else data.subset
    if not data.list:
        if data.layout == "wscl":
            raise UserError("the layout wscl is a JSON list: name it with --data.list FILE")
        return _writable(_list_folder(root, data, masks, subset))
    file = _list_file(data, root)
    read = read_list(file)
    if not read.entries and not read.findings:
        raise UserError(f"{file} lists no image: check --data.list")
    if read.entries and read.plain:
        return _writable(pick(_list_folder(root, data, masks, subset), file, read, root))
    return _writable(list_entries(file, read, root, masks, subset, data.allow_outside))


class Located(NamedTuple):
    """Where a set lies."""

    layout: str
    bases: list[Path]
    """Its folder, or those of its parts."""
    others: list[tuple[str, Path]]
    """Layout and folder of other sets beside it."""


def locate(root: Path, layout: str = "auto", subset: str = "all") -> Located:
    """The one set in `root` or in folders below it.

    Raises:
        UserError: there is no such folder, no set, none of this layout, or several.
    """
    if not root.is_dir():
        what = "is a file" if root.exists() else "does not exist"
        raise UserError(f"the data folder {root} {what}: check --data.root")
    found: list[tuple[str, Path]] = []
    bases = [root]
    for _ in range(LEVELS):
        found = [(kind, base) for base in bases if (kind := recognise(base))]
        if found:
            break
        bases = [folder for base in bases for folder in subfolders(base) if not holds_masks(folder.name)]
    fitting = [(kind, base) for kind, base in found if layout in ("auto", kind, *_also(kind, base))]
    if fitting := _parts(fitting, subset):
        if len(fitting) == 1 or _are_parts(fitting):
            bases = [base for _, base in fitting]
            others = [one for one in found if one[1] not in bases]
            return Located(fitting[0][0] if layout == "auto" else layout, bases, others)
        listed = ", ".join(f"{base.relative_to(root)} ({kind})" for kind, base in fitting[:6])
        raise UserError(
            f"{root} holds several sets: {listed}; point --data.root at one, or name --data.layout"
        )
    if found:
        kinds = ", ".join(f"{base} has the layout {kind}" for kind, base in found[:6])
        raise UserError(f"no set of the layout {layout!r}: {kinds}; correct --data.layout or --data.root")
    raise UserError(
        f"{root} has none of the known layouts: {KNOWN}. Point --data.root at the folder that holds these"
    )


def recognise(base: Path) -> str:
    """The layout of a folder by its subfolders and file names; empty if unknown."""
    if folder_in(base, "4cam_auth") or folder_in(base, "4cam_splc"):
        return "columbia"
    if kind := casia_kind(base):
        return kind
    if folder_in(base, "probe") and (folder_in(base, "world", "reference") or mask_folders(base)):
        return "nist16"
    if folder_in(base, "DSO-1") or (
        folder_in(base.parent, "DSO-1-Fake-Images-Masks") and base.name == "DSO-1"
    ):
        return "dso1"
    if korus_cameras(base):
        return "korus"
    if folder_in(base, "Authentic") and folder_in(base, "Forged_JPEG100", "Forged_JPEG90", "Forged_JPEG75"):
        return "autosplice"
    if folder_in(base, "Tp") and folder_in(base, "Gt"):
        return "imdlbenco"
    coverage = folder_in(base, "image")
    if coverage and any(
        one.stem[-1:].lower() == "t" and one.stem[:-1].isdigit() for one in images_in(coverage)
    ):
        return "coverage"
    if any(one.stem.lower().endswith("_orig") for folder in subfolders(base) for one in images_in(folder)):
        return "imd2020"
    authentic, manipulated = labelled_folders(base).values()
    return "folders" if manipulated and (authentic or mask_folders(base)) else ""


def _list_folder(root: Path, data: DataConfig, masks: bool, subset: str) -> Listing:
    layout, bases, others = locate(root, data.layout if data.layout != "wscl" else "auto", subset)
    some = [_list_base(layout, base, masks, data) for base in bases]
    listing = some[0]
    if len(some) > 1:
        items = sorted((item for one in some for item in one.items), key=lambda item: item.label)
        findings = tuple(finding for one in some for finding in one.findings)
        passed_over = {reason: paths for one in some for reason, paths in one.passed_over.items()}
        listing = replace(
            listing,
            dataset=os.path.basename(os.path.abspath(root)),
            base=root,
            items=unique_names(items, root),
            findings=findings,
            passed_over=passed_over,
        )
    if not listing.items:
        raise UserError(f"no image in {listing.base} (layout {layout}): check --data.root")
    remedy = "name it with --data.root, --data.subset or --sets"
    told = [
        Finding("note", str(folder), f"another set, of the layout {kind}: not read", remedy)
        for kind, folder in others
    ]
    return replace(listing, findings=(*listing.findings, *told))


def _list_base(layout: str, base: Path, masks: bool, data: DataConfig) -> Listing:
    if layout.startswith("casia"):
        return list_casia(base, layout, masks)
    if layout == "coverage":
        return list_coverage(base, masks, data.coverage_forgeries)
    return LISTERS[layout](base, masks)


def _parts(found: list[tuple[str, Path]], subset: str) -> list[tuple[str, Path]]:
    """Of the parts of one set the one that is asked for; all for `all`."""
    if not _are_parts(found) or subset == "all":
        return found
    names = {base.name.lower(): (kind, base) for kind, base in found}
    wanted = next((names[name] for name in SPLITS[subset] if name in names), None)
    return [wanted] if wanted else found


def _are_parts(found: list[tuple[str, Path]]) -> bool:
    """Whether these are folders named train, val and test, of one layout and beside one another."""
    names = {base.name.lower() for _, base in found}
    known = {name for some in SPLITS.values() for name in some}
    one_set = len({(kind, base.parent) for kind, base in found}) == 1
    return one_set and len(names) == len(found) > 1 and names <= known


def _writable(listing: Listing) -> Listing:
    """The listing without images whose names are not text, as no table can hold them; they are errors."""
    broken = [item for item in listing.items if not _named(item)]
    if not broken:
        return listing
    message, remedy = "the name of the file is not UTF-8", "rename the file"
    findings = [Finding("error", ascii(str(item.image)), message, remedy) for item in broken]
    items = tuple(item for item in listing.items if _named(item))
    if not items:
        raise UserError(f"{listing.base}: no image has a name in UTF-8: rename the files")
    return replace(listing, items=items, findings=(*listing.findings, *findings))


def _named(item: Item) -> bool:
    return is_text(str(item.image)) and is_text(str(item.mask or ""))


def _also(kind: str, base: Path) -> tuple[str, ...]:
    """Layouts that a user may ask for where `kind` was recognised."""
    also = ["casia1", "casia1plus"] if kind in ("casia1", "casia1plus") else []
    if folder_in(base, "Tp") and folder_in(base, "Gt"):
        also.append("imdlbenco")
    if labelled_folders(base)[MANIPULATED]:
        also.append("folders")
    return tuple(also)


def _list_file(data: DataConfig, root: Path) -> Path:
    file = Path(data.list).expanduser()
    for path in (file, root / file):
        if path.is_file():
            return path
    raise UserError(f"the list {data.list} exists neither here nor in {root}: check --data.list")
