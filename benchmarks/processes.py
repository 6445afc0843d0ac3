"""Training steps on several processes: `torchrun -m benchmarks.processes REQUEST`, DistributedDataParallel on gloo."""

from __future__ import annotations

import importlib
import json
import sys
from dataclasses import asdict
from typing import Any

import torch
import torch.distributed
from torch.nn.parallel import DistributedDataParallel

from benchmarks import measure
from benchmarks.cases import PACKAGES, Case


def ask(case: Case, steps: int) -> list[float]:
    """Seconds of `steps` training steps on `case.count` processes of one thread each, as the first of them sees them.

    Raises:
        RuntimeError: the launch failed.
    """
    request = json.dumps({"case": asdict(case), "steps": steps})
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(case.count)]
    found: dict[str, Any] = measure.in_child([*launch, "-m", "benchmarks.processes", request], threads=1)
    return list(found["seconds"])


def main(request: str) -> None:
    """Print {"seconds": [...]} as one line of JSON, from the first process; two steps before them do not count."""
    asked = json.loads(request)
    case, device = Case(**asked["case"]), torch.device("cpu")
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo")
    package = importlib.import_module(PACKAGES[case.package])
    step = package.training_step(package.build(case), case, device, wrap=DistributedDataParallel)
    step()
    step()
    seconds = measure.interleaved({"step": step}, asked["steps"])["step"]
    if torch.distributed.get_rank() == 0:
        print(json.dumps({"seconds": seconds}), flush=True)
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1])
