"""A network as one file, `torch.export` (.pt2) or ONNX, kept only if it answers as the network does."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from papers_shared.errors import UserError
from papers_shared.types import Precision

Format = Literal["torch", "onnx"]
SUFFIXES: dict[str, Format] = {".pt2": "torch", ".onnx": "onnx"}
TOLERANCES: dict[Precision, float] = {"fp32": 1e-4, "tf32": 2e-3, "bf16": 0.2, "fp16": 0.03}
"""Largest difference from eager in a precision, relative to the largest value of each output, of a file that is kept;
of half precision as much as a network's maps, which are small sums of large parts, come to differ.
"""


@dataclass(frozen=True)
class Exported:
    """What there is to say of each exported network; a package adds the shapes of its own."""

    path: Path
    format: Format
    difference: float
    """As `write_checked` returns it."""
    precision: Precision
    """What eager computed in. The file computes in float32."""

    @property
    def agrees(self) -> bool:
        """Whether the file was kept; NaN never agrees."""
        return self.difference <= TOLERANCES[self.precision]

    def conclude(self) -> int:
        """Print whether the file was kept; the exit code of the verb: 0, or 1 where it was not."""
        if not self.agrees:
            print(f"that is more than {TOLERANCES[self.precision]:g}: {self.path} was not written")
            return 1
        print(f"written: {self.path}")
        return 0


def export_format(output: Path, asked: Literal["auto", "torch", "onnx"]) -> Format:
    """The kind of file: as asked or, with auto, by the suffix of `output`.

    Raises:
        UserError: auto, and another suffix than .pt2 or .onnx.
    """
    format = SUFFIXES.get(output.suffix) if asked == "auto" else asked
    if format is None:
        raise UserError(f"{output}: name the file NAME.pt2 or NAME.onnx, or say --format torch or onnx")
    return format


def write_checked(
    model: nn.Module,
    inputs: Mapping[str, Tensor],
    expected: Mapping[str, Tensor],
    texts: Mapping[str, str],
    output: Path,
    format: Format,
    *,
    package: str,
    precision: Precision = "fp32",
    smallest: float = 0.0,
) -> float:
    """Write `model` as one file at `output`, unless what the written file answers is too far off (`TOLERANCES`).

    Args:
        model: Takes the inputs in order and returns a tensor or a tuple of tensors; in eval mode, on the CPU.
        expected: Eager's answer to `inputs`, in order.
        texts: Stored inside the file: in `extra_files` of a .pt2, in the metadata of an ONNX model.
        precision: What eager computed in.
        package: Whose `onnx` extra the error about a missing library names.
        smallest: Differences are relative to this at least.

    Returns:
        The largest over the outputs of max |exported - eager| / max |eager|; NaN if an output has one.

    Raises:
        UserError: ONNX is asked for and its libraries are missing.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}-") as folder:
        written = Path(folder) / f"model{'.pt2' if format == 'torch' else '.onnx'}"
        if format == "torch":
            write_torch(model, inputs, texts, written)
            found = run_torch(written, inputs)
        else:
            write_onnx(model, inputs, list(expected), texts, written, package)
            found = run_onnx(written, inputs)
        differences = [
            (one - other.float()).abs().max() / other.float().abs().max().clamp(min=smallest)
            for one, other in zip(found, expected.values(), strict=True)
        ]
        difference = float(torch.stack(differences).max())  # NaN if one of them is
        if difference <= TOLERANCES[precision]:
            written.replace(output)
    return difference


def write_torch(model: nn.Module, inputs: Mapping[str, Tensor], texts: Mapping[str, str], path: Path) -> None:
    with torch.no_grad():
        program = torch.export.export(model, tuple(inputs.values()))
    torch.export.save(program, path, extra_files=dict(texts))


def run_torch(path: Path, inputs: Mapping[str, Tensor]) -> list[Tensor]:
    with torch.no_grad():
        found = torch.export.load(path).module()(*inputs.values())
    return [found] if isinstance(found, Tensor) else list(found)


def write_onnx(
    model: nn.Module,
    inputs: Mapping[str, Tensor],
    outputs: list[str],
    texts: Mapping[str, str],
    path: Path,
    package: str,
) -> None:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UserError(f"ONNX export needs {error.name}: pip install '{package}[onnx]'") from error
    with torch.no_grad():
        program = torch.onnx.export(
            model,
            tuple(inputs.values()),
            dynamo=True,
            input_names=list(inputs),
            output_names=outputs,
            external_data=False,
            verbose=False,
        )
    assert program is not None
    program.model.metadata_props.update(texts)
    program.save(path, external_data=False)


def run_onnx(path: Path, inputs: Mapping[str, Tensor]) -> list[Tensor]:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    feed = {name: tensor.numpy() for name, tensor in inputs.items()}
    return [torch.from_numpy(value) for value in session.run(None, feed)]
