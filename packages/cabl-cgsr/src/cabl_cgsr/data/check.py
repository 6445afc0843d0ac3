"""What is wrong with a set of images: `check` reads every file; `quick_check` sees that training can read them all."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cabl_cgsr.config import DataConfig
from cabl_cgsr.data.groups import hold_out
from cabl_cgsr.data.items import IMAGE_SUFFIXES, Item, Listing, below, files_below, suffix_of
from cabl_cgsr.data.layouts import list_set
from cabl_cgsr.data.leakage import Fingerprint, Match, equal_images, fingerprint, matches
from cabl_cgsr.data.masks import AS_STORED, Decoded, decode_mask, mask_problem, sideways, stated
from cabl_cgsr.data.pixels import file_header, load_image
from cabl_cgsr.data.published import MASK_REMEDY, UNMASKED, counts_finding, known_findings
from papers_shared.doctor import Finding, Report
from papers_shared.errors import UserError
from papers_shared.files import cache_folder
from papers_shared.images import verify_image
from papers_shared.progress import Progress
from papers_shared.sound_files import broken_files
from papers_shared.threads import usable_cores
from papers_shared.written import MANIFEST

SEEN = (
    "scores on images seen in training mean nothing: train without them (--keep-list FILE, --data.list FILE)"
)
SMALL_MASK = 4
"""Pixels below which a mask is probably a mistake."""
LARGE_SHARE = 0.6
"""Share of an image from which a mask is probably inverted, where most masks of the set mark as much."""
NEARLY_BLACK, NOISE_SHARE = 31, 0.002
"""Levels from 1 to this are noise where more than this share of a mask's pixels has them."""
ARRAYS = frozenset({".npz", ".npy", ".mat", ".h5", ".hdf5", ".pkl", ".pt", ".pth"})
UNREAD_IMAGES = frozenset(
    {".heic", ".heif", ".dng", ".cr2", ".nef", ".arw", ".psd", ".svg", ".eps", ".ico", ".tga", ".exr", ".jxl"}
)


@dataclass
class Examined:
    """A set whose files were all read."""

    listing: Listing
    prints: list[Fingerprint | None] = field(default_factory=list)
    """Of each item; None where the image cannot be read."""
    findings: list[Finding] = field(default_factory=list)


def check(data: DataConfig, against: Sequence[DataConfig] = (), *, progress: bool = True) -> Report:
    """Read every image and mask of a set and report what is wrong; the worst are errors.

    Errors: unreadable images and masks, images that several masks fit, lines of a list that name nothing. Warnings:
    manipulated images without a mask or with one on its side or of another shape, masks of another size, empty or
    without an image, most masks marking most of their images, equal images, fewer images than published, files that
    are not read, and images that also occur in one of the other sets. Notes: what was taken for what, counts, how
    masks were read that are no plain grey images, and names that other programs stumble over.

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


def quick_check(data: DataConfig, *, progress: bool = True) -> Report:
    """What stops a training: no set, an image that cannot be read, one label only, too few to hold some out.

    Every image is read, but only once: those that are sound are remembered in the cache folder by size and time. No
    mask is looked for.
    """
    report = Report()
    try:
        listing = list_set(data, masks=False, subset="train")
    except UserError as error:
        report.add("error", data.root or data.list or "--data.root", str(error))
        return report
    report.extend(listing.errors)
    paths = [item.image for item in listing.items]
    broken = broken_files(
        paths, verify_image, kind="image", cache=cache_folder("cabl-cgsr"), progress=progress
    )
    for path, problem in broken.items():
        report.add("error", path, _without(problem, path), "get the file again, or remove it")
    if not report.errors:
        try:
            hold_out(listing.items, data.val_share, data.val_seed)
        except UserError as error:
            report.add("error", listing.base, str(error))
    return report


def check_command(data: DataConfig) -> str:
    """The command line that shows all that is wrong with a set."""
    listed = f" --data.list {shlex.quote(data.list)}" if data.list else ""
    return f"cabl-cgsr data check {shlex.quote(data.root)}{listed}"


def examine_set(data: DataConfig, *, progress: bool = True) -> Examined:
    """Read all files of a set.

    Raises:
        UserError: There is no such set.
    """
    listing = list_set(data, masks=True, subset="all")
    findings = [_taken(listing, data), counts_finding(listing)]
    told = [finding for finding in listing.findings if Path(finding.source).stem not in UNMASKED]
    if listing.counts[1] and not any(item.mask or item.doubt for item in listing.items):
        findings.append(Finding("note", str(listing.base), "no masks: only image scores can be had"))
        told = [finding for finding in told if finding.message != "manipulated image without a mask"]
    findings += [*told, *known_findings(listing.items), *_unused(listing)]
    examined = Examined(listing, findings=findings)
    shares = []
    for facts in _examine_all(listing, data, progress):
        examined.prints.append(facts.print)
        examined.findings += facts.findings
        shares += [] if facts.share is None else [facts.share]
    examined.findings += _polarity(listing, data, shares)
    examined.findings += _equal_findings(equal_images(listing.items, examined.prints))
    return examined


def _taken(listing: Listing, data: DataConfig) -> Finding:
    """What was read as what."""
    parts: Counter[tuple[str, str]] = Counter()
    for item in listing.items:
        parts[_part(item.image, listing), "manipulated" if item.label else "authentic"] += 1
        if item.mask is not None:
            parts[_part(item.mask, listing), "masks"] += 1
    told = [f"{folder}: {count:,} {what}" for (folder, what), count in list(parts.items())[:12]]
    told += ["..."] if len(parts) > 12 else []
    layout = f"layout {listing.layout}" if listing.layout else f"list {data.list}"
    return Finding("note", f"{listing.base} ({'; '.join(told)})", layout)


def _part(path: Path, listing: Listing) -> str:
    """The folder in the set that a file lies in or below."""
    name = (
        below(path, listing.base) if path.is_relative_to(listing.base) else below(path, listing.base.parent)
    )
    return name.split("/")[0] if "/" in name.lstrip("/") else "."


def _unused(listing: Listing) -> Iterator[Finding]:
    """Files of the set that are not read."""
    told = {Path(finding.source) for finding in listing.findings}
    for reason, paths in listing.passed_over.items():
        told |= set(paths)
        yield Finding("note", f"{len(paths):,} files, such as {paths[0]}", reason)
    if not listing.layout:
        return
    told |= {path for item in listing.items for path in (item.image, item.mask) if path}
    others: Counter[str] = Counter()
    for path in files_below(listing.base):
        suffix = suffix_of(path.name)
        if path in told or path.name == MANIFEST:
            continue
        if suffix in IMAGE_SUFFIXES:
            message = f"image that the layout {listing.layout} has no use for: not read"
            yield Finding("warning", str(path), message, "move it to where its label says, or out of the set")
        elif suffix in ARRAYS | UNREAD_IMAGES:
            message = f"file of a format that is not read ({suffix})"
            yield Finding("warning", str(path), message, "save an image or a mask as PNG; leave the rest")
        else:
            others[suffix or "no suffix"] += 1
    if others:
        kinds = ", ".join(f"{count:,} {suffix}" for suffix, count in sorted(others.items()))
        yield Finding("note", f"{listing.base} ({kinds})", "other files: not read")


def _polarity(listing: Listing, data: DataConfig, shares: Sequence[float]) -> Iterator[Finding]:
    """Whether most masks mark most of their images, as inverted ones do."""
    large = sum(share > LARGE_SHARE for share in shares)
    if large * 2 <= len(shares):
        return
    if data.invert_masks:
        remedy = "leave --data.invert-masks out"
    elif listing.inverted:
        remedy = "black is the manipulated part in this release: where white is, give --data.invert-masks"
    else:
        remedy = "white should be the manipulated part: where black is, give --data.invert-masks"
    message = f"most masks mark more than {LARGE_SHARE:.0%} of their images, as inverted ones do"
    yield Finding("warning", f"{large:,} of {len(shares):,} masks of {listing.dataset}", message, remedy)


@dataclass
class Facts:
    """What reading one item told."""

    print: Fingerprint | None = None
    share: float | None = None
    """Of the image that the mask marks."""
    findings: list[Finding] = field(default_factory=list)


def examine(item: Item, listing: Listing, data: DataConfig) -> Facts:
    """Decode an image and its mask; whatever goes wrong stands in the findings."""
    facts = Facts()
    try:
        facts.print = fingerprint(
            load_image({"name": item.name, "image": {"path": str(item.image), "bytes": None}})
        )
    except (UserError, OSError, MemoryError) as error:
        message = _without(_said(error), item.image)
        facts.findings.append(Finding("error", str(item.image), message, "get the file again, or remove it"))
    if item.mask is not None:
        try:
            decoded = decode_mask({"path": str(item.mask), "bytes": None})
            levels = stated(decoded.levels, listing.inverted != data.invert_masks, data.mask_threshold)
            facts.share = float((levels > 0).mean())
            facts.findings += _mask_findings(item, decoded, levels, listing, data)
        except (UserError, OSError, MemoryError) as error:
            message = _without(_said(error), item.mask)
            facts.findings.append(Finding("error", str(item.mask), message, "get the mask again"))
    return facts


def _mask_findings(
    item: Item, decoded: Decoded, levels: np.ndarray, listing: Listing, data: DataConfig
) -> Iterator[Finding]:
    where, remedy = str(item.mask), MASK_REMEDY.get(listing.dataset, "")
    if decoded.how:
        yield Finding("note", where, decoded.how)
    with suppress(UserError):  # an image that cannot be read stands in the findings already
        yield from _size_findings(item, decoded, levels, remedy)
    inside = int(np.count_nonzero(levels))
    if inside < SMALL_MASK:
        yield Finding("warning", where, "empty mask of a manipulated image", "get the right mask")
    elif inside == levels.size:
        yield Finding("warning", where, "mask that covers the whole image", "check how the mask is stored")
    if data.mask_threshold:
        return
    stored = decoded.levels
    noise = ((stored > 0) & (stored <= NEARLY_BLACK)).mean()
    if stored.max() > NEARLY_BLACK and noise > NOISE_SHARE:
        message = (
            f"levels of 1 to {NEARLY_BLACK} in the mask, as JPEG leaves: all above 0 count as manipulated"
        )
        yield Finding(
            "warning", where, message, "give --data.mask-threshold 127, or store masks as 0 and 255"
        )
    elif 0 < stored.max() < 128:
        message = f"no level of the mask is above {stored.max()} of 255: all above 0 count as manipulated"
        yield Finding("warning", where, message, "store masks as 0 and 255 if these are ids of classes")


def _size_findings(item: Item, decoded: Decoded, levels: np.ndarray, remedy: str) -> Iterator[Finding]:
    header = file_header({"path": str(item.image), "bytes": None})
    size, drawn = header.size, levels.shape
    sizes = f"{item.mask} ({drawn[1]}x{drawn[0]}, image {size[1]}x{size[0]})"
    if drawn != size:
        entries = [{"path": str(path), "bytes": None} for path in (item.image, item.mask)]
        problem = mask_problem(*entries)
        if problem:
            fault = "on its side" if "on its side" in problem else "of another shape"
            message = f"mask {fault}: its image is left out where pixels are scored"
            yield Finding(
                "warning", sizes, message, remedy or "get the right mask, or turn it as its image is"
            )
        elif sideways(size, drawn):
            message = "mask drawn on the image as it is stored: turned as the image's EXIF orientation says"
            yield Finding("note", sizes, message)
        else:
            yield Finding("warning", sizes, "mask of another size: resized to the nearest pixel", remedy)
    elif header.orientation in (2, 3, 4) or (header.orientation in AS_STORED and size[0] == size[1]):
        message = "image with an EXIF orientation: whether its mask is turned too cannot be told by the sizes"
        yield Finding("note", str(item.image), message, "look at the mask on the image")


def _said(error: BaseException) -> str:
    return str(error) or "out of memory"


def _examine_all(listing: Listing, data: DataConfig, progress: bool) -> Iterator[Facts]:
    """`examine` for every item, in order, on all cores: Pillow decodes without holding Python's lock."""
    pool = ThreadPoolExecutor(usable_cores())
    try:
        with Progress(len(listing.items), unit=f"{listing.dataset} image", enabled=progress) as bar:
            results = pool.map(lambda item: examine(item, listing, data), listing.items)
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


def _without(message: str, source: object) -> str:
    """A message without the file it begins with, so that equal ones are grouped."""
    return message.removeprefix(str(source)).lstrip(" :").removeprefix("is ")
