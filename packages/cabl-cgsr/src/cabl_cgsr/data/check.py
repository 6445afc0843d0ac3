"""What is wrong with a set of images: `check` reads every file, `quick_check` only what training is about to use."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from cabl_cgsr.config import DataConfig
from cabl_cgsr.data.groups import hold_out
from cabl_cgsr.data.items import AUTHENTIC, MANIPULATED, Item, Listing
from cabl_cgsr.data.layouts import list_set
from cabl_cgsr.data.leakage import Fingerprint, Match, equal_images, fingerprint, matches
from cabl_cgsr.data.masks import decode_mask, sideways
from cabl_cgsr.data.pixels import load_image
from cabl_cgsr.data.published import MASK_REMEDY, UNMASKED, counts_finding, known_findings
from papers_shared.doctor import Finding, Report
from papers_shared.errors import UserError
from papers_shared.progress import Progress

LOOKED_AT = 8
"""Images of each label that `quick_check` decodes."""
SEEN = (
    "scores on images seen in training mean nothing: train without them (--keep-list FILE, --data.list FILE)"
)
SMALL_MASK = 4
"""Pixels below which a mask is probably a mistake."""


@dataclass
class Examined:
    """A set whose files were all read."""

    listing: Listing
    prints: list[Fingerprint | None] = field(default_factory=list)
    """Of each item; None where the image cannot be read."""
    findings: list[Finding] = field(default_factory=list)


def check(data: DataConfig, against: Sequence[DataConfig] = (), *, progress: bool = True) -> Report:
    """Read every image and mask of a set and report what is wrong; the worst are errors.

    Errors: unreadable images and masks. Warnings: manipulated images without a mask or with one on its side,
    masks of another size, empty or without an image, equal images, fewer images than published, and
    images that also occur in one of the other sets. Notes: counts, and names that other programs stumble over.

    Args:
        against: Other sets to compare the content with, such as the test sets of a training set.
    """
    return check_sets(data, against, progress=progress)[0]


def check_sets(
    data: DataConfig, against: Sequence[DataConfig] = (), *, progress: bool = True
) -> tuple[Report, list[Item]]:
    """The report of `check`, and the readable images that occur in none of the other sets."""
    report = Report()
    try:
        own = examine_set(data, progress=progress)
    except UserError as error:
        report.add("error", data.root or data.list or "--data.root", str(error))
        return report, []
    report.extend(own.findings)
    shared: set[str] = set()
    for config in against:
        try:
            other = examine_set(config, progress=progress)
        except UserError as error:
            report.add("error", config.root, str(error))
            continue
        found = matches(own.listing.items, own.prints, other.listing.items, other.prints)
        report.extend(_leak_findings(own.listing, other.listing, found))
        shared |= {match.item.name for match in found}
    readable = zip(own.listing.items, own.prints, strict=True)
    return report, [item for item, known in readable if known is not None and item.name not in shared]


def quick_check(data: DataConfig, use: Literal["train", "val"] = "train") -> Report:
    """What stops a training or an evaluation at once: no set, or unreadable first images.

    Args:
        use: `train` also asks for both labels and for something to hold out; `val`: for evaluation. No mask is
            looked for in either.
    """
    report = Report()
    try:
        listing = list_set(data, masks=False, subset=use)
    except UserError as error:
        report.add("error", data.root or data.list or "--data.root", str(error))
        return report
    for item in _first(listing):
        report.extend(finding for finding in examine(item).findings if finding.severity == "error")
    if use == "train" and not report.errors:
        try:
            hold_out(listing.items, data.val_share, data.split_seed)
        except UserError as error:
            report.add("error", listing.base, str(error))
    return report


def examine_set(data: DataConfig, *, progress: bool = True) -> Examined:
    """Read all files of a set.

    Raises:
        UserError: There is no such set.
    """
    listing = list_set(data, masks=True, subset="all")
    findings = [Finding("note", str(listing.base), f"layout {listing.dataset}"), counts_finding(listing)]
    unmasked = [finding for finding in listing.findings if UNMASKED not in finding.source]
    if listing.counts[1] and not any(item.mask for item in listing.items):
        findings.append(Finding("note", str(listing.base), "no masks: only image scores can be had"))
        unmasked = []
    findings += [*unmasked, *known_findings(listing.items)]
    examined = Examined(listing, findings=findings)
    for facts in _examine_all(listing, progress):
        examined.prints.append(facts.print)
        examined.findings += facts.findings
    examined.findings += _equal_findings(equal_images(listing.items, examined.prints))
    return examined


@dataclass
class Facts:
    """What reading one item told."""

    print: Fingerprint | None = None
    findings: list[Finding] = field(default_factory=list)


def examine(item: Item, dataset: str = "") -> Facts:
    """Decode an image and its mask."""
    facts = Facts()
    size = None
    try:
        image = load_image({"name": item.name, "image": {"path": str(item.image), "bytes": None}})
        facts.print, size = fingerprint(image), image.shape[:2]
    except UserError as error:
        message = _without(str(error), item.image)
        facts.findings.append(Finding("error", str(item.image), message, "get the file again, or remove it"))
    if item.mask is not None:
        facts.findings += _mask_findings(item, size, dataset)
    return facts


def _mask_findings(item: Item, size: tuple[int, ...] | None, dataset: str) -> Iterator[Finding]:
    where = str(item.mask)
    try:
        levels = decode_mask({"path": where, "bytes": None})
    except UserError as error:
        yield Finding("error", where, _without(str(error), item.mask), "get the mask again")
        return
    if size is not None and levels.shape != size:
        sizes = f"{where} ({levels.shape[1]}x{levels.shape[0]}, image {size[1]}x{size[0]})"
        if sideways((size[0], size[1]), levels.shape):
            message = "mask on its side: its image is left out where pixels are scored"
            yield Finding(
                "warning", sizes, message, MASK_REMEDY.get(dataset, "turn the mask as its image is")
            )
        else:
            remedy = MASK_REMEDY.get(dataset, "")
            yield Finding("warning", sizes, "mask of another size: resized to the nearest pixel", remedy)
    inside = int(np.count_nonzero(levels))
    if inside < SMALL_MASK:
        yield Finding("warning", where, "empty mask of a manipulated image", "get the right mask")
    elif inside == levels.size:
        yield Finding("warning", where, "mask that covers the whole image", "check how the mask is stored")


def _examine_all(listing: Listing, progress: bool) -> Iterator[Facts]:
    """`examine` for every item, in order, on all cores: Pillow decodes without holding Python's lock."""
    workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    pool = ThreadPoolExecutor(workers)
    try:
        with Progress(len(listing.items), unit=f"{listing.dataset} image", enabled=progress) as bar:
            results = pool.map(lambda item: examine(item, listing.dataset), listing.items)
            for done, facts in enumerate(results, start=1):
                yield facts
                bar.update(done)
    finally:
        pool.shutdown(cancel_futures=True)


def _equal_findings(groups: list[list[Item]]) -> Iterator[Finding]:
    for group in groups:
        where = ", ".join(item.name for item in group)
        if len({item.label for item in group}) > 1:
            message = "the same pixels labelled authentic and manipulated"
            yield Finding("warning", where, message, "one of the labels is wrong: remove that file")
        else:
            remedy = "kept in one part when a part is held out; remove copies to count each image once"
            yield Finding("warning", where, "the same image several times", remedy)


def _leak_findings(listing: Listing, other: Listing, found: list[Match]) -> Iterator[Finding]:
    for match in found:
        how = (
            "the same image" if match.equal else "nearly the same image (another size, compression or a part)"
        )
        labels = {match.item.label, match.other.label}
        relation = "with the same label" if len(labels) == 1 else "with another label"
        where = f"{match.item.name} ~ {match.other.name}"
        yield Finding("warning", where, f"{how} in {listing.dataset} and {other.dataset}, {relation}", SEEN)
    if not found:
        message = f"no image in common, nor nearly the same ones: {listing.dataset} and {other.dataset}"
        yield Finding("note", str(other.base), message)


def _first(listing: Listing) -> list[Item]:
    return [
        item
        for label in (AUTHENTIC, MANIPULATED)
        for item in [item for item in listing.items if item.label == label][:LOOKED_AT]
    ]


def _without(message: str, source: object) -> str:
    """A message without the file it begins with, so that equal ones are grouped."""
    return message.removeprefix(str(source)).lstrip(" :").removeprefix("is ")
