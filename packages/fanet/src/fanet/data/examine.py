"""One image and its mask, decoded and looked at."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import datasets
import numpy as np

from fanet.data.masks import decode_mask
from fanet.data.pixels import Row, decode_image, open_entry, orientation_of, source_of
from papers_shared.doctor import Finding
from papers_shared.errors import UserError
from papers_shared.progress import Progress
from papers_shared.threads import usable_cores


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
    turned: bool = False
    """Whether the image's EXIF block turns it."""


def examine(row: Row, num_classes: int, ignore_index: int) -> Facts:
    """Decode one image and its mask; whatever goes wrong is a finding about this image."""
    try:
        return _examine(row, num_classes, ignore_index)
    except Exception as error:  # one image must not end the check of the others
        message = f"cannot be examined ({type(error).__name__}: {str(error)[:200]})"
        source = source_of(row.get("image") or {"path": "", "bytes": None}, str(row.get("name")))
        return Facts(
            str(row.get("name")),
            findings=[Finding("error", source, message, "get the file again, or remove it")],
        )


def _examine(row: Row, num_classes: int, ignore_index: int) -> Facts:
    findings: list[Finding] = []
    where = source_of(row["image"], row["name"])
    digest, turned = b"", False
    try:
        image = decode_image(row["image"], row["name"])
        digest = hashlib.sha256(image.data).digest()
        with open_entry(row["image"], row["name"]) as opened:
            turned = orientation_of(opened) != 1
            pages = getattr(opened, "n_frames", 1)
        if pages > 1:
            findings.append(
                Finding("warning", f"{where} ({pages})", "several images in a file: the first is used")
            )
    except UserError as error:
        remedy = "get the file again, or remove it and its mask"
        findings.append(Finding("error", where, f"unreadable image: {without(str(error), where)}", remedy))
    if "mask" not in row:
        return Facts(row["name"], digest, None, findings, turned=turned)
    where = source_of(row["mask"], row["name"])
    try:
        labels = decode_mask(row["mask"], row["name"], row.get("codes") or "", ignore_index)
    except UserError as error:
        remedy = "store one channel of class ids as PNG"
        findings.append(Finding("error", where, f"unusable mask: {without(str(error), where)}", remedy))
        return Facts(row["name"], digest, None, findings, turned=turned)
    if digest and labels.shape != image.shape[:2]:
        sizes = f"{where} ({labels.shape[1]}x{labels.shape[0]}, image {image.shape[1]}x{image.shape[0]})"
        findings.append(Finding("error", sizes, "mask and image differ in size", "export both at one size"))
    counts = np.bincount(labels.reshape(-1), minlength=256)
    values = np.flatnonzero(counts)
    grey = set(values.tolist()) <= {0, 255} and bool(counts[255])
    unknown = [int(value) for value in values if value >= num_classes and value != ignore_index]
    if grey and unknown:
        findings.append(black_and_white(where, num_classes))
    elif unknown:
        listed = f"{where} (values {', '.join(map(str, unknown[:8]))})"
        message = f"mask with values that are no class (the classes are 0 to {num_classes - 1})"
        remedy = "correct the mask, name all classes (--data.class-names), or give --data.mask-values"
        findings.append(Finding("error", listed, message, remedy))
    return Facts(row["name"], digest, counts, findings, where if grey and not unknown else "", turned)


def examine_all(
    rows: datasets.Dataset, names: Sequence[str], ignore_index: int, split: str, progress: bool
) -> Iterator[Facts]:
    """`examine` for every row, in order, on all cores: Pillow decodes without holding Python's lock."""
    batches = [range(start, min(start + 8, len(rows))) for start in range(0, len(rows), 8)]

    def examine_batch(batch: range) -> list[Facts]:
        return [examine(rows[index], len(names), ignore_index) for index in batch]

    done = 0
    pool = ThreadPoolExecutor(usable_cores())
    try:
        with Progress(len(rows), unit=f"{split} image", enabled=progress) as bar:
            for facts in pool.map(examine_batch, batches):
                yield from facts
                done += len(facts)
                bar.update(done)
    finally:
        pool.shutdown(cancel_futures=True)


def black_and_white(where: str, classes: int) -> Finding:
    """A mask of 0 and 255 where class ids are expected."""
    option = ", or give --data.mask-values 0 255" if classes == 2 else ""
    remedy = f"store the class ids (0, 1, 2, ...) as grey levels, not black and white{option}"
    return Finding("error", where, "0/255 mask instead of class ids", remedy)


def without(message: str, where: str) -> str:
    """A message without the file it begins with, so that equal ones are grouped."""
    while where and message.startswith(where):
        message = message.removeprefix(where).lstrip(" :")
    return message.removeprefix("is ").removesuffix(".")
