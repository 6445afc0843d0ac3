"""What is wrong with a data folder: `check` reads every image, `quick_check` only names and headers."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from PIL import Image

from fanet.config import ZEROWASTE_CLASSES, DataConfig
from fanet.data.layouts import class_names, list_split, locate, splits_of
from fanet.data.masks import decode_mask, mask_size, size_mismatch
from fanet.data.pixels import Row, decode_image, source_of
from fanet.data.published import ZEROWASTE_F
from fanet.data.readers import open_split, rows_of
from papers_shared.doctor import Finding, Report
from papers_shared.errors import UserError
from papers_shared.files import cache_folder, write_json
from papers_shared.progress import Progress

VIDEO_FRAME = re.compile(r"(\d+)_frame_\d+")
LOOKED_AT = 8
"""Masks per split that `quick_check` decodes."""
GREY_REMEDY = "store the class ids (0, 1, 2, ...) as grey levels, not black and white"
CHECK_FORMAT = 2


def check(data: DataConfig, splits: Sequence[str] | None = None, *, progress: bool = True) -> Report:
    """Read every image and mask of the splits (all that exist, if None) and report what is wrong.

    Errors: unreadable files, images without a mask, masks of another size, in colour, 0/255 or unknown ids.
    Warnings: masks without an image, classes that never occur, equal images, videos over several splits.
    Notes: images and share of each class per split, and whether the counts are the published ones.
    """
    report, every = Report(), {}
    try:
        names = class_names(data)
        source = locate(data)
        splits = tuple(splits or splits_of(data))
        report.add("note", source.base, f"layout {source.layout}, {len(names)} classes: {_shortened(names)}")
    except UserError as error:
        report.add("error", data.root or "--data.root", str(error))
        return report
    for split in splits:
        try:
            findings, rows, key = _open(data, split)
        except UserError as error:
            report.add("error", f"split {split}", str(error))
            continue
        facts = list(_examine_all(rows, names, data.ignore_index, split, progress))
        findings = [*findings, *_findings_of_split(split, rows, facts, names, data.ignore_index)]
        report.extend(findings)
        every[split] = facts
        if key:
            _remember(data, names, key, findings)
    report.extend(_findings_across(every, names))
    return report


def quick_check(data: DataConfig, splits: Sequence[str] | None = None) -> Report:
    """The errors that names, headers and a few masks tell, and those a full `check` of the same files found.

    Args:
        splits: those about to be used; None: the training and the validation split.

    Raises:
        UserError: a folder or split does not exist, or its layout is not recognised.
    """
    report, names = Report(), class_names(data)
    for split in dict.fromkeys(splits or (data.train_split, data.val_split)):
        if locate(data).layout == "class_folders":
            list_split(data, split)
            continue
        findings, rows, key = _open(data, split)
        known = _recall(data, names, key) if key else None
        report.extend(
            known
            if known is not None
            else [*findings, *_quick_findings(rows, names, data.ignore_index, split)]
        )
    return report


@dataclass(frozen=True)
class Facts:
    """What reading one image told."""

    name: str
    digest: bytes = b""
    """Hash of the decoded pixels; empty where they cannot be read."""
    counts: np.ndarray | None = None
    """Pixels per value of the mask, (256,)."""
    findings: list[Finding] = field(default_factory=list)
    grey: str = ""
    """The mask's file, where it holds 0 and 255 only and 255 is the ignored value."""


def examine(row: Row, num_classes: int, ignore_index: int) -> Facts:
    """Decode one image and its mask."""
    findings: list[Finding] = []
    where = source_of(row["image"], row["name"])
    digest = b""
    try:
        image = decode_image(row["image"], row["name"])
        digest = hashlib.sha256(image.data).digest()
    except UserError as error:
        remedy = "get the file again, or remove it and its mask"
        findings.append(Finding("error", where, f"unreadable image: {_without(str(error), where)}", remedy))
    if row.get("mask") is None:
        return Facts(row["name"], digest, None, findings)
    where = source_of(row["mask"], row["name"])
    try:
        labels = decode_mask(row["mask"], row["name"])
    except UserError as error:
        remedy = "store one channel of class ids as PNG"
        findings.append(Finding("error", where, f"unusable mask: {_without(str(error), where)}", remedy))
        return Facts(row["name"], digest, None, findings)
    if digest and labels.shape != image.shape[:2]:
        sizes = f"{where} ({labels.shape[1]}x{labels.shape[0]}, image {image.shape[1]}x{image.shape[0]})"
        findings.append(Finding("error", sizes, "mask and image differ in size", "export both at one size"))
    counts = np.array(Image.fromarray(labels).histogram())
    values = np.flatnonzero(counts)
    grey = set(values.tolist()) <= {0, 255} and bool(counts[255])
    unknown = [int(value) for value in values if value >= num_classes and value != ignore_index]
    if grey and unknown:
        findings.append(Finding("error", where, "0/255 mask instead of class ids", GREY_REMEDY))
    elif unknown:
        listed = f"{where} (values {', '.join(map(str, unknown[:8]))})"
        message = f"mask with values that are no class (the classes are 0 to {num_classes - 1})"
        findings.append(
            Finding("error", listed, message, "correct the mask, or name all classes (--data.class-names)")
        )
    return Facts(row["name"], digest, counts, findings, where if grey and not unknown else "")


def _examine_all(
    rows: datasets.Dataset, names: Sequence[str], ignore_index: int, split: str, progress: bool
) -> Iterator[Facts]:
    """`examine` for every row, in order, on all cores: Pillow decodes without holding Python's lock."""
    batches = [range(start, min(start + 8, len(rows))) for start in range(0, len(rows), 8)]

    def examine_batch(batch: range) -> list[Facts]:
        return [examine(rows[index], len(names), ignore_index) for index in batch]

    done = 0
    pool = ThreadPoolExecutor(
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    )
    try:
        with Progress(len(rows), unit=f"{split} image", enabled=progress) as bar:
            for facts in pool.map(examine_batch, batches):
                yield from facts
                done += len(facts)
                bar.update(done)
    finally:
        pool.shutdown(cancel_futures=True)


def _open(data: DataConfig, split: str) -> tuple[list[Finding], datasets.Dataset, str]:
    """Findings by the names of the files, the usable rows, and the key of the listing (empty: none)."""
    if locate(data).layout == "dataset":
        return [], open_split(data, split), ""
    listing = list_split(data, split)
    findings = list(listing.findings)
    broken = any(finding.severity == "error" for finding in findings)
    return findings, rows_of(data, listing) if broken else open_split(data, split), listing.key


def _findings_of_split(
    split: str, rows: datasets.Dataset, facts: list[Facts], names: Sequence[str], ignore_index: int
) -> list[Finding]:
    findings = [finding for fact in facts for finding in fact.findings]
    if "label" in rows.column_names:
        counts = np.bincount(rows["label"], minlength=len(names))
        message = f"{len(facts):,} images, {counts.min():,} to {counts.max():,} per class"
        findings.append(Finding("note", f"split {split}", message))
        pixels, empty = counts, "no image"
    else:
        findings += _grey_findings(split, facts)
        total = np.sum([fact.counts for fact in facts if fact.counts is not None], axis=0)
        total = np.zeros(256, np.int64) if np.ndim(total) == 0 else total
        pixels, empty = total[: len(names)], "no pixel"
        shares = [
            f"{name} {100 * n / max(total.sum(), 1):.2f} %" for name, n in zip(names, pixels, strict=False)
        ]
        ignored = int(total[ignore_index]) if 0 <= ignore_index < 256 else 0
        if ignored:
            shares.append(f"ignored {100 * ignored / total.sum():.2f} %")
        findings.append(
            Finding("note", f"split {split}", f"{len(facts):,} images; pixels: {', '.join(shares)}")
        )
    absent = [name for name, count in zip(names, pixels, strict=False) if not count]
    if absent:
        remedy = "its IoU is left out of the mean where it occurs in no prediction either"
        findings.append(Finding("warning", f"split {split}", f"{empty} of {_shortened(absent)}", remedy))
    return findings


def _grey_findings(split: str, facts: list[Facts]) -> list[Finding]:
    """0/255 masks whose 255 would count as ignored: an error where no mask of the split has another class."""
    grey = [fact.grey for fact in facts if fact.grey]
    other = any(fact.counts is not None and fact.counts[1:255].any() for fact in facts)
    if grey and not other:
        return [Finding("error", where, "0/255 mask instead of class ids", GREY_REMEDY) for where in grey]
    message, remedy = "mask of background and ignored pixels only", "correct it if 255 is meant as an object"
    return [Finding("warning", where, message, remedy) for where in grey]


def _findings_across(every: dict[str, list[Facts]], names: Sequence[str]) -> list[Finding]:
    """Equal images, videos over several splits, published counts."""
    findings = []
    same: dict[bytes, list[tuple[str, str]]] = defaultdict(list)
    videos: dict[str, set[str]] = defaultdict(set)
    for split, facts in every.items():
        for fact in facts:
            if fact.digest:
                same[fact.digest].append((split, fact.name))
            if match := VIDEO_FRAME.fullmatch(fact.name):
                videos[match[1]].add(split)
    for copies in same.values():
        if len(copies) > 1:
            across = len({split for split, _ in copies}) > 1
            message = "the same image in several splits" if across else "the same image twice in a split"
            remedy = "remove the copies: scores on images seen in training mean nothing" if across else ""
            findings.append(Finding("warning", ", ".join(f"{s}/{n}" for s, n in copies), message, remedy))
    counts = {split: len(facts) for split, facts in every.items()}
    published = all(ZEROWASTE_F.get(split) == count for split, count in counts.items())
    for video, found in sorted(videos.items()):
        if len(found) > 1:
            message = "a video with frames in several splits: neighbouring frames look alike"
            where = f"video {video}: {', '.join(sorted(found))}"
            remedy = "" if published else "keep a video within one split"
            findings.append(Finding("note" if published else "warning", where, message, remedy))
    if tuple(names) == ZEROWASTE_CLASSES and counts:
        listed = ", ".join(
            f"{split} {count:,} of {ZEROWASTE_F.get(split, 0):,}" for split, count in counts.items()
        )
        sentence = (
            "the images published for ZeroWaste-f"
            if published
            else "not the split sizes published for ZeroWaste-f"
        )
        findings.append(Finding("note", listed, sentence))
    return findings


def _quick_findings(
    rows: datasets.Dataset, names: Sequence[str], ignore_index: int, split: str
) -> Iterator[Finding]:
    """Sizes by the headers of all files, and everything about the first masks."""
    if "mask" not in rows.column_names:
        return
    facts = [examine(row, len(names), ignore_index) for row in rows.select(range(min(LOOKED_AT, len(rows))))]
    yield from (finding for fact in facts for finding in fact.findings)
    yield from (finding for finding in _grey_findings(split, facts) if finding.severity == "error")
    for index in range(len(facts), len(rows)):
        row = rows[index]
        try:
            if problem := size_mismatch(row, mask_size(row)):
                yield Finding("error", source_of(row["mask"], row["name"]), problem)
        except UserError as error:
            yield Finding("error", f"split {split}", str(error))


def _result_file(data: DataConfig, names: Sequence[str], key: str) -> Path:
    stamp = json.dumps([CHECK_FORMAT, key, list(names), data.ignore_index])
    return (
        cache_folder("fanet", data.cache)
        / "checks"
        / f"{hashlib.sha256(stamp.encode()).hexdigest()[:32]}.json"
    )


def _remember(data: DataConfig, names: Sequence[str], key: str, findings: list[Finding]) -> None:
    with suppress(OSError):
        write_json(_result_file(data, names, key), Report(findings).to_json())


def _recall(data: DataConfig, names: Sequence[str], key: str) -> list[Finding] | None:
    """The findings of a full check of the same files, if there was one."""
    try:
        stored: dict[str, Any] = json.loads(_result_file(data, names, key).read_text(encoding="utf-8"))
        return [Finding(**finding) for finding in stored["findings"]]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _without(message: str, where: str) -> str:
    """A message without the file it begins with, so that equal ones are grouped."""
    while message.startswith(where):
        message = message.removeprefix(where).lstrip(" :")
    return message.removeprefix("is ").removesuffix(".")


def _shortened(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (f", ... ({len(names)})" if len(names) > 8 else "")
