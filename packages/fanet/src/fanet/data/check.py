"""What is wrong with a data folder: `check` reads every image and mask, `quick_check` does so where files are new."""

from __future__ import annotations

import hashlib
import json
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import datasets

from fanet.config import DataConfig
from fanet.data.examine import examine, examine_all, without
from fanet.data.layouts import Split, class_names, list_split, locate, own_split, splits_of
from fanet.data.masks import load_mask, mismatch
from fanet.data.pixels import image_size, open_entry, orientation_of
from fanet.data.readers import draw_item, open_usable
from fanet.data.sources.base import FileSource, Folder, Source
from fanet.data.sources.class_folders import ClassFolders
from fanet.data.statistics import findings_across, findings_of_split, grey_findings, shortened
from papers_shared.doctor import Finding, Report
from papers_shared.errors import UserError
from papers_shared.files import cache_folder, write_json
from papers_shared.images import open_image, verify_image
from papers_shared.inputs import IMAGE_SUFFIXES
from papers_shared.sound_files import broken_files
from papers_shared.written import MANIFEST

LOOKED_AT = 8
"""Masks per split that `quick_check` holds together, to see whether all are black and white."""
CHECK_FORMAT = 3


def check(data: DataConfig, splits: Sequence[str] | None = None, *, progress: bool = True) -> Report:
    """Read every image and mask of the splits (all that exist, if None) and report what is wrong.

    Errors: unreadable files and annotations, images without a mask, masks of another size, in colour, 0/255 or with
    values that are no class. Warnings: what is left out, masks that look inverted, classes that never occur, equal
    images, videos over several splits, images that are not used. Notes: what was taken, images and share of each class
    per split, turned images, other files, and whether the counts are the published ones.
    """
    report, every, listings = Report(), {}, []
    try:
        names = class_names(data)
        source = locate(data)
        report.add("note", source.base, f"layout {source.layout}, {len(names)} classes: {shortened(names)}")
        report.extend(_usual_splits(source, data))
        chosen = tuple(splits or splits_of(data))
    except UserError as error:
        report.add("error", data.root or "--data.root", str(error))
        return report
    for split in chosen:
        try:
            listing = list_split(data, split) if isinstance(source, FileSource) else None
            rows, broken = open_usable(data, split, listing)
        except UserError as error:
            report.add("error", f"split {split}", str(error))
            continue
        findings = list(dict.fromkeys([*(listing.findings if listing else ()), *broken]))
        facts = list(examine_all(rows, names, data.ignore_index, split, progress))
        findings += findings_of_split(split, rows, facts, names, data)
        if listing:
            listings.append(listing)
            findings += [*_taken(listing), *_hidden_objects(listing, data)]
            _remember(data, names, listing.key, findings)
        report.extend(findings)
        every[split] = facts
    report.extend(findings_across(every, names))
    if splits is None and isinstance(source, FileSource):
        report.extend(_unused(data, listings, report))
    return report


def quick_check(data: DataConfig, splits: Sequence[str] | None = None, *, progress: bool = True) -> Report:
    """The errors of all files of the splits; files that were sound at an earlier check are not read again.

    Args:
        splits: Those about to be used; None: the training and the validation split.

    Raises:
        UserError: A folder or split does not exist, or its layout is not recognised.
    """
    report, names, source = Report(), class_names(data), locate(data)
    for split in dict.fromkeys(splits or (data.train_split, data.val_split)):
        if not isinstance(source, FileSource):
            rows, _ = open_usable(data, split)
            report.extend(_rows_findings(data, rows, names, split, progress))
            continue
        listing = list_split(data, split)
        known = _recall(data, names, listing.key)
        if known is not None:
            report.extend(known)
            continue
        rows, broken = open_usable(data, split, listing)
        report.extend(dict.fromkeys([*listing.findings, *broken]))
        report.extend(_file_findings(data, rows, names, split, progress))
    return report


def black_and_white_masks(
    data: DataConfig, rows: datasets.Dataset, names: Sequence[str], split: str
) -> list[Finding]:
    """An error for each of the first masks, if all of them hold 0 and 255 only and 255 would count as ignored."""
    first = rows.select(range(min(LOOKED_AT, len(rows))))
    facts = [examine(row, len(names), data.ignore_index) for row in first]
    return [found for found in grey_findings(split, facts, len(names)) if found.severity == "error"]


def _usual_splits(source: Source, data: DataConfig) -> list[Finding]:
    """Which splits training takes, where they are called otherwise, and which it lacks."""
    findings = []
    for option, split in (("--data.train-split", data.train_split), ("--data.val-split", data.val_split)):
        try:
            own = own_split(source, data, split)
        except UserError as error:
            message, _, remedy = str(error).removeprefix(f"{source.base} has ").partition("): ")
            message = f"{message}{')' if remedy else ''}; training needs it"
            findings.append(Finding("warning", str(source.base), message, remedy))
            continue
        if data.val_share:
            findings.append(
                Finding("note", f"split {split}", f"made from {own!r} by --data.val-share {data.val_share:g}")
            )
        elif own != split:
            findings.append(Finding("note", f"split {own}", f"taken for {split!r} ({option})"))
    return findings


def _taken(listing: Split) -> list[Finding]:
    """Where the images of a split and their truth come from."""
    if isinstance(listing.source, ClassFolders):
        return []
    base = listing.source.base
    parts = [f"images of {_common([item.image for item in listing.items], base)}"]
    if listing.drawn:
        parts.append("masks drawn from the annotations")
    else:
        parts.append(f"masks of {_common([item.mask for item in listing.items if item.mask], base)}")
    if files := [path for path in listing.files if path.suffix.lower() not in IMAGE_SUFFIXES]:
        shown = ", ".join(os.path.relpath(path, base) for path in files[:3])
        parts.append(f"by {shown}" + (f" and {len(files) - 3:,} more files" if len(files) > 3 else ""))
    return [Finding("note", f"split {listing.name}", ", ".join(parts))]


def _common(paths: Sequence[Path], base: Path) -> str:
    folders = {str(path.parent) for path in paths}
    return os.path.relpath(os.path.commonpath(folders), base) if folders else "no folder"


def _hidden_objects(listing: Split, data: DataConfig) -> list[Finding]:
    """Objects that lie under others, or outside of their image."""
    if not listing.drawn:
        return []
    hidden = total = 0
    for item in listing.items:
        with suppress(UserError):  # told by the rows already
            hidden += draw_item(item, data)[1]
            total += len(item.objects or ())
    if not hidden:
        return []
    rule = {"class": "the highest class id", "order": "the last in the file", "area": "the smallest"}[
        data.overlap
    ]
    message = "object that is not seen: it lies under others or outside of its image"
    where = f"split {listing.name} ({hidden:,} of {total:,} objects; where objects overlap {rule} wins)"
    return [Finding("warning", where, message, "choose with --data.overlap")]


def _unused(data: DataConfig, listings: Sequence[Split], report: Report) -> list[Finding]:
    """Files of the data folder that are neither read nor named by another finding, by folder and suffix."""
    root = Path(data.root).expanduser().resolve()
    used = {str(finding.source) for finding in report.findings} | {str(root / MANIFEST)}
    for listing in listings:
        used.update(map(str, listing.files))
        used.update(str(path) for item in listing.items for path in (item.image, item.mask) if path)
    found = Folder.scan(root)
    cache = str(cache_folder("fanet", data.cache).resolve()) + os.sep
    groups: dict[tuple[str, str], list[str]] = defaultdict(list)
    for path in (*found.images.values(), *found.others.values()):
        if str(path) not in used and not str(path).startswith(cache):
            groups[os.path.relpath(path.parent, root), path.suffix.lower()].append(path.name)
    findings = [finding for finding in found.findings if finding.source not in used]
    for (folder, suffix), files in sorted(groups.items()):
        where = f"{folder} ({len(files):,}: {shortened(files[:3])}{', ...' if len(files) > 3 else ''})"
        image = suffix in IMAGE_SUFFIXES
        what = f"{suffix} files" if suffix else "files without a suffix"
        findings.append(Finding("warning" if image else "note", where, f"{what} that are not used"))
    return findings


def _file_findings(
    data: DataConfig, rows: datasets.Dataset, names: Sequence[str], split: str, progress: bool
) -> Iterator[Finding]:
    """Errors of images and masks that are files; those that were sound before are not read again."""
    images = {Path(entry["path"]): index for index, entry in enumerate(rows["image"])}
    masks: dict[Path, int] = {}
    if "mask" in rows.column_names:
        paths = (entry["path"] for entry in rows["mask"])
        masks = {Path(path): index for index, path in enumerate(paths) if path}

    def look_at_image(path: Path) -> None:
        row = rows[images[path]]
        if "label" in row:  # of a million images only the headers
            with open_image(path):
                return
        verify_image(path)
        if row["mask"]["path"]:
            with open_entry(row["mask"], row["name"]) as mask:
                size = (mask.width, mask.height) if orientation_of(mask) > 4 else (mask.height, mask.width)
            if problem := mismatch(size, image_size(row)):
                raise UserError(f"{row['mask']['path']} {problem}")

    def look_at_mask(path: Path) -> None:
        load_mask(rows[masks[path]], len(names), data.ignore_index)

    codes = rows[0].get("codes") or "" if len(rows) else ""
    about = json.dumps([CHECK_FORMAT, list(names), data.ignore_index, codes])
    folder = hashlib.sha256(about.encode()).hexdigest()[:16]
    options: dict[str, Any] = {
        "cache": cache_folder("fanet", data.cache) / "checks" / folder,
        "progress": progress,
    }
    broken = broken_files(list(images), look_at_image, kind=f"{split} image", **options)
    for path, problem in broken.items():
        remedy = "get the file again, or remove it and its mask"
        yield Finding("error", str(path), f"unreadable image: {without(problem, str(path))}", remedy)
    broken = broken_files(list(masks), look_at_mask, kind=f"{split} mask", **options)
    for path, problem in broken.items():
        yield Finding("error", str(path), f"unusable mask: {without(problem, str(path))}", "correct the mask")
    if masks:
        yield from black_and_white_masks(data, rows, names, split)


def _rows_findings(
    data: DataConfig, rows: datasets.Dataset, names: Sequence[str], split: str, progress: bool
) -> list[Finding]:
    """Errors of rows that hold their images themselves, remembered by the rows' fingerprint."""
    key = f"{split}-{rows._fingerprint}"
    known = _recall(data, names, key)
    if known is not None:
        return known
    facts = list(examine_all(rows, names, data.ignore_index, split, progress))
    findings = findings_of_split(split, rows, facts, names, data)
    _remember(data, names, key, findings)
    return findings


def _result_file(data: DataConfig, names: Sequence[str], key: str) -> Path:
    stamp = json.dumps([CHECK_FORMAT, key, list(names), data.ignore_index, data.mask_values])
    return (
        cache_folder("fanet", data.cache)
        / "checks"
        / f"{hashlib.sha256(stamp.encode()).hexdigest()[:32]}.json"
    )


def _remember(data: DataConfig, names: Sequence[str], key: str, findings: list[Finding]) -> None:
    with suppress(OSError, UnicodeEncodeError):
        write_json(_result_file(data, names, key), Report(findings).to_json())


def _recall(data: DataConfig, names: Sequence[str], key: str) -> list[Finding] | None:
    """The findings of a full check of the same files, if there was one."""
    try:
        stored: dict[str, Any] = json.loads(_result_file(data, names, key).read_text(encoding="utf-8"))
        return [Finding(**finding) for finding in stored["findings"]]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
