"""Train recipes in two processes, each in a network namespace of its own; one import serves both.

python train_on_hosts.py ADDRESS NAMESPACE NAMESPACE RECIPE.json ...

{rank} in a recipe's name stands for the number of the process. The exit code is the first that is not 0.
"""

from __future__ import annotations

import ctypes
import os
import sys

from accelerate.state import AcceleratorState

from fanet.cli import main
from fanet.train import train

CLONE_NEWNET = 0x40000000


def enter(namespace: str) -> None:
    """Move this process into a namespace of `ip netns` (os.setns needs Python 3.12)."""
    with open(f"/run/netns/{namespace}") as file:
        if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns failed")


def run(address: str, namespace: str, rank: int, recipes: list[str]) -> int:
    enter(namespace)
    for port, recipe in enumerate(recipes, start=29600):
        AcceleratorState._reset_state(reset_partial_state=True)
        place = {"MASTER_ADDR": address, "MASTER_PORT": port, "WORLD_SIZE": 2, "RANK": rank, "LOCAL_RANK": 0}
        os.environ.update({name: str(value) for name, value in place.items()})
        if code := main(["train", recipe.format(rank=rank)]):
            return code
    return 0


if __name__ == "__main__":
    assert train, "imported before the fork"
    address, first, second, *recipes = sys.argv[1:]
    other = os.fork()
    if other == 0:
        os._exit(run(address, second, 1, recipes))
    code = run(address, first, 0, recipes)
    sys.exit(code or os.waitstatus_to_exitcode(os.waitpid(other, 0)[1]))
