#!/usr/bin/env bash
#SBATCH --job-name=papers
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
# From the root of this repository: sbatch launch/slurm_4x8.sh PACKAGE train RECIPE [options]
# PACKAGE is fanet, plvl or cabl_cgsr. A job that is started again resumes from its newest checkpoint.
set -euo pipefail
cd "$SLURM_SUBMIT_DIR"
export PAPERS_FIRST_HOST PAPERS_PORT
PAPERS_FIRST_HOST=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | sed -n 1p)
PAPERS_PORT=$((20000 + SLURM_JOB_ID % 20000))

# one launcher on each machine, which knows its own number only there
srun --kill-on-bad-exit=1 bash -c 'exec accelerate launch --config_file launch/4x8.yaml \
    --machine_rank "$SLURM_NODEID" --main_process_ip "$PAPERS_FIRST_HOST" --main_process_port "$PAPERS_PORT" \
    -m "$@"' launch "$@"
