"""Which released layout a data folder has, and the list of its images. Nothing here opens an image."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from cabl_cgsr.config import DataConfig
from cabl_cgsr.data.casia import casia_kind, list_casia
from cabl_cgsr.data.items import Listing, images_in
from cabl_cgsr.data.lists import list_imdlbenco, list_kind, list_wscl, pick
from cabl_cgsr.data.sets import (
    list_columbia,
    list_coverage,
    list_folders,
    list_imd2020,
    list_imdlbenco_folders,
)
from papers_shared.errors import UserError

KNOWN = (
    "Au + Tp (CASIA), 4cam_auth + 4cam_splc (Columbia), image + mask (COVERAGE), folders with *_orig (IMD2020), "
    "Tp + Gt (IMDLBenCo), authentic + manipulated"
)


def list_set(data: DataConfig, masks: bool, subset: str = "val") -> Listing:
    """The images that `data` describes.

    Args:
        masks: Look for the masks too; without it no mask and no folder of masks is looked at.
        subset: `train` or `val`, where a WSCL list has both and `data.subset` is `auto`.

    Raises:
        UserError: there is no such folder or list, its layout is unknown or ambiguous, or it holds no image.
    """
    if not data.root and not data.list:
        raise UserError(
            "no data folder given: add --data.root FOLDER (`cabl-cgsr data toy FOLDER` writes a toy one)"
        )
    root = Path(data.root or ".").expanduser()
    file = _list_file(data, root)
    kind = data.layout if data.layout in ("wscl", "imdlbenco") else list_kind(file) if file else ""
    if file and kind == "wscl":
        return list_wscl(file, root, masks, subset if data.subset == "auto" else data.subset)
    if file and kind == "imdlbenco":
        return list_imdlbenco(file, root, masks)
    if data.layout == "wscl":
        raise UserError("the layout wscl is a JSON list: name it with --data.list FILE")
    layout, base = locate(root, data.layout)
    listing = _list(layout, base, masks, data.coverage_forgeries)
    if not listing.items:
        raise UserError(f"no image in {base} (layout {layout}): check --data.root")
    return pick(listing, file, root) if file else listing


def locate(root: Path, layout: str = "auto") -> tuple[str, Path]:
    """(layout, folder) of the one set in `root` or directly below it.

    Raises:
        UserError: there is no such folder, no set, none of this layout, or several.
    """
    if not root.is_dir():
        raise UserError(f"the data folder {root} does not exist: check --data.root")
    found = [(recognise(base), base) for base in _bases(root)]
    found = [(kind, base) for kind, base in found if kind]
    if found and found[0][1] == root:
        found = found[:1]
    fitting = [(kind, base) for kind, base in found if layout in ("auto", kind, *_also(kind))]
    if len(fitting) == 1:
        return fitting[0][0] if layout == "auto" else layout, fitting[0][1]
    if fitting:
        listed = ", ".join(f"{base.name} ({kind})" for kind, base in fitting)
        raise UserError(
            f"{root} holds several sets: {listed}; point --data.root at one, or name --data.layout"
        )
    if found:
        kinds = ", ".join(f"{base} has the layout {kind}" for kind, base in found)
        raise UserError(f"no set of the layout {layout!r}: {kinds}; correct --data.layout or --data.root")
    raise UserError(
        f"{root} has none of the known layouts: {KNOWN}. Point --data.root at the folder that holds these"
    )


def recognise(base: Path) -> str:
    """The layout of a folder by its subfolders and file names; empty if unknown."""
    if (base / "4cam_auth").is_dir() or (base / "4cam_splc").is_dir():
        return "columbia"
    if (base / "authentic").is_dir() and (base / "manipulated").is_dir():
        return "folders"
    if kind := casia_kind(base):
        return kind
    if (base / "Tp").is_dir() and (base / "Gt").is_dir():
        return "imdlbenco"
    if any(
        path.stem.lower().endswith("t") and path.stem[:-1].isdigit() for path in images_in(base / "image")
    ):
        return "coverage"
    if any("_orig." in path.name for folder in _folders(base) for path in images_in(folder)):
        return "imd2020"
    return ""


def _list(layout: str, base: Path, masks: bool, forgeries: int) -> Listing:
    if layout.startswith("casia"):
        return list_casia(base, layout, masks)
    if layout == "coverage":
        return list_coverage(base, masks, forgeries)
    listers = {
        "columbia": list_columbia,
        "imd2020": list_imd2020,
        "imdlbenco": list_imdlbenco_folders,
        "folders": list_folders,
    }
    return listers[layout](base, masks)


def _also(kind: str) -> tuple[str, ...]:
    """Layouts that a user may ask for where `kind` was recognised."""
    casia1 = ("casia1", "casia1plus")
    return {"casia1": casia1, "casia1plus": casia1, "casia2": ("imdlbenco",)}.get(kind, ())


def _bases(root: Path) -> Iterator[Path]:
    yield root
    yield from _folders(root)


def _folders(base: Path) -> list[Path]:
    return sorted(path for path in base.iterdir() if path.is_dir() and not path.name.startswith("."))


def _list_file(data: DataConfig, root: Path) -> Path | None:
    if not data.list:
        return None
    file = Path(data.list).expanduser()
    for path in (file, root / file):
        if path.is_file():
            return path
    raise UserError(f"the list {data.list} exists neither here nor in {root}: check --data.list")
