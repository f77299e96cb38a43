#!/usr/bin/env bash
# Runs a command as N processes on this machine, one GPU each where there are GPUs (N = 1: all):
#
#     launch/local.sh N COMMAND...
#     launch/local.sh 8 python -m painterjax.train --config configs/scratch.py \
#       --workdir runs/scratch --distributed
#
# Each line of output begins with the number of its process, as in [3]. If one process fails, the
# script ends the others and starts all again, up to RESTARTS times (an environment variable, by
# default 0). It does not restart after bad input (status 2) or a stop (130, 143). It passes SIGINT
# and SIGTERM on. If this script is killed, its processes get SIGTERM (by setpriv of util-linux).
# The exit status is that of the process that failed first; but a status 2 takes precedence, and 134
# yields to any other: with it JAX aborts a process that lost another. Needs Linux and bash 4.4.
set -euo pipefail

GRACE_S=10  # Time for the others to end, in seconds, after one has failed.
POLL_S=0.1

main() {
  [[ $# -ge 2 && $1 =~ ^[1-9][0-9]*$ ]] || refuse "expected N COMMAND..., as in local.sh 8 python"
  [[ ${RESTARTS:=0} =~ ^(0|[1-9][0-9]*)$ ]] || refuse "RESTARTS is $RESTARTS: must be a number"
  count=$1
  shift
  find_gpus
  declare -gA processes=()  # pid -> number of the process
  told=""  # Exit status of a stop: 130, 143, or empty if there was none.
  trap 'told=130; send INT' INT
  trap 'told=143; send TERM' TERM HUP
  trap 'send KILL' EXIT
  for ((restart = 1; ; restart++)); do
    start "$@"
    await
    case $status in 0 | 2 | 130 | 143) exit "$status" ;; esac
    ((restart <= RESTARTS)) || exit "$status"
    echo "local.sh: restart $restart of $RESTARTS" >&2
  done
}

refuse() {
  echo "local.sh: error: $*" >&2
  exit 2
}

find_gpus() {
  gpus=()
  if [[ -v CUDA_VISIBLE_DEVICES ]]; then
    IFS=, read -ra gpus <<<"$CUDA_VISIBLE_DEVICES"
  elif command -v nvidia-smi >/dev/null; then
    mapfile -t gpus < <(nvidia-smi --query-gpu=index --format=csv,noheader 2>/dev/null)
  fi
  if ((${#gpus[@]} && count > ${#gpus[@]})); then
    refuse "$count processes for ${#gpus[@]} GPUs: start fewer, or without any: CUDA_VISIBLE_DEVICES="
  fi
}

start() {
  local number out err address
  address=127.0.0.1:$(free_port)
  writers=()
  for ((number = 0; number < count; number++)); do
    exec {out}> >(label "$number")
    writers+=($!)
    exec {err}> >(label "$number" >&2)
    writers+=($!)
    run "$number" "$address" "$@" </dev/null >&"$out" 2>&"$err" {out}>&- {err}>&- &
    processes[$!]=$number
    exec {out}>&- {err}>&-
  done
  if [[ -n $told ]]; then send TERM; fi  # A signal arrived while they started.
}

run() {
  export JAX_PROCESS_ID=$1 JAX_NUM_PROCESSES=$count PYTHONUNBUFFERED=1
  export JAX_COORDINATOR_ADDRESS=$2 JAX_COORDINATOR_BIND_ADDRESS=$2
  if ((count > 1 && ${#gpus[@]})); then export CUDA_VISIBLE_DEVICES=${gpus[$1]}; fi
  trap - INT  # A shell ignores SIGINT in background jobs.
  local orphaned=()
  if setpriv --pdeathsig TERM true 2>/dev/null; then orphaned=(setpriv --pdeathsig TERM); fi
  # In a session of its own, it gets Ctrl-C only through `send`, and its children form a group.
  exec setsid "${orphaned[@]}" "${@:3}"
}

free_port() {
  local port  # Below the range from which the kernel chooses ports itself.
  while port=$((20000 + RANDOM % 12000)) && (: <>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do :; done
  echo "$port"
}

label() {
  trap '' INT TERM HUP  # Otherwise the last lines of the process would be lost.
  local line prefix=""
  if ((count > 1)); then prefix="[$1] "; fi
  while IFS= read -r line || [[ -n $line ]]; do printf '%s%s\n' "$prefix" "$line"; done
}

# Waits until all processes have ended; sets `status`.
await() {
  local pid polls=0 deadline=""
  status=0
  while ((${#processes[@]})); do
    sleep "$POLL_S" & wait $! || :  # Signals interrupt `wait`, not `sleep`; `wait -n` loses some.
    for pid in "${!processes[@]}"; do
      kill -0 "$pid" 2>/dev/null || bury "$pid"
    done
    if ((status)) && [[ -z $told ]]; then  # One has failed: end the others.
      if ((polls++ < 3)); then
        :  # Others may fail in the next moments: their status counts as well.
      elif [[ -z $deadline ]]; then
        deadline=$((SECONDS + GRACE_S))
        send TERM
      elif ((SECONDS >= deadline)); then
        send KILL
      fi
    fi
  done
  if ((status)); then status=${told:-$status}; fi
  wait "${writers[@]}" || :
}

# Removes a process that has ended, and kills the children it left behind.
bury() {
  local code=0
  wait "$1" 2>/dev/null || code=$?
  kill -KILL -- "-$1" 2>/dev/null || :
  if ((code)); then
    echo "local.sh: process ${processes[$1]} ended with status $code" >&2
    if ((!status || code == 2)) || [[ $status == 134 && -z $deadline ]]; then status=$code; fi
    # Somebody else stopped this process: the others stop at the same step.
    if ((code == 130 || code == 143)) && [[ -z $told$deadline ]]; then
      told=$code
      send TERM
    fi
  fi
  unset "processes[$1]"
}

send() {
  local pid
  for pid in "${!processes[@]}"; do kill "-$1" "$pid" 2>/dev/null || :; done
}

main "$@"
