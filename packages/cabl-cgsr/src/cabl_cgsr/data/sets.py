"""The released test sets but CASIA, and folders of one's own images.

Each function lists the images of one layout; masks are looked for only when they are asked for, and are then paired by
`pairing`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from cabl_cgsr.data.casia import origins as casia_origins
from cabl_cgsr.data.items import (
    AUTHENTIC,
    MANIPULATED,
    MASK_ENDING,
    Found,
    Item,
    Listing,
    files_below,
    folder_in,
    images_in,
    mask_findings,
    mask_folders,
    masks_in,
    subfolders,
    suffix_of,
    unique_names,
    without_masks,
)
from cabl_cgsr.data.pairing import Pairs, pair
from papers_shared.doctor import Finding
from papers_shared.errors import UserError
from papers_shared.paths import inside
from papers_shared.text import read_table
from papers_shared.written import MANIFEST, read_manifest

COVERAGE_RESIZED = (41, 48, 55, 56, 57, 58, 59, 61, 95)
"""Forgeries whose masks have another size than their images: without them the set is the one of 91."""
COVERAGE_NAME = re.compile(r"(\d{1,9})(t?)")
AUTHENTIC_WORDS = frozenset(
    {
        "authentic",
        "auth",
        "au",
        "real",
        "original",
        "originals",
        "orig",
        "pristine",
        "genuine",
        "untampered",
        "clean",
    }
)
MANIPULATED_WORDS = frozenset(
    {
        "manipulated",
        "tampered",
        "tamper",
        "tp",
        "sp",
        "fake",
        "fakes",
        "forged",
        "forgery",
        "forgeries",
        "spliced",
    }
    | {"splicing", "edited", "altered", "doctored", "inpainted", "manipulation"}
)
"""Words of a folder's name that say what its images are, beside 0 and 1 alone."""
AUTOSPLICE_QUALITIES = ("100", "90", "75")


def list_columbia(base: Path, masks: bool) -> Listing:
    """`4cam_auth`, `4cam_splc` and, in it, `edgemask`; converted `_gt` masks beside them are preferred."""
    spliced = folder_in(base, "4cam_splc") or base / "4cam_splc"
    authentic, (manipulated, beside) = (
        _images(folder_in(base, "4cam_auth")),
        without_masks(images_in(spliced)),
    )
    if not masks:
        return _listing("columbia", base, authentic, manipulated)
    folders = mask_folders(base, spliced)
    plain = [*beside, *masks_in(folder for folder in folders if folder.name.lower() != "edgemask")]
    edges = masks_in(folder for folder in folders if folder.name.lower() == "edgemask")
    pairs, drawn = pair(manipulated, plain), pair(manipulated, edges)
    spare = {path: mask for path, mask in drawn.masks.items() if path not in pairs.masks}
    replaced = tuple(mask for path, mask in drawn.masks.items() if path in pairs.masks)
    pairs.masks |= {path: mask for path, mask in spare.items() if path not in pairs.doubts}
    pairs.doubts |= {path: doubt for path, doubt in drawn.doubts.items() if path not in pairs.masks}
    pairs.unused += drawn.unused
    return _listing(
        "columbia",
        base,
        authentic,
        manipulated,
        pairs,
        passed_over=_reason("coloured masks: converted ones are taken", replaced),
    )


def list_coverage(base: Path, masks: bool, forgeries: int = 100) -> Listing:
    """`image/{n}.tif`, `image/{n}t.tif`, `mask/{n}forged.tif`; `forgeries`: 100, or the 91 that others use."""
    drawn: dict[int, list[Path]] = {}
    other = []
    for one in images_in(folder_in(base, "mask") or base / "mask") if masks else []:
        match = re.fullmatch(r"(\d{1,9})forged", one.stem.lower())
        if match:
            drawn.setdefault(int(match[1]), []).append(one.path)
        else:
            other.append(one.path)
    items = []
    left_out: list[Path] = []
    for one in images_in(folder_in(base, "image") or base / "image"):
        match = COVERAGE_NAME.fullmatch(one.stem.lower())
        if match is None:
            continue
        number, forged = int(match[1]), bool(match[2])
        found = drawn.pop(number, []) if forged else []
        if forged and forgeries == 91 and number in COVERAGE_RESIZED:
            left_out += [one.path, *found]
            continue
        mask = found[0] if len(found) == 1 else None
        doubt = f"fits {len(found)} masks" if len(found) > 1 else ""
        items.append(Item(one.stem, one.path, int(forged), mask, (str(number),), doubt))
    items.sort(key=lambda item: (item.label, int(item.origins[0]), item.name))
    unused = [path for paths in drawn.values() for path in paths]
    passed_over = _reason("masks of the copied and of the pasted part: the forged part is taken", other)
    passed_over |= _reason("forgeries that --data.coverage-forgeries 91 leaves out", left_out)
    findings = mask_findings(items, unused) if masks else []
    return Listing(
        "coverage",
        base,
        unique_names(items, base),
        tuple(findings),
        layout="coverage",
        passed_over=passed_over,
    )


def list_imd2020(base: Path, masks: bool) -> Listing:
    """Folders with one `*_orig` each, and manipulated images with `*_mask`."""
    authentic: list[Found] = []
    manipulated: list[Found] = []
    drawn: list[Found] = []
    for folder in subfolders(base):
        for one in images_in(folder):
            found = Found(one.path, f"{folder.name}/{one.below}")
            stem = one.stem.lower()
            (
                drawn if MASK_ENDING.search(stem) else authentic if stem.endswith("_orig") else manipulated
            ).append(found)
    pairs = pair(manipulated, drawn) if masks else None
    return _listing(
        "imd2020",
        base,
        authentic,
        manipulated,
        pairs,
        name=lambda one: one.below[: len(one.below) - len(suffix_of(one.below))],
        origins=lambda one: (one.path.parent.name,),
    )


def list_imdlbenco_folders(base: Path, masks: bool) -> Listing:
    """`Tp` with its masks in `Gt`, and `Au` if there is one."""
    authentic = _images(folder_in(base, "Au"))
    manipulated, beside = without_masks(_images(folder_in(base, "Tp")))
    pairs = pair(manipulated, [*beside, *_masks(folder_in(base, "Gt"))], by_order=True) if masks else None
    return _listing(
        _name(base).lower(),
        base,
        authentic,
        manipulated,
        pairs,
        layout="imdlbenco",
    )


def list_nist16(base: Path, masks: bool) -> Listing:
    """`probe`, `world`, and NIST's table (`reference/manipulation/NC2016-manipulation-ref.csv`) or masks by name.

    With the table a probe is manipulated where it is a target, and the other probes are authentic; the images of
    `world` are then authentic only if no probe is. In the masks black is manipulated.
    """
    probes, world = _images(folder_in(base, "probe")), _images(folder_in(base, "world"))
    tables = _nist_tables(base)
    if not tables:
        reference = folder_in(base, "reference")
        folders = mask_folders(base, *(subfolders(reference) if reference else []))
        pairs = pair(probes, masks_in(folders)) if masks else None
        return _listing("nist16", base, world, probes, pairs, inverted=True)
    by_path = {one.path: one for one in probes}
    by_name = {one.path.name.lower(): one for one in probes}
    labels: dict[Path, int] = {}
    pairs, findings = Pairs(), []
    for table in tables:
        for line, row in read_table(table):
            where = f"{table}, line {line}"
            try:
                one = _nist_file(row.get("ProbeFileName", ""), base, table, where)
                probe = by_path.get(one) or by_name.get(one.name.lower())
                if probe is None:
                    raise UserError(f"{where}: there is no probe {row['ProbeFileName']!r}")
                target = row.get("IsTarget", "Y").upper().startswith("Y")
                labels[probe.path] = max(labels.get(probe.path, 0), int(target))
                if masks and target and row.get("ProbeMaskFileName") and probe.path not in pairs.masks:
                    mask = _nist_file(row["ProbeMaskFileName"], base, table, where)
                    if not mask.is_file():
                        raise UserError(f"{where}: there is no mask {row['ProbeMaskFileName']!r}")
                    pairs.masks[probe.path] = mask
            except UserError as error:
                remedy = "complete the download, or correct the table"
                findings.append(Finding("error", where, str(error).removeprefix(f"{where}: "), remedy))
    manipulated = [one for one in probes if labels.get(one.path) == 1]
    authentic = [one for one in probes if labels.get(one.path) == 0]
    passed_over = _reason(
        "probes that the table does not name", [one.path for one in probes if one.path not in labels]
    )
    if authentic:
        passed_over |= _reason(
            "images of world: probes that are no target are the authentic ones", [one.path for one in world]
        )
    else:
        authentic = world
    return _listing(
        "nist16",
        base,
        authentic,
        manipulated,
        pairs if masks else None,
        inverted=True,
        findings=findings,
        passed_over=passed_over,
    )


def list_dso1(base: Path, masks: bool) -> Listing:
    """`DSO-1` with `normal-*` and `splicing-*`, masks in `DSO-1-Fake-Images-Masks`; black is manipulated."""
    folder = folder_in(base, "DSO-1") or base
    found = images_in(folder)
    authentic = [one for one in found if one.stem.lower().startswith("normal")]
    manipulated = [one for one in found if one.stem.lower().startswith("splicing")]
    drawn = folder_in(base, "DSO-1-Fake-Images-Masks") or folder_in(base.parent, "DSO-1-Fake-Images-Masks")
    pairs = pair(manipulated, _masks(drawn)) if masks else None
    return _listing("dso1", base, authentic, manipulated, pairs, inverted=True)


def list_korus(base: Path, masks: bool) -> Listing:
    """For each camera `pristine`, `tampered-realistic` and `ground-truth`; grey in a mask counts as manipulated."""
    authentic: list[Found] = []
    manipulated: list[Found] = []
    drawn: list[Found] = []
    for camera in korus_cameras(base):
        prefix = "" if camera == base else f"{camera.name}/"
        for some, name in (
            (authentic, "pristine"),
            (manipulated, "tampered-realistic"),
            (drawn, "ground-truth"),
        ):
            if some is not drawn or masks:
                some += [Found(one.path, prefix + one.below) for one in _images(folder_in(camera, name))]
    return _listing(
        "korus",
        base,
        authentic,
        manipulated,
        pair(manipulated, drawn) if masks else None,
        origins=lambda one: (one.below[: len(one.below) - len(suffix_of(one.below))].lower(),),
    )


def korus_cameras(base: Path) -> list[Path]:
    """The folders that hold one camera's images, `base` itself among them."""
    return [
        folder for folder in (base, *subfolders(base))
        if folder_in(folder, "pristine") and folder_in(folder, "tampered-realistic")
    ]  # fmt: skip


def list_autosplice(base: Path, masks: bool) -> Listing:
    """`Authentic`, `Mask`, and the forgeries at the highest JPEG quality that is there (`Forged_JPEG100`)."""
    there = [
        folder for quality in AUTOSPLICE_QUALITIES if (folder := folder_in(base, f"Forged_JPEG{quality}"))
    ]
    manipulated = _images(there[0] if there else None)
    others = [one.path for folder in there[1:] for one in images_in(folder, recursive=True)]
    return _listing(
        "autosplice",
        base,
        _images(folder_in(base, "Authentic")),
        manipulated,
        pair(manipulated, _masks(folder_in(base, "Mask"))) if masks else None,
        origins=lambda one: (one.stem.partition("_")[0],),
        passed_over=_reason("the same forgeries at lower JPEG qualities", others),
    )


def list_folders(base: Path, masks: bool) -> Listing:
    """Folders whose names say what is in them (`authentic` or `real`, `manipulated` or `fake`, ...), and `masks`.

    All with subfolders; a mask may lie beside its image too (`x_mask.png`).
    """
    parts = labelled_folders(base)
    authentic, manipulated = (
        [Found(one.path, one.below) for folder in parts[label] for one in images_in(folder, recursive=True)]
        for label in (AUTHENTIC, MANIPULATED)
    )
    authentic, drawn = without_masks(authentic)
    manipulated, beside = without_masks(manipulated)
    pairs = pair(manipulated, [*beside, *drawn, *masks_in(mask_folders(base))]) if masks else None
    known, findings = _converted(base)
    return _listing(
        _name(base),
        base,
        authentic,
        manipulated,
        pairs,
        layout="folders",
        origins=lambda one: known.get(one.path, ()) or casia_origins(one.stem),
        findings=findings,
    )


def labelled_folders(base: Path) -> dict[int, list[Path]]:
    """Label -> the folders directly in `base` whose names give their images this label."""
    parts: dict[int, list[Path]] = {AUTHENTIC: [], MANIPULATED: []}
    drawn = mask_folders(base)
    for folder in subfolders(base):
        words = set(re.split(r"[^a-z0-9]+", folder.name.lower()))
        labels = {AUTHENTIC: bool(words & AUTHENTIC_WORDS), MANIPULATED: bool(words & MANIPULATED_WORDS)}
        if folder.name in ("0", "1"):
            labels[int(folder.name)] = True
        if folder not in drawn and sum(labels.values()) == 1:
            parts[MANIPULATED if labels[MANIPULATED] else AUTHENTIC].append(folder)
    return parts


def _converted(base: Path) -> tuple[dict[Path, tuple[str, ...]], list[Finding]]:
    """Image -> what it was made from, as `data convert` wrote it down."""
    try:
        entries = read_manifest(base).get("images")
        known = {}
        for name, entry in entries.items() if isinstance(entries, dict) else ():
            named = entry.get("origins") if isinstance(entry, dict) else None
            if isinstance(named, list) and all(isinstance(one, str) for one in named):
                known[inside(base, name, str(base / MANIFEST))] = tuple(named)
        return known, []
    except UserError as error:
        remedy = (
            "write the folder again, or remove this file: images of one origin are then not kept together"
        )
        return {}, [Finding("warning", str(base / MANIFEST), str(error), remedy)]


def _nist_tables(base: Path) -> list[Path]:
    """NIST's reference tables: that of the manipulation task, or all that there are."""
    reference = folder_in(base, "reference")
    files = files_below(reference) if reference else []
    files += sorted(base.glob("*.csv"))
    tables = [path for path in files if path.name.lower().endswith(("-ref.csv", "reference.csv", "_ref.csv"))]
    return [path for path in tables if "manipulation" in path.name.lower()] or tables


def _nist_file(name: str, base: Path, table: Path, where: str) -> Path:
    """The file that a table names, below the set or beside the table."""
    candidates = [inside(base, name, where), inside(table.parent, name, where)]
    plain = candidates[0].name
    candidates += [folder / plain for folder in mask_folders(base, table.parent)]
    return next((path for path in candidates if path.is_file()), candidates[0])


def _name(base: Path) -> str:
    return os.path.basename(os.path.abspath(base))


def _images(folder: Path | None) -> list[Found]:
    return images_in(folder, recursive=True) if folder else []


def _masks(folder: Path | None) -> list[Found]:
    return masks_in([folder]) if folder else []


def _reason(reason: str, paths: Iterable[Path]) -> dict[str, tuple[Path, ...]]:
    paths = tuple(paths)
    return {reason: paths} if paths else {}


def _listing(
    dataset: str,
    base: Path,
    authentic: Sequence[Found],
    manipulated: Sequence[Found],
    pairs: Pairs | None = None,
    *,
    layout: str = "",
    name: Callable[[Found], str] = lambda one: one.stem,
    origins: Callable[[Found], tuple[str, ...]] = lambda one: (),
    inverted: bool = False,
    findings: Sequence[Finding] = (),
    passed_over: Mapping[str, tuple[Path, ...]] | None = None,
) -> Listing:
    """Found images as a set; `pairs` None: no masks were looked for."""
    known, passed_over = pairs or Pairs(), dict(passed_over or {})
    blank = pair(authentic, [Found(path, path.name) for path in known.unused]).masks.values()
    passed_over |= _reason("masks of authentic images", blank)
    unused = [path for path in known.unused if path not in set(blank)]
    items = [Item(name(one), one.path, AUTHENTIC, None, origins(one)) for one in authentic]
    items += [
        Item(
            name(one),
            one.path,
            MANIPULATED,
            known.masks.get(one.path),
            origins(one),
            known.doubts.get(one.path, ""),
        )
        for one in manipulated
    ]
    told = [*findings, *known.findings, *(mask_findings(items, unused) if pairs is not None else [])]
    return Listing(
        dataset,
        base,
        unique_names(items, base),
        tuple(told),
        layout=layout or dataset,
        inverted=inverted,
        passed_over=passed_over,
    )
