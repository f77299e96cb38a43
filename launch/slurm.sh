#!/usr/bin/env bash
# Trains on a Slurm cluster, one process for each GPU; from the clone's folder, whose file system
# all nodes share:
#
#     sbatch --nodes=2 launch/slurm.sh --config configs/paintings.py --workdir runs/paintings
#
# What is set below goes for a node with 8 GPUs, and can be set otherwise in front of launch/slurm.sh.
#SBATCH --job-name=painterjax
#SBATCH --nodes=1
#SBATCH --gpus-per-node=8
#SBATCH --ntasks-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --output=painterjax-%j.log
#SBATCH --open-mode=append
# A node that fails puts the job back into the queue.
#SBATCH --requeue
# Two minutes before its time is up the processes, not this script, get SIGTERM: they save and end.
#SBATCH --signal=TERM@120
set -uo pipefail

# Where a process failed, counted with all other times in the queue. srun's status is the highest:
# bad input ends all processes alike, with 2; a disk that is full later on only the first one, and
# the others with 3, so that it is tried again.
RESTARTS=3

# JAX takes the GPU of each process's number: all of the node's GPUs are to be seen by all.
srun --gpu-bind=none --kill-on-bad-exit=0 --label \
  .venv/bin/python -m painterjax.train "$@" --distributed
status=$?
case $status in
  0 | 2) exit "$status" ;;  # Done, or bad input.
  143) ;;  # The time is up. After scancel this script is no more.
  *) ((${SLURM_RESTART_COUNT:-0} < RESTARTS)) || exit "$status" ;;
esac
scontrol requeue "$SLURM_JOB_ID"
