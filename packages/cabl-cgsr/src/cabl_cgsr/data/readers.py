"""A set of images as a `datasets.Dataset` of plain rows, and the part of it held out for validation."""

from __future__ import annotations

import warnings
from typing import Any, Literal

import datasets
from datasets import Features, Value

from cabl_cgsr.config import DataConfig
from cabl_cgsr.data.groups import hold_out
from cabl_cgsr.data.items import MANIPULATED, Item, Listing
from cabl_cgsr.data.layouts import list_set
from cabl_cgsr.data.masks import mask_problem
from papers_shared.errors import UserError

FILE = datasets.Image(decode=False)


def open_set(data: DataConfig, masks: bool) -> datasets.Dataset:
    """All images of a set, authentic ones first.

    Rows: `name` (unique), `image` ({"path", "bytes"}, not decoded), `label` (0 authentic, 1 manipulated),
    `dataset`, and with `masks` also `mask` (like `image`, or None). Without `masks` there is no such column and
    no mask is looked for.

    With `masks`, manipulated images whose mask is missing or does not fit are left out with a warning that
    names them; where no manipulated image has a mask, all are kept and have none.

    Raises:
        UserError: there is no such folder or list, its layout is unknown or ambiguous, or it holds no image.
    """
    listing = list_set(data, masks)
    return rows_of(listing, _usable(listing) if masks else listing.items, masks)


def training_split(data: DataConfig, split: Literal["train", "val"]) -> datasets.Dataset:
    """The training set less what is held out, or what is held out: rows of `open_set` without masks.

    `val_share` of the authentic and of the manipulated images is held out, decided by `split_seed` and the
    names. Equal files, and CASIA's images made from the same photograph, stay together.

    Raises:
        UserError: as in `open_set`; or the set has one label only, or too few images to hold some out.
    """
    listing = list_set(data, masks=False, subset="train")
    try:
        held_out = hold_out(listing.items, data.val_share, data.split_seed)
    except UserError as error:
        raise UserError(f"{listing.base}: {error}") from error
    return rows_of(
        listing, tuple(item for item in listing.items if (item.name in held_out) == (split == "val")), False
    )


def rows_of(listing: Listing, items: tuple[Item, ...], masks: bool) -> datasets.Dataset:
    """Items of a listing as rows."""
    columns: dict[str, list[Any]] = {
        "name": [item.name for item in items],
        "image": [_file(item.image) for item in items],
        "label": [item.label for item in items],
        "dataset": [listing.dataset] * len(items),
    }
    features = {"name": Value("string"), "image": FILE, "label": Value("int64"), "dataset": Value("string")}
    if masks:
        columns["mask"] = [_file(item.mask) if item.mask else None for item in items]
        features["mask"] = FILE
    return datasets.Dataset.from_dict(columns, features=Features(features))


def _usable(listing: Listing) -> tuple[Item, ...]:
    manipulated = [item for item in listing.items if item.label == MANIPULATED]
    if not any(item.mask for item in manipulated):
        return listing.items
    problems = {item.name: _problem(item) for item in manipulated}
    dropped = [f"{name} ({problem})" for name, problem in problems.items() if problem]
    if dropped:
        warnings.warn(
            f"{listing.dataset}: left out {len(dropped)} of {len(manipulated)} manipulated images: "
            f"{', '.join(dropped[:5])}{', ...' if len(dropped) > 5 else ''}; `cabl-cgsr data check` tells more",
            stacklevel=3,
        )
    return tuple(item for item in listing.items if not problems.get(item.name))


def _problem(item: Item) -> str:
    if item.mask is None:
        return "no mask"
    return mask_problem(_file(item.image), _file(item.mask))


def _file(path: Any) -> dict[str, Any]:
    return {"path": str(path), "bytes": None}
