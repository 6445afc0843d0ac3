"""Train recipes one after the other in two processes; a fork makes the second, so that one import serves both.

python forked_ranks.py [--hosts ADDRESS NAMESPACE NAMESPACE] PACKAGE JOB ...

A job is a recipe's file, in whose name {rank} stands for the number of the process, or FROM:TO, which copies a run
folder as if it had been killed before its newest checkpoint. The exit code is the first that is not 0.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib
import os
import shutil
import sys
from pathlib import Path

from accelerate.state import AcceleratorState

CLONE_NEWNET = 0x40000000


def enter(namespace: str) -> None:
    """Move this process into a namespace of `ip netns` (os.setns needs Python 3.12)."""
    with open(f"/run/netns/{namespace}") as file:
        if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns failed")


def copy_killed(source: str, target: str) -> None:
    shutil.copytree(source, target)
    shutil.rmtree(max(Path(target, "checkpoints").iterdir()))


def run(options: argparse.Namespace, rank: int) -> int:
    address, *namespaces = options.hosts or ["127.0.0.1"]
    if namespaces:
        enter(namespaces[rank])
    main = importlib.import_module(f"{options.package}.cli").main
    for number, job in enumerate(options.jobs):
        source, _, target = job.partition(":")
        if target:
            if rank == 0:  # which the other waits for where the next group forms
                copy_killed(source, target)
            continue
        AcceleratorState._reset_state(reset_partial_state=True)
        port = options.port + number
        place = {
            "MASTER_ADDR": address,
            "MASTER_PORT": port,
            "WORLD_SIZE": 2,
            "RANK": rank,
            "LOCAL_RANK": rank,
        }
        os.environ.update({name: str(value) for name, value in place.items()})
        if code := main(["train", job.format(rank=rank)]):
            return code
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--hosts", nargs=3)
    parser.add_argument("--port", type=int, default=29600)
    parser.add_argument("package")
    parser.add_argument("jobs", nargs="+")
    options = parser.parse_args()
    importlib.import_module(f"{options.package}.train")
    other = os.fork()
    if other == 0:
        os._exit(run(options, 1))
    code = run(options, 0)
    sys.exit(code or os.waitstatus_to_exitcode(os.waitpid(other, 0)[1]))
