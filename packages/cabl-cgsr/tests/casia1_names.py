"""The names of the released CASIAv1, from the compact list `casia1_names.txt`.

A line `image CM Sp_S_CRN_A` names folder and prefix of what follows; `arc0007-arc0005:0228` stands for the stem
`Sp_S_CRN_A_arc0007_arc0005_0228`, one id for twice the same, `.` for the one name with a dot in it. Images whose mask
was released under another name end in `*`; those masks are listed by themselves.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

CATEGORIES = ("ani", "arc", "art", "cha", "nat", "pla", "sec", "txt")
UPPER_CASE = {"art": (44,), "cha": (47, 48, 49, 50, 51), "sec": (74, 79, 93, 94)}
"""Numbers of the authentic images whose names end in .JPG."""
TOKEN = re.compile(r"([a-z]{3}\d{4})(?:-([a-z]{3}\d{4}))?([:.])(\d{4})(\*?)")


class Names(NamedTuple):
    """Paths below the folder that holds images and masks."""

    authentic: list[str]
    tampered: list[str]
    masks: list[str]
    pairs: dict[str, str]
    """Stem of an image -> stem of its mask, without `_gt`."""


def casia1_names() -> Names:
    """All 800 authentic and 921 tampered images, and the 920 masks."""
    authentic = [
        f"CASIA 1.0 dataset/Au/Au_{category}_{number:04d}.{'JPG' if number in UPPER_CASE.get(category, ()) else 'jpg'}"
        for category in CATEGORIES
        for number in range(1, 101)
    ]
    tampered, masks, renamed, corrected = [], [], {}, {}
    pairs: dict[str, str] = {}
    kind = folder = prefix = ""
    for line in Path(__file__).with_name("casia1_names.txt").read_text(encoding="ascii").splitlines():
        if not line.startswith(" "):
            kind, folder, prefix = line.split()
            continue
        for first, second, mark, number, other in TOKEN.findall(line):
            stem = f"{prefix}_{first}_{second or first}{'.' if mark == '.' else '_'}{number}"
            if kind == "mask":
                corrected[number] = stem
                masks.append(f"CASIA 1.0 groundtruth/{folder}/{stem}_gt.png")
                continue
            tampered.append(f"CASIA 1.0 dataset/Tp/{folder}/{stem}.jpg")
            if other:
                renamed[number] = stem
            else:
                pairs[stem] = stem
                masks.append(f"CASIA 1.0 groundtruth/{folder}/{stem}_gt.png")
    pairs |= {stem: corrected[number] for number, stem in renamed.items() if number in corrected}
    return Names(authentic, tampered, masks, pairs)
