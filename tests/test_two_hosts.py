"""Two hosts: the network between them is cut in the middle of a run, mended, and the run ends as if nothing had been.

A host is a network namespace with an address of its own; a pair of virtual interfaces is the only way between them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from run_logs import records

from fanet.config import Recipe
from fanet.recipes import toy
from fanet.toy import write_zerowaste
from papers_shared.dataclass_json import dataclass_to_json
from papers_shared.files import write_json
from papers_shared.training.run_folder import RunFolder

pytestmark = pytest.mark.hosts

INTERFACE = "eth0"
ADDRESSES = ("10.77.0.1", "10.77.0.2")
TIMEOUT = 30
ENVIRONMENT = {
    **os.environ,
    "CUDA_VISIBLE_DEVICES": "",
    "GLOO_SOCKET_IFNAME": INTERFACE,
    "OMP_NUM_THREADS": "1",  # sums are rounded in another order with another number of threads
}


@dataclass(frozen=True)
class Hosts:
    names: tuple[str, str]

    def start(self, rank: int, command: list[str], output: Path) -> subprocess.Popen:
        """Run a command on a host; all it prints goes to a file."""
        with open(output, "w") as file:
            line = ["ip", "netns", "exec", self.names[rank], *command]
            return subprocess.Popen(line, env=ENVIRONMENT, stdout=file, stderr=subprocess.STDOUT)

    def link(self, state: str) -> None:
        ip("-n", self.names[0], "link", "set", INTERFACE, state)


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    if shutil.which("ip") is None:
        pytest.skip("needs the command `ip` (package iproute2)")
    names = (f"papers-{os.getpid()}-0", f"papers-{os.getpid()}-1")
    with ExitStack() as stack:
        try:
            for name in names:
                ip("netns", "add", name)
                stack.callback(ip, "netns", "delete", name)
            here, there = names
            ip("link", "add", INTERFACE, "netns", here, "type", "veth", "peer", INTERFACE, "netns", there)
            for name, address in zip(names, ADDRESSES, strict=True):
                ip("-n", name, "address", "add", f"{address}/24", "dev", INTERFACE)
                for interface in ("lo", INTERFACE):
                    ip("-n", name, "link", "set", interface, "up")
        except subprocess.CalledProcessError as error:
            pytest.skip(f"may not create network namespaces: {error.stderr.strip()}")
        yield Hosts(names)


def recipe_file(folder: Path, name: str, output: str = "") -> str:
    """The toy recipe, twenty small steps; checkpoints after 4, 8, ...; in the run folder `output`, else `name`."""
    recipe: Recipe = toy()
    recipe = replace(
        recipe,
        model=replace(recipe.model, decoder_channels=8, auxiliary_channels=8, drop_path_rate=0.2),
        data=replace(
            recipe.data,
            root=str(folder / "scenes"),
            crop_size=32,
            scale=(64, 40),
            cache=str(folder / "cache"),
        ),
        optim=replace(recipe.optim, batch_size=4, steps=20, warmup_steps=2),
        run=replace(
            recipe.run,
            output=str(folder / (output or name)),
            eval_every=20,
            checkpoint_every=4,
            timeout=TIMEOUT,
        ),
    )
    write_json(folder / f"{name}.json", dataclass_to_json(recipe))
    return str(folder / f"{name}.json")


def test_a_cut_network_ends_both_and_the_run_resumes(hosts: Hosts, tmp_path: Path, root: Path) -> None:
    write_zerowaste(tmp_path / "scenes", seed=3, train=6, val=2, test=1, size=(48, 80))
    cut, whole = tmp_path / "cut", tmp_path / "whole"
    recipe = recipe_file(tmp_path, "cut")

    # ---- two ranks on two addresses, with the configuration for several machines
    prints = [tmp_path / f"host-{rank}.txt" for rank in (0, 1)]
    config = [f"--config_file={root / 'launch' / '4x8.yaml'}", "--num_machines=2", "--num_processes=2"]
    launch = [
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        *config,
        f"--main_process_ip={ADDRESSES[0]}",
    ]
    ranks = [
        hosts.start(rank, [*launch, f"--machine_rank={rank}", "-m", "fanet", "train", recipe], prints[rank])
        for rank in (0, 1)
    ]
    try:
        deadline = time.monotonic() + 240
        while len(records(cut, "train")) < 6:
            assert time.monotonic() < deadline, "no six steps in four minutes"
            assert all(rank.poll() is None for rank in ranks), [path.read_text() for path in prints]
            time.sleep(0.01)

        # ---- the network goes: both end within the timeout (and what it takes to end two loaded processes)
        hosts.link("down")
        for rank in ranks:
            assert rank.wait(timeout=TIMEOUT + 60) != 0
    finally:
        for rank in ranks:
            rank.terminate()
    for number, path in enumerate(prints):
        said = [line for line in path.read_text().splitlines() if line.startswith("[process ")]
        assert len(said) == 1, path.read_text()
        assert said[0].startswith(
            f"[process {number}] error: the other processes of this run no longer answer ("
        )
        assert "[rank" not in path.read_text(), "no traceback of the loop"
    assert [record["processes"] for record in records(cut, "start")] == [2]
    assert not (cut / "last").exists(), "cut before the end"
    run = RunFolder(cut)
    saved = [run.load_checkpoint(folder)[1]["step"] for folder in sorted(run.checkpoints.iterdir())]
    assert saved
    assert saved[-1] < 20

    # ---- the network is back: the same recipe resumes, another run is never interrupted, and one has no shared disk
    hosts.link("up")
    for rank, output in enumerate(("whole", "elsewhere")):
        recipe_file(tmp_path, f"apart-{rank}", output)
    script = Path(__file__).with_name("forked_ranks.py")
    arguments = ["--hosts", ADDRESSES[0], *hosts.names, "fanet", recipe, recipe_file(tmp_path, "whole")]
    arguments.append(str(tmp_path / "apart-{rank}.json"))
    done = subprocess.run(
        [sys.executable, str(script), *arguments],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    refused = "the processes do not agree on the checkpoint (process 0 has step-00000020, process 1 has None)"
    assert done.returncode == 2, done.stderr
    for rank in (0, 1):  # both write to one stream: their lines may meet
        sentence = (
            f"[process {rank}] error: {refused}: give every machine the same data, and a run folder on a disk"
        )
        assert done.stderr.count(sentence) == 1, done.stderr
    assert done.stderr.count("error:") == 2, done.stderr
    assert [record["step"] for record in records(cut, "start")][-1] == saved[-1], "resumed"
    assert [record["processes"] for record in records(whole, "start")] == [2]
    assert records(cut, "train") == records(whole, "train")
    for file in ("last/model.safetensors", "checkpoints/step-00000020/optimizer.safetensors"):
        assert (cut / file).read_bytes() == (whole / file).read_bytes(), file
