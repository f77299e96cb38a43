#!/usr/bin/env bash
# Everything that README is to say of a GPU, in one call:
#
#     benchmarks/gpu.sh RESULTS [PAINTINGS]
#
# RESULTS is the folder, not there yet, for the JSON files. PAINTINGS, <artist>/<any image>, is for
# the training at 224 pixels, which is left out without it. Python is the one on the PATH, with
# painterjax[cuda] and PyTorch for CUDA.
set -euo pipefail
results=$1 paintings=${2:-}
mkdir "$results"
export XLA_PYTHON_CLIENT_PREALLOCATE=false  # PyTorch shares the card.

systems=(painterjax pytorch_eager pytorch_compiled)
for dtype in float32 bfloat16; do
  for batch_size in 8 32 128; do
    python -m benchmarks.speed --image-size 256 --batch-sizes $batch_size --dtypes $dtype \
      --systems "${systems[@]}" --rounds 3 --seconds 3 \
      --json "$results/gpu-speed-$dtype-$batch_size.json"
  done
  for system in "${systems[@]}"; do  # What fills the card, each has for itself.
    python -m benchmarks.speed --image-size 256 --batch-sizes 256 512 1024 --dtypes $dtype \
      --systems "$system" --rounds 3 --seconds 3 --json "$results/gpu-speed-$dtype-$system.json"
  done
done
python -m benchmarks.loading --json "$results/gpu-loading.json"
python -m benchmarks.layers --image-size 256 --images 384 --dtype bfloat16 \
  --json "$results/gpu-layers.json"

reference=(--config configs/painter_by_numbers.py --image-size 256 --config.model.dtype=bfloat16)
for batch_size in 8 128; do
  for residency in device host; do
    python -m painterjax.benchmark "${reference[@]}" --config.batch_size=$batch_size \
      --config.data.residency=$residency --json "$results/gpu-$residency-$batch_size.json"
  done
done
python -m painterjax.benchmark "${reference[@]}" --config.steps_per_dispatch=5 \
  --json "$results/gpu-dispatch-5.json" --profile "$results/gpu-trace"

if [[ -n $paintings ]]; then
  python -m painterjax.prepare folder --input "$paintings" --output "$results/store" --image-size 256
  python -m painterjax.train --config configs/throughput.py --workdir "$results/run" \
    --config.data.store="$results/store" --config.augmentation.crop=224 \
    --config.model.dtype=bfloat16
  cp "$results/run/evaluation.json" "$results/gpu-throughput-224.json"
fi
