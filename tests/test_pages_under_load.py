"""Eight clients at once on each page's server, as the command line starts it: right answers, steady memory.

PAPERS_LOAD_SECONDS says for how long each server is asked.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from gradio_client import handle_file
from page_clients import client
from PIL import Image
from toy_models import small_model

SECONDS = float(os.environ.get("PAPERS_LOAD_SECONDS", "8"))
CLIENTS = 8
IMAGES = 12
GROWTH_MB = 60
"""What the server's memory may grow by once each image was asked about; it keeps less than 1 MB of them."""
SENTENCES = ["the red block", "the blue circle", "the red circle"]
COMMANDS = {
    "fanet": ("fanet", []),
    "plvl": ("plvl", []),
    "cabl-cgsr": ("cabl_cgsr", ["--threshold", "0", "--always-refine"]),
}


def images(folder: Path) -> list[Path]:
    """Coarse noise in several sizes; each file's content is its own."""
    paths = []
    for number in range(IMAGES):
        noise = np.random.default_rng(number).integers(0, 255, (4, 6, 3), np.uint8)
        size = (64 + 8 * (number % 4), 48 + 4 * (number % 3))
        paths.append(folder / f"{number:02d}.png")
        Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC).save(paths[-1])
    return paths


@contextmanager
def server(name: str, model: str, folder: Path) -> Iterator[tuple[str, psutil.Process]]:
    """Address and process of `NAME app MODEL`."""
    module, options = COMMANDS[name]
    log = folder / "log.txt"
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", module, "app", model, "--device", "cpu", *options],
            stdout=output,
            stderr=subprocess.STDOUT,
            env=os.environ | {"TMPDIR": str(folder)},
            # a shell in the background ignores Ctrl-C, and so would what it starts
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
    try:
        for _ in range(1200):
            found = re.search(r"open (\S+)", log.read_text())
            if found:
                break
            assert process.poll() is None, log.read_text()
            time.sleep(0.1)
        else:
            raise AssertionError(f"no server after two minutes: {log.read_text()}")
        yield found[1], psutil.Process(process.pid)
        assert process.poll() is None, log.read_text()
        assert "Traceback" not in log.read_text()
    finally:
        process.send_signal(signal.SIGINT)  # as Ctrl-C does
        process.wait(30)
    assert not list(folder.glob("*-app-*")), "its files are deleted"


def asker(name: str, model: Any, paths: list[Path]) -> Callable[[Any, int], None]:
    """What a client asks with a number, and checks."""
    if name == "fanet":
        masks = [model.predict(path).mask for path in paths]

        def ask(one: Any, number: int) -> None:
            index = number % IMAGES
            found = one.predict(handle_file(paths[index]), api_name="/segment")
            assert np.array_equal(np.asarray(Image.open(found["mask"])), masks[index])
            assert found["record"]["file"] == paths[index].name

    elif name == "plvl":
        known = [model.predict(path, SENTENCES) for path in paths]

        def ask(one: Any, number: int) -> None:
            index, chosen = number % IMAGES, number % len(SENTENCES)
            found = one.predict(handle_file(paths[index]), [SENTENCES[chosen]], api_name="/find")
            (record,) = found["records"]
            assert record["expression"] == SENTENCES[chosen]
            assert record["box_xyxy"] == pytest.approx(known[index][chosen].box_xyxy, abs=1e-2)
            mask = np.asarray(Image.open(found["masks"][0])) > 0
            assert (mask == known[index][chosen].mask).mean() > 0.95

    else:
        judged = [model.predict(path, threshold=0.0, always_refine=True) for path in paths]

        def ask(one: Any, number: int) -> None:
            index, level = number % IMAGES, (0.3, None)[number % 2]
            found = one.predict(handle_file(paths[index]), level, api_name="/judge")
            assert found["record"]["score"] == pytest.approx(judged[index].score, abs=1e-5)
            if level is None:
                same = (np.asarray(Image.open(found["mask"])) > 0) == judged[index].mask
                assert same.mean() > 0.95
            else:
                share = (judged[index].cam > level).mean()
                assert found["record"]["coarse_mask_share"] == pytest.approx(share, abs=0.01)

    return ask


@pytest.mark.parametrize("name", COMMANDS)
def test_eight_clients_at_once(name: str, tmp_path: Path) -> None:
    model = small_model(name)
    paths = images(tmp_path)
    ask = asker(name, model, paths)
    folder = tmp_path / "server"
    folder.mkdir()
    failures: list[str] = []
    answered = [0] * CLIENTS
    with server(name, str(model.save_pretrained(tmp_path / "model")), folder) as (address, process):
        end = time.monotonic() + SECONDS

        def work(number: int) -> None:
            one = client(address, tmp_path / f"client{number}")
            turn = number
            while time.monotonic() < end or answered[number] == 0:
                try:
                    ask(one, turn)
                except Exception as error:
                    failures.append(f"client {number}, question {turn}: {type(error).__name__}: {error}")
                    return
                answered[number] += 1
                turn += 5  # images and sentences in an order of its own

        threads = [threading.Thread(target=work, args=(number,)) for number in range(CLIENTS)]
        for thread in threads:
            thread.start()
        settled = 0
        while any(thread.is_alive() for thread in threads):
            time.sleep(0.2)
            if not settled and sum(answered) >= 2 * IMAGES:
                settled = process.memory_info().rss
        for thread in threads:
            thread.join()
        grown = (process.memory_info().rss - settled) / 1e6
        assert not failures, "\n".join(failures)
        assert min(answered) > 0, answered
        print(
            f"{name}: {sum(answered)} answers in {SECONDS:g} s, memory {settled / 1e6:.0f} + {grown:.0f} MB"
        )
        if settled:
            assert grown < GROWTH_MB, f"{grown:.0f} MB in {sum(answered)} answers"
