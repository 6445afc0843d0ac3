"""What all images and masks of a split, and of the splits of a data set, say together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import datasets
import numpy as np

from fanet.config import ZEROWASTE_CLASSES, DataConfig
from fanet.data.examine import Facts, black_and_white
from fanet.data.published import ZEROWASTE_F
from fanet.data.sources.splits import origin_of
from papers_shared.doctor import Finding

INVERTED_SHARE = 0.9
"""A single class that covers more than this is suspected to be the background."""
IGNORED_SHARE = 0.5


def findings_of_split(
    split: str, rows: datasets.Dataset, facts: list[Facts], names: Sequence[str], data: DataConfig
) -> list[Finding]:
    """Those of the images, and what all masks of a split say together."""
    findings = [finding for fact in facts for finding in fact.findings]
    if turned := [fact.name for fact in facts if fact.turned]:
        where = f"split {split} ({len(turned):,} images: {shortened(turned[:3])})"
        message = "images that their EXIF block turns: they are read upright, and so must their masks be"
        findings.append(Finding("note", where, message))
    if "label" in rows.column_names:
        labels = np.array([-1 if label is None else label for label in rows["label"]], np.int64)
        known = (labels >= 0) & (labels < len(names))
        counts = np.bincount(labels[known], minlength=len(names))
        if not known.all():
            wrong = [facts[index].name for index in np.flatnonzero(~known)]
            where = f"split {split} ({len(wrong):,} images: {shortened(wrong[:3])})"
            message = f"a label that is none of the {len(names)} classes"
            findings.append(Finding("error", where, message, "remove these rows, or name all classes"))
        message = f"{len(facts):,} images, {counts.min():,} to {counts.max():,} per class"
        findings.append(Finding("note", f"split {split}", message))
        pixels, empty = counts, "no image"
    else:
        findings += grey_findings(split, facts, len(names))
        total = np.sum([fact.counts for fact in facts if fact.counts is not None], axis=0)
        total = np.zeros(256, np.int64) if np.ndim(total) == 0 else total
        findings += value_findings(split, total, names, data.ignore_index, data.mask_values)
        pixels, empty = total[: len(names)], "no pixel"
        shares = [
            f"{name} {100 * n / max(total.sum(), 1):.2f} %" for name, n in zip(names, pixels, strict=False)
        ]
        ignored = int(total[data.ignore_index]) if 0 <= data.ignore_index < 256 else 0
        if ignored:
            shares.append(f"ignored {100 * ignored / total.sum():.2f} %")
        more = f", ... ({len(names)} classes)" if len(shares) > 30 else ""
        message = f"{len(facts):,} images; pixels: {', '.join(shares[:30])}{more}"
        findings.append(Finding("note", f"split {split}", message))
    absent = [name for name, count in zip(names, pixels, strict=False) if not count]
    if absent:
        remedy = "its IoU is left out of the mean where it occurs in no prediction either"
        findings.append(Finding("warning", f"split {split}", f"{empty} of {shortened(absent)}", remedy))
    return findings


def grey_findings(split: str, facts: list[Facts], classes: int) -> list[Finding]:
    """0/255 masks whose 255 would count as ignored: an error where no mask of the split has another class."""
    grey = [fact.grey for fact in facts if fact.grey]
    other = any(fact.counts is not None and fact.counts[1:255].any() for fact in facts)
    if grey and not other:
        return [black_and_white(where, classes) for where in grey]
    message, remedy = "mask of background and ignored pixels only", "correct it if 255 is meant as an object"
    return [Finding("warning", where, message, remedy) for where in grey]


def findings_across(every: dict[str, list[Facts]], names: Sequence[str]) -> list[Finding]:
    """Equal images, videos over several splits, published counts."""
    findings = []
    same: dict[bytes, list[tuple[str, str]]] = defaultdict(list)
    videos: dict[str, set[str]] = defaultdict(set)
    copied: dict[str, set[str]] = defaultdict(set)
    for split, facts in every.items():
        for fact in facts:
            if fact.digest:
                same[fact.digest].append((split, fact.name))
            if (origin := origin_of(fact.name)) != fact.name and "/" not in fact.name:
                (copied if ".rf." in fact.name else videos)[origin.strip("/")].add(split)
    for copies in same.values():
        if len(copies) > 1:
            across = len({split for split, _ in copies}) > 1
            message = "the same image in several splits" if across else "the same image twice in a split"
            remedy = "remove the copies: scores on images seen in training mean nothing" if across else ""
            findings.append(Finding("warning", ", ".join(f"{s}/{n}" for s, n in copies), message, remedy))
    for name, found in sorted(copied.items()):
        if len(found) > 1:
            where, message = f"{name}: {', '.join(sorted(found))}", "copies of one image in several splits"
            findings.append(
                Finding("warning", where, message, "keep the copies of an image within one split")
            )
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


def value_findings(
    split: str, counts: np.ndarray, names: Sequence[str], ignore_index: int, mask_values: Sequence[int] = ()
) -> list[Finding]:
    """Masks that mean something else than class ids, with the option that mends it.

    Args:
        counts: Pixels per value over the split, (256,), as the masks are read now.
        mask_values: `--data.mask-values` as it is now.
    """
    where, classes = f"split {split}", len(names)
    values = np.flatnonzero(counts).tolist()
    unknown = [value for value in values if value >= classes and value != ignore_index]
    if unknown:
        listed = ", ".join(map(str, values[:12])) + (", ..." if len(values) > 12 else "")
        message = f"the masks hold the values {listed}, and there are {classes} classes"
        return [Finding("error", where, message, _remedy(values, unknown, classes, ignore_index))]
    findings = []
    total = counts.sum()
    if classes == 2 and total and counts[1] > INVERTED_SHARE * (counts[0] + counts[1]):
        now = list(mask_values) or [0, 1]
        remedy = f"if black and white are exchanged: --data.mask-values {now[1]} {now[0]}"
        share = 100 * counts[1] / (counts[0] + counts[1])
        findings.append(
            Finding(
                "warning", where, f"{names[1]} covers {share:.1f} % of the pixels: inverted masks?", remedy
            )
        )
    if total and 0 <= ignore_index < 256 and counts[ignore_index] > IGNORED_SHARE * total:
        share = 100 * counts[ignore_index] / total
        message = f"the ignored value {ignore_index} covers {share:.1f} % of the pixels"
        findings.append(Finding("warning", where, message, "check --data.ignore-index"))
    return findings


def _remedy(values: Sequence[int], unknown: Sequence[int], classes: int, ignore_index: int) -> str:
    """The option that gives the stored values their meaning, where one is likely."""
    plain = [value for value in values if value != ignore_index]
    for stored in (list(values), plain):
        if len(stored) == classes:
            return f"give their values in the order of the classes: --data.mask-values {' '.join(map(str, stored))}"
    if plain == list(range(classes + 1)):
        ids = " ".join(map(str, range(1, classes + 1)))
        return f"if 0 is no class: --data.mask-values {ids} --data.ignore-index 0"
    if len(unknown) == 1:
        return (
            f"if {unknown[0]} marks pixels to ignore: --data.ignore-index {unknown[0]}; else name its class"
        )
    if len(values) > classes + 20:
        return "these are grey levels, not ids: store the ids without loss (PNG), and resize without interpolation"
    return "correct the masks, name all classes (--data.class-names), or say what the values mean (--data.mask-values)"


def shortened(names: Sequence[str]) -> str:
    """The first of many names."""
    return ", ".join(name[:60] for name in names[:8]) + (f", ... ({len(names)})" if len(names) > 8 else "")
