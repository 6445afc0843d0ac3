"""Frames of a video: numbers, order, records, files that are none."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from fanet.config import ModelConfig
from fanet.modeling.segmenter import Segmenter
from fanet.predict import predict_many
from fanet.video import read_frame, video_items
from papers_shared.errors import UserError
from papers_shared.inputs import match_items


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten frames; the brightness of a frame is ten times its number."""
    path = tmp_path_factory.mktemp("video") / "belt.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 5, (64, 48))
    for number in range(10):
        writer.write(np.full((48, 64, 3), 10 * number, np.uint8))
    writer.release()
    return path


def test_every_third_frame(clip: Path) -> None:
    items = video_items(clip, every=3)
    assert [(item.asked, item.stem) for item in items] == [
        ({"frame": number}, f"belt-{number:06d}") for number in (0, 3, 6, 9)
    ]
    assert [round(item.source.mean() / 10) for item in items] == [0, 3, 6, 9]
    assert read_frame(clip, 4).shape == (48, 64, 3), "backwards too"


def test_frames_are_predicted_like_images(clip: Path, tmp_path: Path) -> None:
    config = ModelConfig(
        backbone="test_fanet",
        class_names=("a", "b"),
        decoder_channels=8,
        auxiliary=False,
        test_scale=(64, 32),
    )
    segmenter = Segmenter.from_config(config)
    frames = dict.fromkeys((".avi",), lambda path: video_items(path, 2))
    records = predict_many(segmenter, match_items([str(clip.parent)], frames), tmp_path / "out", workers=2)
    assert [record["frame"] for record in records] == [0, 2, 4, 6, 8]
    assert [record["mask"] for record in records] == [f"masks/belt-{n:06d}.png" for n in (0, 2, 4, 6, 8)]
    again = predict_many(segmenter, match_items([str(clip)], frames), tmp_path / "out")
    assert again == records


@pytest.mark.parametrize("content", [b"", b"#EXTM3U\nhttp://127.0.0.1/secret.ts\n", b"RIFF" + bytes(100)])
def test_what_is_no_video(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"clip\.mp4"):
        video_items(path)
