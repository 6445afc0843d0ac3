"""Random numbers that are functions of (seed, epoch, sample), so that no random state needs to be saved."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def sample_seed(seed: int, epoch: int, index: int) -> int:
    """A seed in [0, 2**63) for one sample in one epoch, equal on all machines and library versions."""
    digest = hashlib.blake2b(struct.pack("<qqq", seed, epoch, index), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


@contextmanager
def forked_rng(seed: int) -> Iterator[None]:
    """Seed torch's default CPU generator inside the block and put its former state back after it.

    The generators of accelerators are left alone.
    """
    state = torch.default_generator.get_state()
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        torch.default_generator.set_state(state)
