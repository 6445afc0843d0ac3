"""What is wrong with a data folder: `check` reads every image and mask, `quick_check` does so where files are new."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import datasets
import numpy as np

from papers_shared.doctor import Finding, Report, Severity
from papers_shared.errors import UserError
from papers_shared.files import cache_folder, is_litter
from papers_shared.images import verify_image
from papers_shared.inputs import IMAGE_SUFFIXES
from papers_shared.progress import Progress
from papers_shared.sound_files import broken_files
from papers_shared.threads import usable_cores
from plvl.config import DataConfig
from plvl.data.layouts import locate, read_manifest
from plvl.data.masks import box_of_mask, load_mask
from plvl.data.pixels import Row, file_entry, image_size, load_image, size_problem, source_of, values_of
from plvl.data.published import beside_published, counts_of
from plvl.data.readers import listing_of, open_split, open_usable, splits_of
from plvl.data.statistics import split_findings

OUTSIDE = 1.0
"""Pixels that a box may leave its image by without a word: annotations are rounded."""
AGREE = 0.5
"""IoU of a box with the extent of its mask below which they are reported."""
USUAL_SPLITS = ("train", "val", "test", "testA", "testB")
NO_IMAGE = "put it there, name the folder of the images with --data.images, or build with --missing drop"


def check(
    data: DataConfig,
    splits: Sequence[str] | None = None,
    *,
    vocabulary: str = "",
    max_tokens: int = 40,
    progress: bool = True,
) -> Report:
    """Read every image and mask of the splits (all that exist, if None) and report what is wrong.

    Errors: missing or unreadable images, images or masks of another size than recorded, empty boxes, boxes
    outside, names that repeat. Warnings: boxes that leave the image, empty masks, masks that are elsewhere than
    their boxes, empty and truncated sentences, counts that are not the published ones.

    Args:
        vocabulary: a vocab.txt or what has one, to count word pieces; empty: words are counted, each at least one
            piece, so that truncated sentences can be missed.
        max_tokens: word pieces that the model reads, [CLS] and [SEP] included.
    """
    report = Report()
    try:
        layout, root = locate(data)
        splits = tuple(splits or splits_of(data))
        pieces = _piece_counter(vocabulary, max_tokens)
    except UserError as error:
        report.add("error", data.root or "--data.root", str(error))
        return report
    report.add("note", root, f"layout {layout}, splits {', '.join(splits) or 'none'}")
    report.extend(unusual_splits("", splits))
    if data.val_share:
        made = f"made from {data.train_split!r} by --data.val-share {data.val_share:g}"
        report.add("note", f"splits {data.train_split} and {data.val_split}", made)
    if layout != "built":
        report.extend(_left_out(data, root))
    counts: dict[str, dict[str, int]] = {}
    for split in splits:
        try:
            rows, broken = open_usable(data, split)
        except UserError as error:
            report.add("error", f"split {split}", str(error))
            continue
        report.extend(Finding("error", f"split {split}", problem) for problem in broken)
        report.extend(_rows_findings(rows, split))
        report.extend(split_findings(rows, split, layout == "built"))
        report.extend(_sentence_findings(rows, split, pieces, max_tokens))
        report.extend(_examine_all(rows, split, progress))
        counts[split] = _counts(rows)
        masks = sum(mask is not None for (mask,) in values_of(rows, "mask"))
        listed = ", ".join(f"{count:,} {what}" for what, count in counts[split].items())
        report.add("note", f"split {split}", f"{listed}, {masks:,} with a mask")
    if layout == "built":
        report.extend(_count_findings(read_manifest(root), counts))
    return report


def unusual_splits(dataset: str, splits: Iterable[str]) -> list[Finding]:
    """Splits that neither training nor a published table knows by this name."""
    if dataset.startswith("mixed_"):
        return []
    unknown = [split for split in splits if split not in USUAL_SPLITS]
    message = f"no usual name of a split ({', '.join(USUAL_SPLITS)})"
    remedy = "training reads train and val: choose others with --data.train-split and --data.val-split"
    return [Finding("warning", f"split {split!r}", message, remedy) for split in unknown]


def quick_check(data: DataConfig, splits: Sequence[str] | None = None, *, progress: bool = True) -> Report:
    """The errors of all rows of the splits; files that were sound at an earlier check are not read again.

    Args:
        splits: those about to be used; None: the training and the validation split.

    Raises:
        UserError: A folder or split does not exist, or is not understood.
    """
    report = Report()
    for split in dict.fromkeys(splits or (data.train_split, data.val_split)):
        rows = open_split(data, split)
        report.extend(finding for finding in _rows_findings(rows, split) if finding.severity == "error")
        report.extend(_image_errors(rows, split, progress))
        report.extend(_stored_errors(rows, split, progress))
    return report


def _image_errors(rows: datasets.Dataset, split: str, progress: bool) -> Iterator[Finding]:
    """Images in files: what cannot be read, or has another size than the rows that show it."""
    sizes: dict[Path, set[tuple[int, int]]] = {}
    for entry, height, width in values_of(rows, "image", "height", "width"):
        if not entry["bytes"] and os.path.isfile(entry["path"]):  # missing ones are told already
            sizes.setdefault(Path(entry["path"]), set()).add((height, width))

    def look(path: Path) -> None:
        verify_image(path)
        found = image_size({"image": file_entry(path)})
        if other := next((size for size in sizes[path] if size != found), None):
            raise UserError(f"{path} {size_problem(found, other)}")

    asked = hashlib.sha256(json.dumps([[str(path), sorted(known)] for path, known in sizes.items()]).encode())
    cache = cache_folder("plvl") / "checks" / asked.hexdigest()[:16]
    broken = broken_files(list(sizes), look, kind=f"{split} image", cache=cache, progress=progress)
    for path, problem in broken.items():
        yield _unusable(str(path), problem)


def _stored_errors(rows: datasets.Dataset, split: str, progress: bool) -> Iterator[Finding]:
    """Images and masks that lie in the data set; those of its files are remembered, and rows that were read from other
    files have masks that were made just now.
    """
    files = [Path(file["filename"]) for file in rows.cache_files]
    findings: list[Finding] = []

    def look(_: Path | None = None) -> None:
        if findings:
            return
        stored = [bool(entry["bytes"]) for (entry,) in values_of(rows, "image")]
        chosen = [number for number, inside in enumerate(stored) if inside or files]
        with Progress(len(chosen), unit=f"{split} sentence", enabled=progress and bool(chosen)) as bar:
            for done, number in enumerate(chosen, start=1):
                errors = (f for f in examine(rows[number], stored[number]) if f.severity == "error")
                findings.extend(errors)
                bar.update(done)
        if findings:
            raise UserError(findings[0].message)

    if files:
        broken_files(files[:1], look, kind=f"{split} rows", cache=_memory_of(files), progress=False)
    else:
        with suppress(UserError):
            look()
    yield from findings


def _memory_of(files: Sequence[Path]) -> Path:
    """Where it is remembered that the rows of some files are sound; another folder when one of them has changed."""
    stamps = [[str(file), file.stat().st_size, file.stat().st_mtime_ns] for file in files]
    return cache_folder("plvl") / "checks" / hashlib.sha256(json.dumps(stamps).encode()).hexdigest()[:16]


def _unusable(where: str, problem: str) -> Finding:
    remedy = "get the file again, or build the data folder again"
    return Finding("error", where, f"unusable image: {_without(problem, where)}", remedy)


def examine(row: Row, image: bool = True) -> list[Finding]:
    """Decode one row.

    Args:
        image: False: its image was examined with another row.
    """
    findings, where = [], source_of(row)
    if image:
        try:
            load_image(row)
        except UserError as error:
            findings.append(_unusable(where, str(error)))
    name = f"{row['name']!r} ({where})"
    try:
        mask = load_mask(row)
    except UserError as error:
        findings.append(
            Finding("error", name, _without(str(error), f"the mask of {row['name']!r}"), "build again")
        )
        return findings
    if mask is not None:
        extent = box_of_mask(mask)
        if extent is None:
            findings.append(
                Finding("warning", name, "the mask is empty", "correct it, or leave the sentence out")
            )
        elif row["box_xyxy"] is not None and _iou(extent, row["box_xyxy"]) < AGREE:
            findings.append(Finding("warning", name, "the mask is elsewhere than the box", "look at both"))
    return findings


def _examine_all(rows: datasets.Dataset, split: str, progress: bool) -> Iterator[Finding]:
    """`examine` for every row on all cores, in order; each image once."""
    seen: set[tuple[str, int, int]] = set()
    jobs = []
    for index, (entry, *size) in enumerate(values_of(rows, "image", "width", "height")):
        path = entry["path"] if not entry["bytes"] else ""
        if path and not os.path.isfile(path):
            continue  # reported by its path
        jobs.append((index, not path or (path, *size) not in seen))
        seen.add((path, *size))

    def run(job: tuple[int, bool]) -> list[Finding]:
        return examine(rows[job[0]], job[1])

    with (
        ThreadPoolExecutor(usable_cores()) as pool,
        Progress(len(jobs), unit=f"{split} sentence", enabled=progress) as bar,
    ):
        for start in range(0, len(jobs), 256):
            for findings in pool.map(run, jobs[start : start + 256]):
                yield from findings
            bar.update(min(start + 256, len(jobs)))


def _rows_findings(rows: datasets.Dataset, split: str) -> Iterator[Finding]:
    """By names, paths and boxes alone."""
    names: Counter[str] = Counter(name for (name,) in values_of(rows, "name"))
    for name, count in names.items():
        if count > 1:
            yield Finding(
                "error", f"{name!r} in {split}", "several sentences have this name", "make names unique"
            )
    paths = dict.fromkeys(entry["path"] for (entry,) in values_of(rows, "image") if not entry["bytes"])
    for path in _missing(paths):
        yield Finding("error", path, f"image of split {split} is missing", NO_IMAGE)
    for name, width, height, box, mask in values_of(rows, "name", "width", "height", "box_xyxy", "mask"):
        if box is None:
            if mask is None:
                yield Finding(
                    "warning", f"{name!r} in {split}", "neither box nor mask: nothing is learned from it"
                )
            continue
        x0, y0, x1, y1 = box
        where = f"{name!r} in {split}: {[round(value, 1) for value in box]} in {width}x{height}"
        if problem := box_problem(box, height, width):
            yield Finding("error", where, problem, "correct it: x0, y0, x1, y1 in pixels")
        elif min(x0, y0) < -OUTSIDE or x1 > width + OUTSIDE or y1 > height + OUTSIDE:
            yield Finding("warning", where, "the box leaves the image", "correct it if it was not meant")


def box_problem(box: Sequence[float], height: int, width: int) -> str:
    """Why nothing can be learned or scored by a box of an image; empty where it can."""
    x0, y0, x1, y1 = box
    if not (x1 > x0 and y1 > y0):
        return "the box is empty"
    return "the box is outside the image" if x1 <= 0 or y1 <= 0 or x0 >= width or y0 >= height else ""


def _sentence_findings(
    rows: datasets.Dataset, split: str, pieces: Callable[[str], int], max_tokens: int
) -> Iterator[Finding]:
    for name, sentence in values_of(rows, "name", "expression"):
        where = f"{name!r} in {split}"
        if not sentence.strip():
            yield Finding("warning", where, "the sentence is empty", "leave the sentence out")
        elif pieces(sentence) > max_tokens - 2:
            message = f"the sentence has more than {max_tokens - 2} word pieces: its end is cut off"
            yield Finding("warning", where, message, "shorten it, or raise --model.max-tokens")


def _count_findings(manifest: dict[str, Any], counts: dict[str, dict[str, int]]) -> Iterator[Finding]:
    """Against the manifest, and against the published counts."""
    for split, found in counts.items():
        recorded = manifest["splits"].get(split, {})
        if found["expressions"] != recorded.get("expressions"):
            message = f"{found['expressions']:,} expressions, but {recorded.get('expressions')} were written"
            yield Finding("error", f"split {split}", message, "build the folder again")
    if counts_of(manifest["dataset"]):
        lines, agree = beside_published(manifest["dataset"], manifest["splits"])
        verdict = "the published counts" if agree else "not the published counts"
        verdict += " (images, objects, expressions)"
        severity: Severity = "note" if agree else "warning"
        yield from (
            Finding(severity, " ".join(line.split()), verdict) for line in lines[1:] if " of " in line
        )


def _left_out(data: DataConfig, root: Path) -> Iterator[Finding]:
    """What a source passes over; mistakes in it are reported where a split is opened."""
    used: set[str] = set()
    try:
        listing = listing_of(data)
        listing.broken = []  # told where a split is opened
        for _, item in listing.read():
            used.update(
                str(path) for path in (item.image["path"], item.shape) if isinstance(path, str | Path)
            )
    except UserError:
        return
    used.update(map(str, listing.files))
    if listing.files:
        yield from _unused(root if root.is_dir() else root.parent, {os.path.abspath(path) for path in used})
    for what, count in listing.left_out.items():
        yield Finding("warning", f"{listing.name}: {count:,} left out", what)
    for what, count in listing.remarks.items():
        yield Finding("note", f"{listing.name}: {count:,} times", what)


def _unused(base: Path, used: set[str]) -> Iterator[Finding]:
    """Files of a data folder that are not read, by folder and suffix."""
    groups: dict[tuple[str, str], list[str]] = {}
    for folder, _, names in os.walk(base):
        for name in names:
            path = os.path.abspath(os.path.join(folder, name))
            if path not in used and not is_litter(name):
                groups.setdefault((os.path.relpath(folder, base), _suffix(name)), []).append(name)
    for (folder, suffix), names in sorted(groups.items()):
        listed = (
            f"{folder} ({len(names):,}: {', '.join(sorted(names)[:3])}{', ...' if len(names) > 3 else ''})"
        )
        what = "images that no sentence names" if suffix in IMAGE_SUFFIXES else "files that are not read"
        yield Finding("note", listed, f"{what} ({suffix or 'no suffix'})")


def _suffix(name: str) -> str:
    """In lower case."""
    return os.path.splitext(name)[1].lower()


def _missing(paths: Iterable[str]) -> Iterator[str]:
    """Paths where there is no file, with what is there in other letters of the same name."""
    folders: dict[str, dict[str, str]] = {}
    for path in paths:
        if os.path.isfile(path):
            continue
        folder, name = os.path.split(path)
        if folder not in folders:
            with suppress(OSError):
                folders[folder] = {other.lower(): other for other in os.listdir(folder)}
        other = folders.get(folder, {}).get(name.lower())
        yield path if other in (None, name) else f"{path} (there is {other}: the case of letters counts)"


def _counts(rows: datasets.Dataset) -> dict[str, int]:
    named = {entry["path"] or image_id for entry, image_id in values_of(rows, "image", "image_id")}
    return {"images": len(named), "expressions": len(rows)}


def _piece_counter(vocabulary: str, max_tokens: int) -> Callable[[str], int]:
    if not vocabulary:
        return lambda sentence: len(re.findall(r"\w+|[^\w\s]", sentence))
    from plvl.tokenizer import Tokenizer, read_vocabulary

    tokenizer = Tokenizer(read_vocabulary(vocabulary), max_tokens)
    return lambda sentence: max_tokens if any("is cut" in r for r in tokenizer.warnings(sentence)) else 0


def _iou(one: Sequence[float], two: Sequence[float]) -> float:
    first, second = np.asarray(one, float), np.asarray(two, float)
    sides = np.clip(np.minimum(first[2:], second[2:]) - np.maximum(first[:2], second[:2]), 0, None)
    inner = sides.prod()
    return float(inner / max((first[2:] - first[:2]).prod() + (second[2:] - second[:2]).prod() - inner, 1e-9))


def _without(message: str, where: str) -> str:
    """A message without the file it begins with, so that equal ones are grouped."""
    return message.removeprefix(where).lstrip(" :")
