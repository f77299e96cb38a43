#!/usr/bin/env bash
# Prepares a store on a Slurm cluster: N jobs decode a share each, and one merges them. Run it in
# the clone's folder. All nodes must share the file systems of this folder and of the store:
#
#     launch/slurm-prepare.sh N ARGUMENTS-OF-PREPARE...
#     launch/slurm-prepare.sh 16 folder --input paintings --output data/paintings-80 --image-size 80
#
# If a job fails, Slurm cancels the merge. Run the same command again: it does what is left.
set -euo pipefail

if [[ $# -lt 2 || ! $1 =~ ^[1-9][0-9]*$ ]]; then
  echo "slurm-prepare.sh: error: expected N ARGUMENTS-OF-PREPARE..., as in 16 folder --input ..." >&2
  exit 2
fi
count=$1
prepare="exec .venv/bin/python -m painterjax.prepare $(printf '%q ' "${@:2}")"
options=(--parsable --job-name=painterjax-prepare --cpus-per-task=8 --time=4:00:00 --requeue)

array=$(sbatch "${options[@]}" --array="1-$count" --output=prepare-%A-%a.log <<END
#!/usr/bin/env bash
$prepare --shard "\$SLURM_ARRAY_TASK_ID/$count"
END
)
array=${array%%;*}  # sbatch may append the cluster's name.
merge=$(sbatch "${options[@]}" --dependency="afterok:$array" --kill-on-invalid-dep=yes \
  --output=prepare-%j.log <<END
#!/usr/bin/env bash
$prepare
END
)
echo "jobs: $array decodes in $count shares, ${merge%%;*} merges"
