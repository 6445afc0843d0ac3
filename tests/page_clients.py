"""Clients of a page's server: odd files for it, and the lines that a README prints, run."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gradio_client import Client, handle_file
from PIL import Image

from papers_shared import app


@contextmanager
def served(page: Any) -> Iterator[str]:
    """The address of a page's server, for a while."""
    address = app.serve(page, host="127.0.0.1", port=0, wait=False)
    try:
        yield address
    finally:
        page.close(verbose=False)


def client(address: str, folder: Path) -> Client:
    return Client(address, verbose=False, download_files=str(folder), analytics_enabled=False)


def odd_files(folder: Path) -> dict[str, Path]:
    """Text that is called an image, a cut image, 200 million pixels in a small file, and an animated one."""
    folder.mkdir(exist_ok=True)
    paths = {name: folder / f"{name}.png" for name in ("text", "cut", "huge")} | {
        "animated": folder / "animated.gif"
    }
    paths["text"].write_text("not an image")
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(paths["cut"])
    paths["cut"].write_bytes(paths["cut"].read_bytes()[:2000])
    Image.new("1", (20_000, 10_000)).save(paths["huge"])
    frames = [Image.fromarray(np.roll(noise, shift, axis=1)) for shift in range(3)]
    frames[0].save(paths["animated"], save_all=True, append_images=frames[1:])
    return paths


def check_odd_files(address: str, folder: Path, endpoint: str, *more: Any) -> None:
    """Each wrong file is answered by one sentence, an animated one by its first frame, and the server lives on."""
    one, paths = client(address, folder), odd_files(folder / "odd")
    sentences = {
        "text": "is not an image in a known format",
        "cut": "damaged or cut off",
        "huge": "200,000,000|20000 x 10000|20,000 x 10,000",
    }
    for kind, sentence in sentences.items():
        with pytest.raises(Exception, match=sentence) as raised:
            one.predict(handle_file(paths[kind]), *more, api_name=endpoint)
        assert "Traceback" not in str(raised.value)
        assert "/" not in str(raised.value), "where the server keeps its files is nobody's business"
        assert len(str(raised.value)) < 600
    with pytest.raises(Exception, match="was not uploaded"):
        one.predict({"path": "/etc/passwd"}, *more, api_name=endpoint)
    with pytest.raises(Exception, match="no image"):
        one.predict({}, *more, api_name=endpoint)
    found = one.predict(handle_file(paths["animated"]), *more, api_name=endpoint)
    assert "3 frames: the first one" in json.dumps(found)


def run_readme(readme: Path, address: str, folder: Path) -> tuple[dict[str, Any], str]:
    """What the lines of Python and of the shell that a README prints answer, in a folder with photo.jpg."""
    text = readme.read_text(encoding="utf-8").replace("http://127.0.0.1:7860", address.rstrip("/"))
    python, shell = (
        next(
            block
            for block in re.findall(rf"^```{kind}\n(.*?)^```", text, re.M | re.S)
            if address[7:-1] in block
        )
        for kind in ("python", "bash")
    )
    code = python + "\nimport json\nprint(json.dumps(found))\n"
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=120, check=True
    )
    answer = json.loads(ran.stdout.splitlines()[-1])
    if shutil.which("bash") is None or shutil.which("curl") is None:
        pytest.skip("the lines for a shell need bash and curl")
    ran = subprocess.run(
        ["bash", "-ec", shell], cwd=folder, capture_output=True, text=True, timeout=120, check=True
    )
    return answer, ran.stdout
