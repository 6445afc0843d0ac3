"""JSON lists of WSCL and of IMDLBenCo, and text files that pick images by name."""

from __future__ import annotations

import os
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

from cabl_cgsr.data.items import Item, Listing, mask_findings, stem_of, unique_names
from papers_shared.errors import UserError
from papers_shared.text import read_json


def list_kind(file: Path) -> str:
    """wscl, imdlbenco, or empty for a text file of names."""
    if file.suffix.lower() != ".json":
        return ""
    return "wscl" if isinstance(read_json(file), dict) else "imdlbenco"


def list_wscl(file: Path, root: Path, masks: bool, subset: str) -> Listing:
    """{file name: {"subset": train | val, "path", "label": 0 | 1, "mask" of a manipulated one}}.

    Paths are looked up below `root`, below the folder of the list, and below the folder above that one.

    Raises:
        UserError: an entry lacks a field, has another label, or its image does not exist.
    """
    content = read_json(file)
    folders = _folders(file, root)
    items = []
    wanted = wscl_subset(content, subset)
    for key, entry in content.items() if isinstance(content, dict) else ():
        if (
            not isinstance(entry, dict)
            or not isinstance(entry.get("path"), str)
            or entry.get("label") not in (0, 1)
        ):
            raise UserError(f"{file}: the entry {key!r} needs a path (text) and a label (0 or 1)")
        if wanted and entry.get("subset") != wanted:
            continue
        mask = entry.get("mask") if masks and entry["label"] else None
        image = _locate(entry["path"], folders, file)
        items.append(
            Item(stem_of(image), image, int(entry["label"]), _locate(mask, folders, file) if mask else None)
        )
    return _listing(file, items, masks)


def wscl_subset(content: Any, subset: str) -> str:
    """The subset to take, empty for all; `train` and `val` fall back on all where the list has only one kind."""
    present = {entry.get("subset") for entry in content.values()} if isinstance(content, dict) else set()
    return subset if subset in present and len(present) > 1 else ""


def list_imdlbenco(file: Path, root: Path, masks: bool) -> Listing:
    """[[image, mask or "Negative"], ...].

    Raises:
        UserError: an entry is not such a pair, or a file does not exist.
    """
    content, folders = read_json(file), _folders(file, root)
    items = []
    for number, pair in enumerate(content if isinstance(content, list) else ()):
        if not (isinstance(pair, list) and len(pair) == 2 and all(isinstance(part, str) for part in pair)):
            raise UserError(f'{file}: entry {number} must be [image, mask or "Negative"], not {pair!r}')
        image = _locate(pair[0], folders, file)
        label = int(pair[1].lower() != "negative")
        mask = _locate(pair[1], folders, file) if masks and label else None
        items.append(Item(stem_of(image), image, label, mask))
    return _listing(file, items, masks)


def pick(listing: Listing, file: Path, root: Path | None = None) -> Listing:
    """The images of a set that a text file names, one a line, with or without folder and suffix.

    Raises:
        UserError: there is no such file, or a name is not in the set.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise UserError(f"the list {file} cannot be read ({error.strerror}): check --data.list") from error
    folders = (listing.base, *([root] if root else []))
    exact: dict[str, set[str]] = defaultdict(set)
    loose: dict[str, set[str]] = defaultdict(set)
    for item in listing.items:
        exact[item.name].add(item.name)
        for folder in folders:
            below = os.path.relpath(item.image, folder).replace(os.sep, "/")
            exact[below].add(item.name)
            exact[os.path.splitext(below)[0]].add(item.name)
        for name in (item.image.name, stem_of(item.image)):
            loose[name].add(item.name)
    chosen = set()
    for name in filter(None, map(str.strip, lines)):
        found = exact.get(name) or loose.get(Path(name).name, set())
        if len(found) != 1:
            fault = "is not in" if not found else f"names {len(found)} images, write its path below"
            raise UserError(f"{file}: {name} {fault} {listing.base}")
        chosen |= found
    return replace(listing, items=tuple(item for item in listing.items if item.name in chosen))


def _listing(file: Path, items: list[Item], masks: bool) -> Listing:
    if not items:
        raise UserError(f"{file} lists no image: check --data.list and --data.subset")
    items.sort(key=lambda item: (item.label, item.name))
    findings = mask_findings(items) if masks else []
    return Listing(file.stem, file.parent, unique_names(items, file.parent), tuple(findings))


def _folders(file: Path, root: Path) -> list[Path]:
    return [root, file.parent, file.parent.parent]


def _locate(name: str, folders: list[Path], file: Path) -> Path:
    """The file `name` in the first folder that has it; WSCL's paths begin with `data/`."""
    candidates = [folder / name for folder in folders]
    if name.startswith("data/"):
        candidates += [folder / name.removeprefix("data/") for folder in folders]
    for path in candidates:
        if path.is_file():
            return path
    raise UserError(f"{file} names {name}, which is not below {folders[0]}: check --data.root")
