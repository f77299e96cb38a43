#!/usr/bin/env bash
# Trains on a Slurm cluster, one process for each GPU; from the clone's folder, whose file system
# all nodes share:
#
#     sbatch --nodes=2 launch/slurm.sh --config configs/scratch.py --workdir runs/scratch
#
# The options below are for nodes with 8 GPUs. Options before launch/slurm.sh override them.
#SBATCH --job-name=painterjax
#SBATCH --nodes=1
#SBATCH --gpus-per-node=8
#SBATCH --ntasks-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --output=painterjax-%j.log
#SBATCH --open-mode=append
# If a node fails, Slurm requeues the job.
#SBATCH --requeue
# Two minutes before the time limit the processes, not this script, get SIGTERM: they save and exit.
#SBATCH --signal=TERM@120
set -uo pipefail

# How often the job is requeued after a failure; requeues for the time limit count as well. srun's
# status is the highest of its processes: bad input ends all of them with 2. A full disk later on
# ends process 0 with 2 and the others with 134, by JAX, so the job is tried again.
RESTARTS=${RESTARTS:-3}

# JAX gives each process the GPU of its number, so every process must see all GPUs of its node.
srun --gpu-bind=none --kill-on-bad-exit=0 --label \
  .venv/bin/python -m painterjax.train "$@" --distributed
status=$?
case $status in
  0 | 2) exit "$status" ;;  # Done, or bad input.
  143) ;;  # The time limit. (After scancel this script does not run any more.)
  *) ((${SLURM_RESTART_COUNT:-0} < RESTARTS)) || exit "$status" ;;
esac
scontrol requeue "$SLURM_JOB_ID"
