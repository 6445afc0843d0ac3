"""The ready configurations and SLURM scripts, and the commands that their README names."""

from __future__ import annotations

import importlib
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.utils import DistributedType

from papers_shared.cli import choose_recipe
from papers_shared.training.plan import plan_step

SIZES = {"1x1": (1, 1), "1x8": (1, 8), "4x8": (4, 32)}
README = Path(__file__).parents[1] / "launch" / "README.md"
COMMANDS = re.findall(r"`sbatch (launch/slurm_\S+) (.+?)`", README.read_text())


def test_every_file_is_known(root: Path) -> None:
    names = {path.name for path in (root / "launch").iterdir()}
    assert names == {
        "README.md",
        *(f"{size}.yaml" for size in SIZES),
        *(f"slurm_{size}.sh" for size in SIZES),
    }
    assert {f"launch/slurm_{size}.sh" for size in SIZES} == {script for script, _ in COMMANDS}


@pytest.mark.parametrize("size", SIZES)
def test_accelerate_reads_the_configuration(root: Path, size: str) -> None:
    config = load_config_from_file(str(root / "launch" / f"{size}.yaml"))
    machines, processes = SIZES[size]
    assert (config.num_machines, config.num_processes) == (machines, processes)
    several = config.distributed_type == DistributedType.MULTI_GPU
    assert several == (processes > 1)
    assert config.mixed_precision == "no"
    assert not config.use_cpu


@pytest.mark.parametrize(("script", "command"), COMMANDS)
def test_the_commands_of_the_readme_give_the_papers_batch(script: str, command: str) -> None:
    package, verb, *arguments = shlex.split(command)
    assert verb == "train"
    recipes = importlib.import_module(f"{package}.recipes").RECIPES
    paper = recipes[arguments[0]]().optim
    asked = choose_recipe(package, recipes, type(recipes[arguments[0]]()), arguments).optim
    assert asked.batch_size == paper.batch_size
    processes = SIZES[script[len("launch/slurm_") : -len(".sh")]][1]
    plan = plan_step(asked.batch_size, processes, micro_batch=asked.micro_batch)
    assert plan.processes * plan.accumulation * plan.micro_batch == paper.batch_size


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize("size", SIZES)
def test_the_script_starts_a_launcher_on_each_machine(root: Path, tmp_path: Path, size: str) -> None:
    """With stand-ins for SLURM's commands and for `accelerate`, which writes down what it was given."""
    script = root / "launch" / f"slurm_{size}.sh"
    subprocess.run(["bash", "-n", str(script)], check=True)
    machines, processes = SIZES[size]
    stand_ins = {
        "scontrol": 'printf "node%d\\n" 7 8 9 10',
        "srun": '[[ $1 == --* ]] && shift; for i in $(seq 0 $((NODES - 1))); do SLURM_NODEID=$i "$@" || exit 1; done',
        "accelerate": 'printf "%s|" "$@"; echo',
    }
    for name, line in stand_ins.items():
        (tmp_path / name).write_text(f"#!/usr/bin/env bash\n{line}\n")
        (tmp_path / name).chmod(0o755)
    slurm = {"SLURM_SUBMIT_DIR": str(root), "SLURM_JOB_ID": "41", "SLURM_JOB_NODELIST": "node[7-10]"}
    done = subprocess.run(
        ["bash", str(script), "fanet", "train", "toy", "--data.root", "two words"],
        env={**os.environ, **slurm, "NODES": str(machines), "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
    )
    options = [f"--config_file|launch/{size}.yaml|"]
    if processes > 1:
        options.append("--main_process_port|20041|")
    if machines > 1:
        options.append("--main_process_ip|node7|")
    lines = done.stdout.splitlines()
    assert len(lines) == machines
    for number, line in enumerate(lines):
        assert line.endswith("-m|fanet|train|toy|--data.root|two words|")
        assert all(option in line for option in options)
        assert (f"--machine_rank|{number}|" in line) == (machines > 1)
    sbatch = dict(re.findall(r"^#SBATCH --(\S+)=(\S+)$", script.read_text(), re.MULTILINE))
    assert int(sbatch["nodes"]) == machines
    assert int(sbatch["nodes"]) * int(sbatch["gpus-per-node"]) == processes
    assert sbatch["ntasks-per-node"] == "1"
    assert sbatch["signal"] == "TERM@120", "time for a checkpoint before the job's limit"
