"""A set of images as a `datasets.Dataset` of plain rows, and the part of it held out for validation."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True)
class ScoredSet:
    """A set to score, and what of it is not scored."""

    listing: Listing
    rows: datasets.Dataset
    left_out: Mapping[str, str]
    """Manipulated images without a mask by their names, and why."""
    broken: Mapping[str, str]
    """Images, masks and lines of a list that cannot be used, and why: a set without these is not the set."""


def open_set(data: DataConfig, masks: bool) -> datasets.Dataset:
    """All images of a set, authentic ones first.

    Rows: `name` (unique), `image` ({"path", "bytes"}, not decoded), `label` (0 authentic, 1 manipulated),
    `dataset`, and with `masks` also `mask` (like `image`, or None) and how it is meant: `inverted` (bool) and
    `mask_threshold` (grey level). Without `masks` there are no such columns and no mask is looked for.

    With `masks`, manipulated images whose mask is missing or does not fit are left out with a warning that
    names them; where no manipulated image has a mask, all are kept and have none.

    Raises:
        UserError: there is no such folder or list, its layout is unknown or ambiguous, or it holds no image.
    """
    if masks:
        opened = open_scored(data)
        _warn(opened.listing, {**opened.left_out, **opened.broken})
        return opened.rows
    listing = list_set(data, masks=False)
    _warn(listing, {finding.source: finding.message for finding in listing.errors})
    return rows_of(listing, listing.items)


def open_scored(data: DataConfig) -> ScoredSet:
    """A set as `open_set` gives it with masks, and what is left out of it.

    Raises:
        UserError: as `open_set`.
    """
    listing = list_set(data, masks=True)
    manipulated = [item for item in listing.items if item.label == MANIPULATED]
    left_out: dict[str, str] = {}
    broken = {finding.source: finding.message for finding in listing.errors}
    if any(item.mask for item in manipulated):
        for item in manipulated:
            if item.mask is None:
                left_out |= {} if item.doubt else {item.name: "no mask"}
                continue
            try:
                problem = mask_problem(_file(item.image), _file(item.mask))
            except UserError as error:
                broken[item.name] = str(error)
                continue
            if problem:
                left_out[item.name] = problem
        doubted = {item.name for item in manipulated if item.doubt}
        items = [item for item in listing.items if item.name not in {*left_out, *broken, *doubted}]
    else:
        items = list(listing.items)
    return ScoredSet(listing, rows_of(listing, items, data), left_out, broken)


def training_split(data: DataConfig, split: Literal["train", "val"]) -> datasets.Dataset:
    """The training set less what is held out, or what is held out: rows of `open_set` without masks.

    `val_share` of the authentic and of the manipulated images is held out, decided by `val_seed` and the
    names; with 0 nothing is. Equal files, and CASIA's images made from the same photograph, stay together.

    Raises:
        UserError: as in `open_set`; a list names what is not there; or the set has one label only, or too few images to
            hold some out.
    """
    listing = list_set(data, masks=False, subset="train")
    if listing.errors:
        first, more = listing.errors[0], len(listing.errors) - 1
        others = f", and {more:,} more" if more else ""
        raise UserError(f"{first.source}: {first.message}{others}; `cabl-cgsr data check` lists all")
    try:
        held_out = hold_out(listing.items, data.val_share, data.val_seed)
    except UserError as error:
        raise UserError(f"{listing.base}: {error}") from error
    return rows_of(listing, [item for item in listing.items if (item.name in held_out) == (split == "val")])


def rows_of(listing: Listing, items: Sequence[Item], masked: DataConfig | None = None) -> datasets.Dataset:
    """Items of a listing as rows.

    Args:
        masked: How masks are meant; None: without masks.
    """
    columns: dict[str, list[Any]] = {
        "name": [item.name for item in items],
        "image": [_file(item.image) for item in items],
        "label": [item.label for item in items],
        "dataset": [listing.dataset] * len(items),
    }
    features = {"name": Value("string"), "image": FILE, "label": Value("int64"), "dataset": Value("string")}
    if masked is not None:
        columns["mask"] = [_file(item.mask) if item.mask else None for item in items]
        columns["inverted"] = [listing.inverted != masked.invert_masks] * len(items)
        columns["mask_threshold"] = [masked.mask_threshold] * len(items)
        features |= {"mask": FILE, "inverted": Value("bool"), "mask_threshold": Value("int64")}
    return datasets.Dataset.from_dict(columns, features=Features(features))


def _warn(listing: Listing, left_out: Mapping[str, str]) -> None:
    if not left_out:
        return
    told = [f"{name} ({problem})" for name, problem in left_out.items()]
    warnings.warn(
        f"{listing.dataset}: left out {len(told)} of {len(listing.items)} images: "
        f"{', '.join(told[:5])}{', ...' if len(told) > 5 else ''}; `cabl-cgsr data check` tells more",
        stacklevel=3,
    )


def _file(path: Any) -> dict[str, Any]:
    return {"path": str(path), "bytes": None}
