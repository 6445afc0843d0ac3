"""A validation split made from training images, where a data set has none."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence

from papers_shared.errors import UserError


def check_share(source: object, train: str, val: str, *, has_val: bool) -> None:
    """Refuse to divide the training split of a data set that has a validation split, or one name for both.

    Raises:
        UserError: It says what to do.
    """
    if has_val:
        raise UserError(f"{source} has a split {val!r}: leave out --data.val-share")
    if train == val:
        raise UserError(
            "--data.val-share needs two names: --data.train-split and --data.val-split are the same"
        )


def divided(origins: Sequence[str], share: float, seed: int, *, val: bool, source: str) -> list[int]:
    """Positions of what goes into the validation split, or with `val` off of what stays for training.

    Args:
        origins, share, seed: As `set_aside` has them.
        source: What is divided, for the message.

    Raises:
        UserError: All of it has one origin.
    """
    chosen = set_aside(origins, share, seed)
    if not chosen:
        raise UserError(
            f"{source}, of which no validation split can be made: give it one, or train on it with --data.val-split "
            "set to the training split"
        )
    return [position for position in range(len(origins)) if (position in chosen) == val]


def set_aside(origins: Sequence[str], share: float, seed: int) -> set[int]:
    """Positions of the images of a validation split: whole origins, in an order that the seed decides.

    Args:
        origins: What each image was taken from.
        share: Of the images; one origin at least goes to each side, none where there is one in all.
    """
    members: dict[str, list[int]] = defaultdict(list)
    for position, origin in enumerate(origins):
        members[origin].append(position)
    order = sorted(members, key=lambda origin: hashlib.sha256(f"{seed}/{origin}".encode()).digest())
    chosen: set[int] = set()
    for origin in order[:-1]:
        if len(chosen) + len(members[origin]) <= share * len(origins):
            chosen.update(members[origin])
    if not chosen and len(order) > 1:
        smallest: list[int] = min(members.values(), key=len)
        chosen.update(smallest)
    return chosen
