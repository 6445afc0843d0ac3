"""The GPU benchmark: goldens that every device must answer, rows on disk at once, and nothing else to install."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from bf16_patches import patches_are_right_in_bf16

pytest.importorskip("fanet")
pytest.importorskip("plvl")
pytest.importorskip("cabl_cgsr")
pytest.importorskip("transformers")

from benchmarks import __main__ as command
from benchmarks.gpu import command as gpu_command
from benchmarks.gpu import golden
from benchmarks.gpu.measure import Bench, work
from benchmarks.gpu.page import page
from benchmarks.gpu.rows import WANTED, Spec, specs
from benchmarks.gpu.subjects import blocks_of, subjects
from papers_shared.devices import use_precision
from papers_shared.types import Precision

NOT_NEEDED = ("datasets", "tyro", "segment_anything", "cv2", "pycocotools", "matplotlib")
BLOCKED = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocked())
sys.path.insert(0, {root!r})
"""


@pytest.fixture
def switches() -> Any:
    """Torch's switches for float32 as they were."""
    products, convolutions = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    search = torch.backends.cudnn.benchmark
    yield
    torch.set_float32_matmul_precision(products)
    torch.backends.cudnn.allow_tf32 = convolutions
    torch.backends.cudnn.benchmark = search


@pytest.mark.parametrize("name", golden.NAMES)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_cpu_answers_the_goldens(name: str, precision: Precision) -> None:
    if (name, precision) == ("cabl-cgsr", "bf16") and not patches_are_right_in_bf16():
        pytest.skip(
            "torch's bf16 convolution of 16 channels in patches of 4 is wrong on this CPU (oneDNN with AMX)"
        )
    found = golden.differences(name, torch.device("cpu"), precision)
    assert max(found.values()) <= golden.BOUNDS[precision], found


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", golden.NAMES)
@pytest.mark.parametrize("precision", golden.BOUNDS)
@pytest.mark.usefixtures("switches")
def test_a_gpu_answers_the_goldens(name: str, precision: Precision) -> None:
    """Forward, backward and a step against float64."""
    device = torch.device("cuda")
    use_precision(precision, device)
    found = golden.differences(name, device, precision)
    assert all(value <= golden.BOUNDS[precision] for value in found.values()), found


def test_a_wrong_answer_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundredth more of one answer is out of the bounds of fp32, and an answer that is not finite of any."""
    right = golden.compute("plvl", torch.device("cpu"), "fp32")
    for factor in (1.01, float("nan")):
        wrong = {**right, "boxes": right["boxes"] * factor}
        monkeypatch.setattr(golden, "compute", lambda *_, wrong=wrong: wrong)
        found = golden.differences("plvl", torch.device("cpu"), "fp32")
        assert [key for key, value in found.items() if not value <= golden.BOUNDS["fp32"]] == ["boxes"]


def test_the_goldens_are_small_and_of_float64() -> None:
    assert golden.FILE.stat().st_size < 1_000_000
    values = golden.goldens()
    assert {key.partition("/")[0] for key in values} == set(golden.NAMES)
    assert all(x.dtype == torch.float64 and bool(x.isfinite().all()) for x in values.values())


def test_it_starts_with_nothing_else_installed(root: Path, tmp_path: Path) -> None:
    """In a folder of its own, isolated from what the environment would add to the path."""
    code = BLOCKED.format(names=NOT_NEEDED, root=str(root))
    code += "from benchmarks.__main__ import main\n"
    given = [
        "gpu",
        "--device",
        "cpu",
        "--quick",
        "--no-check",
        "--only",
        "plvl, inference, batch 2, bf16, eager",
    ]
    code += f"code = main({given!r})\n"
    code += "import plvl.predict, fanet.losses, cabl_cgsr.predict, cabl_cgsr.inference, plvl.inference\n"
    code += "sys.exit(code)\n"
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "## plvl, inference, batch 2" in done.stdout


@pytest.mark.usefixtures("switches")
def test_a_quick_run_measures_every_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_command, "check", lambda device, record: True)
    given = ["--device", "cpu", "--quick", "--only", "eager", "--output", str(tmp_path)]
    assert gpu_command.main(given) == 0
    entries = [json.loads(line) for line in (tmp_path / "gpu.jsonl").read_text().splitlines()]
    rows = [entry for entry in entries if entry["kind"] == "row"]
    known = subjects(quick=True)
    assert {row["subject"] for row in rows} == set(known)
    assert {row["subject"] for row in rows if row["mode"] == "training"} == {
        name for name, subject in known.items() if subject.training
    }
    assert all(row["ms"] > 0 and row["flops"] > 0 and row["moved_bytes"] > 0 for row in rows)
    assert (tmp_path / "gpu.md").read_text() == page(entries)
    assert "unfinished" not in page(entries)
    assert "unfinished" in page(entries[:-1])


@pytest.mark.usefixtures("switches")
def test_a_row_that_fails_is_named_and_the_others_are_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure = Bench.measure

    def broken(self: Bench, spec: Spec, subject: Any) -> Any:
        if spec.mode == "training":
            raise RuntimeError("CUDA out of memory\nmore")
        return measure(self, spec, subject)

    monkeypatch.setattr(Bench, "measure", broken)
    monkeypatch.setattr(gpu_command, "check", lambda device, record: True)
    given = ["--device", "cpu", "--quick", "--only", "plvl", "--output", str(tmp_path), "--backend", "eager"]
    assert gpu_command.main(given) == 1
    text = (tmp_path / "gpu.md").read_text()
    assert "- plvl, training step, batch 2, bf16, eager: RuntimeError: CUDA out of memory\n" in text
    assert "| bf16 | by block |" in text


@pytest.mark.usefixtures("switches")
def test_answers_out_of_bounds_end_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def differences(name: str, device: Any, precision: str) -> dict[str, float]:
        if precision == "fp16":
            raise RuntimeError("expected scalar type Half")
        return {"logits": 0.0, "loss": float("nan") if name == "sam" else 1.5e-2}

    monkeypatch.setattr(golden, "differences", differences)
    assert gpu_command.main(["--device", "cpu", "--quick", "--output", str(tmp_path)]) == 2
    assert "answers are out of their bounds" in capsys.readouterr().err
    text = (tmp_path / "gpu.md").read_text()
    assert "| fanet | bf16 | 1.5e-02 (loss) | 2e-02 | yes |" in text
    assert "| fanet | fp32 | 1.5e-02 (loss) | 1e-05 | **no** |" in text
    assert "| sam | bf16 | nan (loss) | 2e-02 | **no** |" in text
    assert "| plvl | fp16 |  | 5e-03 | **no** RuntimeError: expected scalar type Half |" in text


@pytest.mark.usefixtures("switches")
def test_rows_without_time_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_command, "check", lambda device, record: True)
    given = ["--device", "cpu", "--only", "plvl, inference", "--minutes", "0.01", "--output", str(tmp_path)]
    assert gpu_command.main(given) == 0
    assert (
        "There was no time for 8 rows: plvl, inference, batch 1, bf16, eager; "
        in (tmp_path / "gpu.md").read_text()
    )


def test_the_most_wanted_rows_come_first() -> None:
    rows = specs(subjects(quick=False).values(), cuda=True)
    assert len(rows) == len(set(rows))
    first = rows[: len(WANTED)]
    assert {row.job for row in first} == set(WANTED)
    assert all(row.precision == "bf16" for row in first)
    assert {row.form for row in first if row.mode == "training"} == {"by block"}
    assert {(row.precision, row.form) for row in rows if row.job == ("plvl", "inference", 1)} == {
        (precision, form) for precision in ("bf16", "tf32", "fp32") for form in ("eager", "graph", "by block")
    }


def test_work_is_what_a_product_does() -> None:
    a, b = torch.ones(3, 5), torch.ones(5, 7)
    assert work(lambda: (a.T.T @ b).view(21)) == (2 * 3 * 5 * 7, 4 * (3 * 5 + 5 * 7 + 3 * 7))


def test_every_network_has_blocks_to_compile() -> None:
    for subject in subjects(quick=True).values():
        network = subject.build()
        blocks = blocks_of(network)
        parts = [id(part) for block in blocks for part in block.modules()]
        assert blocks, subject.name
        assert len(parts) == len(set(parts)), f"{subject.name}: a block inside a block"


@pytest.mark.parametrize(("given", "why"), [(["--minutes", "0"], "--minutes must be more than 0")])
def test_wrong_use_is_refused(given: list[str], why: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        command.main(["gpu", *given])
    assert caught.value.code == 2
    assert why in capsys.readouterr().err
