"""Which layout a data folder has, and its splits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from papers_shared.errors import UserError
from papers_shared.text import read_json
from plvl.config import DataConfig

MANIFEST = "plvl-data.json"
FORMAT = 1


def locate(data: DataConfig) -> tuple[str, Path]:
    """The layout (built, jsonl or dataset) and the path of a data folder.

    Raises:
        UserError: There is none, or no layout fits.
    """
    if not data.root:
        raise UserError(
            "no data folder given: add --data.root FOLDER (`plvl data toy FOLDER` writes a toy one)"
        )
    root = Path(data.root).expanduser()
    if data.layout == "dataset":
        return "dataset", root
    if not root.exists():
        hint = "" if root.is_absolute() else " (for a data set of the Hub add --data.layout dataset)"
        raise UserError(f"the data folder {root} does not exist: check --data.root{hint}")
    found = _recognise(root)
    if not found or data.layout not in ("auto", found):
        wanted = "any of the known layouts" if data.layout == "auto" else f"the layout {data.layout!r}"
        hint = (
            ": it looks like a REFER release, which `plvl data build` reads"
            if _looks_like_refer(root)
            else ""
        )
        raise UserError(
            f"{root} does not have {wanted} (a folder of `plvl data build`, SPLIT.jsonl, a saved data set){hint}"
        )
    return found, root


def read_manifest(root: Path) -> dict[str, Any]:
    """What `plvl data build` wrote about its folder.

    Raises:
        UserError: It is missing, damaged, or of a newer version.
    """
    manifest = read_json(root / MANIFEST)
    if not isinstance(manifest, dict) or not isinstance(manifest.get("splits"), dict):
        raise UserError(f"{root / MANIFEST} was not written by `plvl data build`")
    if manifest.get("format") != FORMAT:
        raise UserError(
            f"{root / MANIFEST} has format {manifest.get('format')}, this version reads {FORMAT}: build it again"
        )
    return manifest


def image_base(data: DataConfig, root: Path) -> Path:
    """The folder that the relative image paths of a built folder start from."""
    if data.images:
        return Path(data.images).expanduser()
    manifest = read_manifest(root)
    recorded, relative = Path(manifest["images"]), root / manifest["images_from_here"]
    return recorded if recorded.is_dir() or not relative.is_dir() else relative


def folder_splits(layout: str, root: Path) -> tuple[str, ...]:
    """The splits of a folder with the layout built or jsonl."""
    if layout == "built":
        return tuple(read_manifest(root)["splits"])
    return (root.stem,) if root.is_file() else tuple(sorted(file.stem for file in root.glob("*.jsonl")))


def _recognise(root: Path) -> str:
    if (root / MANIFEST).is_file():
        return "built"
    if (root / "dataset_dict.json").is_file() or (root / "state.json").is_file():
        return "dataset"
    if root.suffix == ".jsonl" or (root.is_dir() and any(root.glob("*.jsonl"))):
        return "jsonl"
    return ""


def _looks_like_refer(root: Path) -> bool:
    return (root / "instances.json").is_file() or any(root.glob("*/instances.json"))
