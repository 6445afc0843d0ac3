"""Does every timm model fit under fanet's heads?

The smallest of each of timm's modules is built, trains a step, is saved, opened again, and predicts; each in a process
of its own with a limit of time and memory, so that a crash is one row.

    python -m benchmarks.backbones [MODULE ...] [--side 96] [--minutes 5] [--gigabytes 16] [--needed 95]
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import tempfile
import time
from pathlib import Path

PASSED = "passed"


def main(arguments: list[str] | None = None) -> int:
    """Print a row for each module; 0 if all pass, or `--needed` of them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("modules", nargs="*", help="timm's modules; none: all")
    parser.add_argument("--side", type=int, default=96, help="side of the images")
    parser.add_argument("--minutes", type=float, default=5, help="limit for one model")
    parser.add_argument("--gigabytes", type=int, default=16, help="limit for one model")
    parser.add_argument("--needed", type=int, default=0, help="so many must pass; 0: all")
    options = parser.parse_args(arguments)
    modules = options.modules or all_modules()
    passed = 0
    print("| module | model | parameters | seconds | result |\n|---|---|---|---|---|", flush=True)
    for module in modules:
        name, parameters = smallest(module)
        began = time.monotonic()
        result = try_one(name, options.side, options.minutes * 60, options.gigabytes)
        passed += result.startswith(PASSED)
        row = (module, name, f"{parameters / 1e6:.1f} M", f"{time.monotonic() - began:.0f}", result)
        print(f"| {' | '.join(row)} |", flush=True)
    print(f"\n{passed} of {len(modules)} pass")
    return int(passed < (options.needed or len(modules)))


def all_modules() -> list[str]:
    import timm

    import fanet.registry  # noqa: F401 (FANet is one of them)

    return list(timm.list_modules())


def smallest(module: str) -> tuple[str, int]:
    """The model of the fewest parameters in a module, and their count."""
    import timm
    import torch

    import fanet.registry  # noqa: F401

    counts = {}
    for name in timm.list_models(module=module):
        with torch.device("meta"):
            counts[name] = sum(parameter.numel() for parameter in timm.create_model(name).parameters())
    if not counts:
        raise SystemExit(f"timm has no module {module!r}")
    return min(counts.items(), key=lambda item: item[1])


def try_one(name: str, side: int, seconds: float, gigabytes: int) -> str:
    """`passed`, with what was adapted, or one sentence that says why not."""
    with tempfile.TemporaryDirectory() as folder:
        said = Path(folder, "said.txt")
        fork = multiprocessing.get_context("fork")  # what is imported already need not be imported again
        process = fork.Process(target=_use_and_say, args=(said, name, side, gigabytes))
        process.start()
        process.join(seconds)
        if process.is_alive():
            process.kill()
            process.join()
            return f"no end within {seconds:.0f} s"
        lines = said.read_text(errors="replace").strip().splitlines()
        last = lines[-1][:300] if lines else ""
        if process.exitcode == 0 and last.startswith(PASSED):
            return last
        return f"ended with {process.exitcode}: {last.removeprefix(PASSED)}"


def _use_and_say(said: Path, name: str, side: int, gigabytes: int) -> None:
    """`use`, with all that it prints, errors too, in a file."""
    with said.open("w") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
        use(name, side, gigabytes)
        sys.stdout.flush()


def use(name: str, side: int, gigabytes: int) -> None:
    """Build, train one step, save, open, predict; prints `passed` and what was adapted."""
    import resource

    import numpy as np
    import torch
    import torch.nn.functional as F

    import fanet
    from fanet.config import ModelConfig

    resource.setrlimit(resource.RLIMIT_DATA, (gigabytes * 2**30,) * 2)
    torch.manual_seed(0)
    config = ModelConfig(
        backbone=name,
        class_names=("a", "b", "c"),
        decoder_channels=16,
        auxiliary_channels=16,
        test_scale=(2 * side, side),
        image_size=side,
    )
    network = fanet.Segmenter.from_config(config).train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
    output = network(torch.randn(2, 3, side, side))
    labels = torch.randint(3, (2, *output.logits.shape[-2:]))
    loss = F.cross_entropy(output.logits, labels)
    loss.backward()
    assert loss.isfinite(), "the loss is not finite"
    assert any(p.grad is not None and p.grad.any() for p in network.backbone.parameters()), "no gradient"
    optimizer.step()
    network.eval()
    pixels = np.random.default_rng(0).integers(0, 255, (side, side + side // 2 + 1, 3), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        network.save_pretrained(Path(folder, "model"))
        again = fanet.Segmenter.from_pretrained(Path(folder, "model"))
    first, second = (model.predict(pixels, untrained=True).mask for model in (network, again))
    assert first.shape == pixels.shape[:2], f"the mask is {first.shape}"
    assert np.array_equal(first, second), "the saved model answers otherwise"
    print("; ".join((PASSED, *network.notes)))


if __name__ == "__main__":
    sys.exit(main())
