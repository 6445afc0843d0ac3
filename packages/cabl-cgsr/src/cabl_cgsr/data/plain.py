"""A set in one plain layout: `authentic/`, `manipulated/` and `masks/`, which needs no rules of a release."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from PIL import Image

from cabl_cgsr.config import DataConfig
from cabl_cgsr.data.items import suffix_of
from cabl_cgsr.data.layouts import list_set
from cabl_cgsr.data.masks import load_levels
from cabl_cgsr.data.readers import rows_of
from papers_shared.doctor import Report
from papers_shared.errors import UserError
from papers_shared.files import check_replaceable, check_room, make_folder, writing_folder
from papers_shared.images import verify_image
from papers_shared.paths import free_name, safe_name
from papers_shared.progress import Progress
from papers_shared.written import own_files, write_manifest

PARTS = ("authentic", "manipulated")


def convert_set(data: DataConfig, output: str | Path, *, progress: bool = True) -> Report:
    """Write the images of a set as they are, and their masks as grey PNG of the images' sizes, white manipulated.

    `written.json` says for each image where it comes from and what it was made from, so that images of one origin
    stay together when a part is held out. Images and masks that cannot be read or used are named in the report; the
    rest is written.

    Returns:
        What was written, as a note, and an error for each file that was not.

    Raises:
        UserError: There is no such set, or `output` holds anything but files that this function wrote.
    """
    output = Path(output).expanduser()
    ours = own_files(output)
    check_replaceable(output, ours)
    listing, report = list_set(data, masks=True, subset="all"), Report()
    report.extend(listing.errors)
    files = [path for item in listing.items for path in (item.image, item.mask) if path is not None]
    needed = sum(path.stat().st_size for path in files if path.is_file())
    check_room(make_folder(output.absolute().parent), needed)
    written: dict[str, dict[str, Any]] = {}
    masks: list[str] = []
    taken: set[str] = set()
    with writing_folder(output, ours) as partial:
        with Progress(len(listing.items), unit="image", enabled=progress) as bar:
            rows = rows_of(listing, listing.items, data)
            for number, (item, row) in enumerate(zip(listing.items, rows, strict=True), start=1):
                try:
                    name = _write_image(row, partial, taken)
                except (UserError, MemoryError) as error:
                    report.add("error", item.image, f"not written: {error}")
                    continue
                written[name] = {"from": str(item.image), "origins": list(item.origins)}
                if item.mask is not None:
                    try:
                        masks.append(_write_mask(row, partial, name))
                    except (UserError, MemoryError) as error:
                        report.add("error", item.mask, f"not written: {error}")
                bar.update(number)
        if not written:
            raise UserError(f"{data.root or data.list}: no image could be written")
        write_manifest(partial, [*written, *masks], images=written)
    report.add("note", output, f"{len(written):,} images and {len(masks):,} masks written")
    return report


def _write_image(row: dict[str, Any], folder: Path, taken: set[str]) -> str:
    """Write an image as it is; its path below the folder.

    Args:
        taken: The paths that are given already, in lower case and without suffix; the new one is added.
    """
    source, part = Path(row["image"]["path"]), PARTS[row["label"]]
    verify_image(source)
    suffix = suffix_of(source.name)
    plain = row["name"][: -len(suffix)] if row["name"].lower().endswith(suffix) else row["name"]
    parts = [safe_name(one) for one in plain.split("/") if one not in ("", ".", "..")]
    name = free_name(f"{part}/{'/'.join(parts) or 'image'}", taken) + suffix
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, folder / name)
    return name


def _write_mask(row: dict[str, Any], folder: Path, image: str) -> str:
    """Write the mask of a manipulated image; its path below the folder."""
    name = f"masks/{image.partition('/')[2].removesuffix(suffix_of(image))}.png"
    levels = load_levels(row)
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(levels).save(folder / name)
    return name
