"""The benchmarks compare the same function, write every row at once, and say what is missing; no time is asserted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("fanet")
pytest.importorskip("plvl")
pytest.importorskip("cabl_cgsr")
pytest.importorskip("psutil")

from benchmarks import __main__ as command
from benchmarks import loaders, suite
from benchmarks.jobs import AGAINST, COMPILED, MODULES, OURS, PLAIN, Job, jobs_of, module_of
from benchmarks.report import Page
from benchmarks.suite import Plan, Row
from benchmarks.worker import Subject
from papers_shared.errors import UserError

QUICK = [job for package in MODULES for job in jobs_of(package, quick=True)]
TINY = next(
    job for job in QUICK if (job.package, job.part, job.mode) == ("cabl-cgsr", "classifier", "inference")
)


@pytest.mark.parametrize("job", QUICK, ids=lambda job: f"{job.package} {job.part} {job.mode}")
def test_every_variant_runs_and_those_on_the_same_weights_answer_alike(job: Job, tmp_path: Path) -> None:
    if job.package == "sam":
        pytest.importorskip("segment_anything")
        pytest.importorskip("transformers")
    module = module_of(job.package)
    job = replace(job, side=32) if job.package == "fanet" else job
    for variant in job.variants:
        subject = Subject(job, variant, tmp_path, "cpu")
        if variant in (OURS, PLAIN, *getattr(module, "SAME", ())):
            assert subject.outputs() or job.part == "embedding"
            assert all(value <= module.BOUND for value in subject.compare().values()), variant
        assert subject.count()["parameters"] > 0
        assert subject.network.training is False
        assert subject.memory() >= 0
        assert subject.network.training is (job.mode == "training")
        assert subject.seconds() > 0


@pytest.mark.parametrize("package", [package for package in MODULES if package != "sam"])
def test_a_training_step_of_the_plain_form_has_the_same_gradients(package: str) -> None:
    job = next(job for job in QUICK if job.package == package and job.mode == "training")
    module = module_of(package)
    gradients = []
    for variant in (OURS, PLAIN):
        torch.manual_seed(0)
        network: nn.Module = module.build(job, variant).double().eval()
        inputs = [x.double() if x.is_floating_point() else x for x in module.inputs(job, variant)]
        outputs = module.outputs(network(*inputs))
        torch.stack([value.square().mean() for value in outputs.values()]).sum().backward()
        gradients.append({n: p.grad for n, p in network.named_parameters() if p.grad is not None})
    ours, plain = gradients
    if package == "fanet":
        plain = under_our_names(plain)
    largest = max(float(gradient.abs().max()) for gradient in plain.values())
    assert ours.keys() == plain.keys()
    for name, expected in plain.items():
        assert (ours[name] - expected).abs().max() < 1e-6 * largest, name


def under_our_names(gradients: dict[str, Tensor]) -> dict[str, Tensor]:
    """Gradients of the plain segmentor; in eval mode its auxiliary head has none."""
    from benchmarks.fanet_jobs import convert_state_dict
    from benchmarks.plain_fanet import PlainSegmenter

    zeros = {name: torch.zeros_like(value).double() for name, value in PlainSegmenter(5).state_dict().items()}
    named = convert_state_dict({**zeros, **gradients})
    return {
        name: value
        for name, value in named.items()
        if not name.startswith("auxiliary_head") and not buffer(name)
    }


def buffer(name: str) -> bool:
    return name.endswith(("running_mean", "running_var", "num_batches_tracked"))


def test_a_plain_form_that_computes_something_else_is_seen(tmp_path: Path) -> None:
    Subject(TINY, OURS, tmp_path, "cpu").outputs()
    subject = Subject(TINY, PLAIN, tmp_path, "cpu")
    with torch.no_grad():
        subject.network.get_parameter("trans_cls_head.weight").mul_(1.1)
    subject.outputs()
    assert max(subject.compare().values()) > module_of("cabl-cgsr").BOUND


def test_another_checkout_is_measured_beside(
    tmp_path: Path, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [
        "cabl-cgsr",
        "--quick",
        "--only",
        "classifier, inference",
        "--against",
        str(root),
        "--threads",
        "1",
    ]
    assert command.main([*given, "--output", str(tmp_path)]) == 0
    page = (tmp_path / "cabl-cgsr-cpu.md").read_text()
    assert page in capsys.readouterr().out
    assert "cabl-cgsr, another checkout, plain form differ from ours by at most" in page
    assert page.count("times as fast") == 2
    assert "unfinished" not in page


def test_a_checkout_that_cannot_be_measured_is_reported(tmp_path: Path) -> None:
    package = tmp_path / "packages" / "cabl-cgsr" / "src" / "cabl_cgsr"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('too old')")
    rows: list[Row] = []
    plan = Plan(rounds=1, threads=1, against=tmp_path)
    suite.measure(replace(TINY, variants=(OURS, AGAINST)), plan, rows.append)
    assert [(row.variant, len(row.seconds), row.missing) for row in rows] == [
        (AGAINST, 0, "ImportError: too old"),
        (OURS, 1, ""),
    ]


@pytest.mark.parametrize("difference", [0.1, float("nan")])
def test_different_answers_stop_the_run(difference: float) -> None:
    class Different:
        def ask(self, method: str) -> Any:
            return {"compare": {"logits": difference}, "count": {"parameters": 1, "gmac": 1.0}}.get(
                method, []
            )

    worker: Any = Different()
    with pytest.raises(UserError, match=r"plain and ours differ by .* on the same weights"):
        suite._examine(worker, Row(TINY, PLAIN))


def test_training_memory_holds_gradients_and_optimizer_state(tmp_path: Path) -> None:
    """Gradients and AdamW's two averages alone take three times the weights."""
    job = next(job for job in QUICK if (job.package, job.part, job.mode) == ("fanet", "backbone", "training"))
    worker = suite.Worker(job, OURS, tmp_path, Plan(rounds=1, threads=1))
    try:
        assert worker.ask("memory") > 0.8 * 3 * 4 * worker.ask("count")["parameters"]
    finally:
        worker.close()


def test_an_interrupted_run_leaves_what_it_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(job: Job, plan: Plan, save: Any) -> None:
        if job != jobs_of("plvl")[0]:
            raise KeyboardInterrupt
        save(Row(job, OURS, [1.0, 2.0]))

    monkeypatch.setattr(command, "measure", measure)
    assert command.main(["plvl", "--output", str(tmp_path)]) == 130
    page = (tmp_path / "plvl-cpu.md").read_text()
    assert "This run is unfinished" in page
    assert "| plvl, ours | 1500.0 | 1000.0 to 2000.0 |" in page


def test_the_page_says_ratios_growth_and_what_is_missing() -> None:
    small, large = (replace(TINY, side=side, batch=2, small=False) for side in (256, 512))
    rows = [
        Row(small, OURS, [1.0, 1.2, 1.1], bytes=10_000_000, parameters=1_000_000, gmac=4.0),
        Row(small, PLAIN, [2.0, 3.0, 2.2], bytes=20_000_000, difference=1e-7),
        Row(large, OURS, [5.5], bytes=40_000_000),
        Row(large, "peer", missing="it is not installed"),
    ]
    titles = {OURS: "ours", PLAIN: "plain form", "peer": "a peer"}
    page = Page("cabl-cgsr", ["on this machine"], titles, ["a note"], rows, unfinished=False).markdown()
    assert "| ours | 550.0 | 500.0 to 600.0 |  | 10 | 1.0 | 2.0 |" in page
    assert "| plain form | 1100.0 | 1000.0 to 1500.0 | 2.00 times as fast (2.00 to 2.50) | 20 |  |  |" in page
    assert "plain form differ from ours by at most 1.0e-07" in page
    assert "| classifier, inference | ours | 256x256 to 512x512 | 4.0 | 5.0 | 4.0 |" in page
    assert "Not measured: a peer: it is not installed" in page
    assert "- a note" in page


@pytest.mark.parametrize("package", MODULES)
def test_the_jobs_of_a_package(package: str) -> None:
    jobs = jobs_of(package)
    assert len(jobs) == len({job.network() for job in jobs})
    assert all(job.variants[0] == OURS for job in jobs)
    assert max(sum(job.kind == other.kind for other in jobs) for job in jobs) == 3, "growth from three sizes"
    beside = jobs_of(package, against=True, compiled=True)
    assert all(job.variants[1] == AGAINST for job in beside)
    assert all((COMPILED in job.variants) == (job.mode == "inference") for job in beside)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (["fannet"], "no benchmarks of 'fannet'"),
        (["--against", "/"], "--against '/' is not a checkout"),
        (["--rounds", "0"], "--rounds must be at least 1"),
    ],
)
def test_wrong_use_is_refused(given: list[str], why: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        command.main(given)
    assert caught.value.code == 2
    assert why in capsys.readouterr().err


def test_a_job_that_does_not_exist_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["plvl", "--only", "video"]) == 2
    assert "--only 'video' fits no job of plvl: network, inference" in capsys.readouterr().err


@pytest.mark.parametrize("package", list(loaders.PACKAGES))
def test_the_samples_of_a_loader_are_counted_and_travel_as_bytes(package: str) -> None:
    rate = loaders.measure(package, images=4, seconds=0.0, small=True)
    assert rate.per_second > 0
    side = {"fanet": 512, "plvl": 448, "cabl-cgsr": 512}[package]
    assert rate.bytes < 5 * side**2  # floats would be twelve bytes for each pixel
    assert package in str(rate)
