"""CASIA v2.0 (training) and CASIA v1.0 (test): folders `Au` and `Tp`, facts coded in the file names.

`Tp_D_CRN_S_N_cha00063_art00014_11818.jpg` (v1: `Sp_D_CND_A_pla0005_pla0023_0281.jpg`): D was made from two
images, S from one (copy-move); the two ids are those images, the last number runs. Codes between them have
stray values and are not interpreted.
"""

from __future__ import annotations

import re
from pathlib import Path

from cabl_cgsr.data.items import (
    AUTHENTIC,
    MANIPULATED,
    Item,
    Listing,
    images_in,
    mask_findings,
    mask_folders,
    mask_index,
    stem_of,
)
from papers_shared.doctor import Finding

TAMPERED = re.compile(
    r"(?P<set>Tp|Sp)_(?P<kind>[DS])_.*?(?P<a>[a-z]{3}\d+)_(?P<b>[a-z]{3}\d+)[_.](?P<number>\d+)$"
)
SOURCE = re.compile(r"Au_([a-z]{3})_(\d+)$", re.IGNORECASE)


def casia_kind(base: Path) -> str:
    """casia2, casia1 or casia1plus by the folders and names below `base`; empty if it is none of them."""
    tampered = _tampered(base)
    authentic = images_in(base / "Au")
    for prefix, kind in (("tp_", "casia2"), ("sp_", "casia1")):
        if tampered and sum(path.name.lower().startswith(prefix) for path in tampered) * 2 > len(tampered):
            named = sum(bool(SOURCE.match(stem_of(path))) for path in authentic)
            plus = kind == "casia1" and authentic and named * 2 < len(authentic)
            return "casia1plus" if plus else kind
    return ""


def list_casia(base: Path, kind: str, masks: bool) -> Listing:
    """The images below `base`, with their masks if asked for."""
    tampered = _tampered(base)
    findings: list[Finding] = []
    items = [
        Item(stem_of(path), path, AUTHENTIC, None, _origins(stem_of(path))) for path in images_in(base / "Au")
    ]
    found: dict[str, Path] = {}
    index: dict[str, Path] = {}
    if masks:
        digit = "2" if kind == "casia2" else "1"
        index = mask_index(mask_folders(base, base.parent, digit=digit))
        found, findings = pair_masks(tampered, index)
    items += [
        Item(stem_of(path), path, MANIPULATED, found.get(stem_of(path)), _origins(stem_of(path)))
        for path in tampered
    ]
    if masks:
        unused = set(index.values()) - set(found.values())
        findings += mask_findings(items, sorted(unused))
    return Listing(kind, base, tuple(items), tuple(findings))


def pair_masks(images: list[Path], index: dict[str, Path]) -> tuple[dict[str, Path], list[Finding]]:
    """Stem of an image -> its mask: by name, and what is left over by the running number.

    Some names were corrected between the releases of CASIAv1 and of its masks; the running number is unique
    among what equal names leave over.
    """
    found = {stem_of(path): index[stem_of(path).lower()] for path in images if stem_of(path).lower() in index}
    taken = set(found.values())
    spare = _by_number({stem: path for stem, path in index.items() if path not in taken})
    lone = _by_number({stem_of(path): path for path in images if stem_of(path) not in found})
    findings = []
    for number, image in lone.items():
        if number in spare:
            found[stem_of(image)] = spare[number]
            message = "image and mask agree in their running number only: taken for a pair"
            findings.append(Finding("note", f"{image.name}, {spare[number].name}", message))
    return found, findings


def _by_number(paths: dict[str, Path]) -> dict[tuple[str, str], Path]:
    """(D or S, running number) -> path, of those that occur once."""
    numbered: dict[tuple[str, str], list[Path]] = {}
    for stem, path in paths.items():
        if match := TAMPERED.match(stem[:3].capitalize() + stem[3:4].upper() + stem[4:].lower()):
            numbered.setdefault((match["kind"], match["number"]), []).append(path)
    return {key: many[0] for key, many in numbered.items() if len(many) == 1}


def _tampered(base: Path) -> list[Path]:
    """The renamed ("modified") images where both copies are there: masks carry those names."""
    for folder in (base / "Modified Tp", base / "Tp"):
        if found := images_in(folder, recursive=True):
            return found
    return []


def _origins(stem: str) -> tuple[str, ...]:
    if match := SOURCE.match(stem):
        return (f"{match[1].lower()}{int(match[2])}",)
    if match := TAMPERED.match(stem):
        ids = {f"{name[:3]}{int(name[3:])}" for name in (match["a"], match["b"]) if int(name[3:])}
        return tuple(sorted(ids))  # a source that is not in the set is written xxx00000
    return ()
