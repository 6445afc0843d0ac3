"""The frames of a video, read one after another by OpenCV."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from papers_shared.batches import Item
from papers_shared.errors import UserError
from papers_shared.images import regular_file

VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm")
STARTS = {0: (b"RIFF", b"\x1aE\xdf\xa3"), 4: (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")}
"""Offset -> what stands there in files of these kinds; a playlist, which could name an address, is none of them."""


def video_items(path: Path, every: int = 1) -> list[Item]:
    """An item for each `every`-th frame, with `frame`, its number from 0.

    All frames are decoded once to be counted: what a file says of their number is an estimate.

    Raises:
        UserError: The file is not a video that can be read.
    """
    clip = _Clip(path)
    count = 0
    while clip.skip():
        count += 1
    if count == 0:
        raise UserError(
            f"{path}: no frame can be read; is the video cut off, or in a codec that OpenCV lacks?"
        )
    return [
        Item(path, {"frame": number}, partial(read_frame, path, number), f"{path.stem}-{number:06d}")
        for number in range(0, count, every)
    ]


def read_frame(path: Path, number: int) -> np.ndarray:
    """A frame, (H, W, 3) uint8 RGB; quick where frames are asked for in order.

    Raises:
        UserError: It cannot be read.
    """
    clip = _open.get(os.getpid())
    if clip is None or clip.path != path or clip.position > number:
        clip = _open[os.getpid()] = _Clip(path)
    while clip.position < number and clip.skip():
        pass
    return clip.read(number)


_open: dict[int, _Clip] = {}
"""The clip that each process reads. One that a fork has brought along is not even closed: its threads stayed behind."""


class _Clip:
    """A video that is read forwards: to jump is not exact in every format."""

    def __init__(self, path: Path) -> None:
        with regular_file(path) as file:
            start = file.read(12)
        if not any(start[offset:].startswith(marks) for offset, marks in STARTS.items()):
            raise UserError(f"{path} is not a video in a known format ({', '.join(VIDEO_SUFFIXES)})")
        self.path, self.position = path, 0
        self.capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
        if not self.capture.isOpened():
            raise UserError(f"{path} cannot be read as a video")

    def skip(self) -> bool:
        """Leave a frame out; False at the end."""
        self.position += 1
        return bool(self.capture.grab())

    def read(self, number: int) -> np.ndarray:
        found, pixels = self.capture.read()
        self.position += 1
        if not found:
            raise UserError(f"{self.path}: frame {number} cannot be read")
        return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
