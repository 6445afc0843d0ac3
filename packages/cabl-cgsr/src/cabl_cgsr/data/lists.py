"""Lists that people write: JSON of WSCL and of IMDLBenCo, tables of images, masks and labels, and plain names.

    {"x.jpg": {"subset": "val", "path": "...", "label": 1, "mask": "..."}}     WSCL
    [["Tp/x.jpg", "Gt/x.png"], ["Au/y.jpg", "Negative"]]                       IMDLBenCo
    [{"image": "...", "mask": "...", "label": 1}], or a line for each          JSON, JSON lines
    image,mask,label or image mask label; tabs, semicolons and bars too        text and CSV, with or without a header
    Tp/x.jpg                                                                   names alone: what to take of a set

What a line names and is not there, and what is named twice, is reported with its line; the rest of the list stands.
"""

from __future__ import annotations

import csv
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cabl_cgsr.data.casia import origins
from cabl_cgsr.data.items import (
    IMAGE_SUFFIXES,
    Item,
    Listing,
    mask_findings,
    stem_of,
    suffix_of,
    unique_names,
)
from papers_shared.doctor import Finding
from papers_shared.entries import shown, text_of
from papers_shared.errors import UserError
from papers_shared.paths import inside
from papers_shared.text import read_json, read_json_lines, read_text

IMAGE_COLUMNS = (
    *(
        "image",
        "img",
        "imagepath",
        "imgpath",
        "path",
        "file",
        "filename",
        "filepath",
        "imagefile",
        "imagename",
    ),
    *("probefilename", "probe", "name"),
)
MASK_COLUMNS = (
    "mask",
    "maskpath",
    "maskfile",
    "maskname",
    "maskfilename",
    "gt",
    "groundtruth",
    "probemaskfilename",
)
LABEL_COLUMNS = (
    *(
        "label",
        "class",
        "target",
        "istarget",
        "y",
        "manipulated",
        "ismanipulated",
        "fake",
        "isfake",
        "tampered",
    ),
)
LABELS = {
    **dict.fromkeys(("0", "0.0", "authentic", "real", "au", "original", "pristine", "false", "no", "n"), 0),
    **dict.fromkeys(
        ("1", "1.0", "manipulated", "fake", "tp", "tampered", "forged", "spliced", "true", "yes", "y"), 1
    ),
}
NO_MASK = frozenset({"", "none", "null", "negative", "nan", "na", "-"})
SPACED = re.compile(
    rf"(?P<image>.+?\.(?:{'|'.join(suffix[1:] for suffix in sorted(IMAGE_SUFFIXES))}))\s+"
    rf"(?:(?P<mask>none|null|negative|.+?\.(?:{'|'.join(suffix[1:] for suffix in sorted(IMAGE_SUFFIXES))}))(?:\s+|$))?"
    r"(?P<label>[01])?",
    re.IGNORECASE,
)
"""`image mask label` with blanks between, which the names may hold too."""
REMEDY = "correct the line, or check --data.root"


@dataclass(frozen=True)
class Entry:
    """One image of a list; `mask` and `label` are None where the list says nothing."""

    where: str
    """File and line."""
    image: str
    mask: str | None = None
    label: int | None = None
    subset: str = ""

    @property
    def states_mask(self) -> bool:
        """Whether the list names a mask, and not the word for none."""
        return self.mask is not None and self.mask.strip().lower() not in NO_MASK


@dataclass
class Entries:
    """What a list holds."""

    entries: list[Entry] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    @property
    def plain(self) -> bool:
        """Whether it is a list of names alone."""
        return all(entry.mask is None and entry.label is None for entry in self.entries)


def read_list(file: Path) -> Entries:
    """All that a list holds; lines that cannot be used are errors among the findings.

    Raises:
        UserError: It is not to be read as text or JSON.
    """
    found = Entries()
    for where, value in _values(file):
        try:
            found.entries.append(_entry(where, value))
        except UserError as error:
            found.findings.append(_fault(where, error))
    return found


def list_entries(
    file: Path, read: Entries, root: Path, masks: bool, subset: str, allow_outside: bool
) -> Listing:
    """The images that a list names, with the labels that it states or that its masks imply.

    Paths are looked up below `root`, below the folder of the list, and below the folder above that one.

    Args:
        subset: Of a WSCL list; all where the list has only one.

    Raises:
        UserError: The list names no image.
    """
    folders = [root, file.parent, file.parent.parent]
    present = {entry.subset for entry in read.entries if entry.subset}
    wanted = subset if subset in present and len(present) > 1 else ""
    findings = list(read.findings)
    known: dict[Path, tuple[Item, str]] = {}
    for entry in read.entries:
        if wanted and entry.subset != wanted:
            continue
        try:
            item = _item(entry, folders, masks, allow_outside)
            if item.image in known:
                findings.append(_repeated(entry, item, *known[item.image]))
            else:
                known[item.image] = item, entry.where
                if masks and not item.label and entry.states_mask:
                    message = "mask of an authentic image: not used"
                    findings.append(Finding("note", f"{entry.where}: {entry.mask}", message))
        except UserError as error:
            findings.append(_fault(entry.where, error))
    items = [item for item, _ in known.values()]
    if not items:
        first = f" ({findings[0].source}: {findings[0].message})" if findings else ""
        raise UserError(
            f"{file} lists no image that is there{first}: check --data.list, --data.root and --data.subset"
        )
    items.sort(key=lambda item: (item.label, item.name))
    drawn = mask_findings(items) if masks and any(item.mask for item in items) else []
    base = root if root.is_dir() else file.parent
    return Listing(file.stem, base, unique_names(items, base), (*findings, *drawn))


def pick(listing: Listing, file: Path, read: Entries, root: Path) -> Listing:
    """The images of a set that a list names, with or without folder and suffix, and with any folders before those.

    What is not in the set, or fits several of its images, is an error among the findings.
    """
    paths: dict[str, set[str]] = defaultdict(set)
    tails: dict[str, set[str]] = defaultdict(set)
    parents = set()
    for item in listing.items:
        parents.add(item.image.parent.name)
        tails[item.name].add(item.name)
        for folder in (listing.base, root):
            path = os.path.relpath(item.image, folder).replace(os.sep, "/")
            for name in (path, os.path.splitext(path)[0]):
                paths[name].add(item.name)
                for tail in _tails(name):
                    tails[tail].add(item.name)
    chosen: dict[str, str] = {}
    findings = [*listing.findings, *read.findings]
    for entry in read.entries:
        found: set[str] = set()
        given = entry.image.replace("\\", "/").strip("/")
        for tail in _tails(given):
            parent = given.removesuffix(tail).strip("/").rpartition("/")[2]
            if "/" not in tail and parent in parents:
                break  # the folder is one of the set, and does not hold the image
            found = paths.get(tail) or tails.get(tail) or set()
            if found:
                break
        if len(found) != 1:
            fault = "is not in" if not found else f"names {len(found)} images, write its path below"
            findings.append(_fault(entry.where, UserError(f"{shown(entry.image)} {fault} {listing.base}")))
            continue
        (name,) = found
        if name in chosen:
            message = "named again in the list: counted once"
            findings.append(
                Finding("warning", f"{entry.where}: {entry.image} (first: {chosen[name]})", message)
            )
        chosen.setdefault(name, entry.where)
    items = tuple(item for item in listing.items if item.name in chosen)
    left = len(listing.items) - len(items)
    if left:
        findings.append(Finding("note", f"{left:,} of {len(listing.items):,} images", f"not named by {file}"))
    if not items:
        errors = [finding for finding in findings if finding.severity == "error"]
        first = f": {errors[0].source}: {errors[0].message}" if errors else ""
        raise UserError(f"{file} names no image of {listing.base}{first}")
    named = {
        str(path)
        for item in listing.items
        if item.name not in chosen
        for path in (item.image, item.mask)
        if path
    }
    kept = tuple(one for one in findings if one.source.partition(" (fits ")[0] not in named)
    return replace(listing, items=items, findings=kept)


def _tails(name: str) -> Iterator[str]:
    """A path, and the path without its first folder, without its first two, and so on."""
    while name:
        yield name
        name = name.partition("/")[2]


def _item(entry: Entry, folders: Sequence[Path], masks: bool, allow_outside: bool) -> Item:
    label = entry.label
    if label is None:
        if entry.mask is None:
            raise UserError(f"{entry.where}: {shown(entry.image)} has neither a mask nor a label")
        label = int(entry.states_mask)
    image = _locate(entry.image, folders, entry.where, allow_outside)
    mask = (
        _locate(entry.mask, folders, entry.where, allow_outside)
        if masks and label and entry.mask and entry.states_mask
        else None
    )
    return Item(stem_of(image), image, label, mask, origins(stem_of(image)))


def _repeated(entry: Entry, item: Item, first: Item, where: str) -> Finding:
    source = f"{entry.where}: {entry.image} (first: {where})"
    if (item.label, item.mask) == (first.label, first.mask):
        return Finding("warning", source, "named again in the list: counted once")
    message = "named again in the list with another label or mask: the first is taken"
    return Finding("error", source, message, "remove the wrong line")


def _fault(where: str, error: UserError) -> Finding:
    return Finding("error", where, str(error).removeprefix(where).removeprefix(":").strip(), REMEDY)


def _values(file: Path) -> Iterator[tuple[str, Any]]:
    """(file and line or entry, what stands there, or why it cannot be used) of each entry of a list."""
    if file.suffix.lower() in (".jsonl", ".ndjson"):
        yield from ((f"{file}, line {line}", value) for line, value in read_json_lines(file))
        return
    if file.suffix.lower() != ".json":
        yield from _lines(file)
        return
    content = read_json(file)
    if isinstance(content, Mapping):
        yield from ((f"{file}, entry {shown(key)}", value) for key, value in content.items())
    elif isinstance(content, list):
        yield from ((f"{file}, entry {number}", value) for number, value in enumerate(content, start=1))
    else:
        raise UserError(f"{file} must hold an object or a list, not {shown(content)}")


def _entry(where: str, value: Any) -> Entry:
    if isinstance(value, UserError):
        raise value
    if isinstance(value, str):
        return Entry(where, value)
    if isinstance(value, list):
        if not value or not all(isinstance(part, str | int) for part in value):
            raise UserError(f'{where} must be [image, mask or "Negative"], not {shown(value)}')
        return _positional(where, [str(part) for part in value])
    if not isinstance(value, Mapping):
        raise UserError(
            f"{where} must be a name, a pair or an object with image, mask and label, not {shown(value)}"
        )
    columns = {_plain(str(key)): key for key in value}
    image = next((columns[name] for name in IMAGE_COLUMNS if name in columns), None)
    if image is None:
        raise UserError(f"{where} needs a path (text) and a label (0 or 1)")
    name = text_of(value, image, where)
    mask = next((columns[column] for column in MASK_COLUMNS if column in columns), None)
    label = next((columns[column] for column in LABEL_COLUMNS if column in columns), None)
    return Entry(
        where,
        name,
        None if mask is None else text_of(value, mask, where, default=""),
        None if label is None else _label(value[label], where),
        text_of(value, "subset", where, default="") if "subset" in value else "",
    )


def _lines(file: Path) -> Iterator[tuple[str, Any]]:
    """Entries of a text file: rows of a table, with or without a header, or names."""
    lines = [(number, line.strip()) for number, line in enumerate(read_text(file).split("\n"), start=1)]
    lines = [(number, line) for number, line in lines if line]
    if not lines:
        return
    delimiter = _delimiter([line for _, line in lines])
    rows = [(number, _fields(line, delimiter)) for number, line in lines]
    header = [_plain(text) for text in rows[0][1]]
    if any(name in IMAGE_COLUMNS for name in header) and not any(_is_image(text) for text in rows[0][1]):
        names = rows[0][1]
        for number, fields in rows[1:]:
            where = f"{file}, line {number}"
            padded = [*fields, *[""] * (len(names) - len(fields))]
            if len(padded) > len(names):
                yield where, UserError(f"{where}: {len(fields)} values for {len(names)} columns")
            else:
                yield where, dict(zip(names, padded, strict=True))
        return
    yield from ((f"{file}, line {number}", fields) for number, fields in rows)


def _positional(where: str, fields: Sequence[str]) -> Entry:
    """`image`, `image, label`, `image, mask` or `image, mask, label`, and whatever follows."""
    image, *rest = (text.strip() for text in fields)
    if not rest:
        return Entry(where, image)
    if rest[0].lower() in LABELS and not _is_image(rest[0]):
        return Entry(where, image, None, LABELS[rest[0].lower()])
    if not _is_image(rest[0]) and rest[0].lower() not in NO_MASK:
        raise UserError(f"{where}: {shown(rest[0])} is neither a mask nor a label (0 or 1)")
    label = next((LABELS[text.lower()] for text in rest[1:] if text.lower() in LABELS), None)
    if label is None and len(rest) > 1 and not _is_image(rest[1]) and rest[1].lower() not in NO_MASK:
        raise UserError(f"{where}: the label must be 0 or 1, not {shown(rest[1])}")
    return Entry(where, image, rest[0], label)


def _delimiter(lines: Sequence[str]) -> str:
    """What separates the columns; a blank where they are separated by blanks, empty where there is one column."""
    first = lines[0]
    for mark in "\t;|,":
        fields = _fields(first, mark)
        named = _is_image(fields[0]) or any(_plain(text) in IMAGE_COLUMNS for text in fields)
        if len(fields) > 1 and named:
            return mark
    words = first.split()
    header = len(words) > 1 and all(
        _plain(word) in {*IMAGE_COLUMNS, *MASK_COLUMNS, *LABEL_COLUMNS} for word in words
    )
    sample = lines[1] if header and len(lines) > 1 else first
    match = SPACED.fullmatch(sample)
    return " " if match and (match["mask"] or match["label"]) else ""


def _fields(line: str, delimiter: str) -> list[str]:
    if not delimiter:
        return [line.strip('"')]
    if delimiter == " ":
        if match := SPACED.fullmatch(line):
            return [text for text in match.group("image", "mask", "label") if text is not None]
        words = line.split()
        return words if not _is_image(line) else [line]
    try:
        return [text.strip() for text in next(csv.reader([line], delimiter=delimiter))]
    except (csv.Error, StopIteration):
        return [line]


def _label(value: Any, where: str) -> int:
    text = str(value).strip().lower() if isinstance(value, str | int) else ""
    if text not in LABELS:
        raise UserError(f"{where}: the label must be 0 or 1, not {shown(value)}")
    return LABELS[text]


def _locate(name: str, folders: Iterable[Path], where: str, allow_outside: bool) -> Path:
    """The file `name` in the first folder that has it; WSCL's paths begin with `data/`."""
    folders = list(folders)
    for folder in folders[:2]:  # an absolute name below the data or beside the list leads nowhere else
        absolute = os.path.abspath(folder)
        if os.path.isabs(name) and ".." not in Path(name).parts and Path(name).is_relative_to(absolute):
            name = os.path.relpath(name, absolute)
            break
    plain = name.replace("\\", "/")
    names = [name, plain.removeprefix("data/")] if plain.startswith("data/") else [name]
    for candidate in names:
        for folder in folders:
            path = inside(folder, candidate, where, allow_outside=allow_outside)
            if os.path.lexists(path):
                return path
    raise UserError(f"{where}: {shown(name)} is not below {folders[0]}")


def _is_image(text: str) -> bool:
    return suffix_of(text.strip()) in IMAGE_SUFFIXES


def _plain(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.lower())
