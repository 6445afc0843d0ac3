#!/usr/bin/env bash
#SBATCH --job-name=papers
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
# From the root of this repository: sbatch launch/slurm_1x8.sh PACKAGE train RECIPE [options]
# PACKAGE is fanet, plvl or cabl_cgsr. A job that is started again resumes from its newest checkpoint.
set -euo pipefail
cd "$SLURM_SUBMIT_DIR"
port=$((20000 + SLURM_JOB_ID % 20000)) # jobs may share the machine

srun accelerate launch --config_file launch/1x8.yaml --main_process_port "$port" -m "$@"
