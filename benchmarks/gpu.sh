#!/usr/bin/env bash
# Measures on a GPU what docs/performance.md and docs/guarantees.md lack, in one call:
#
#     benchmarks/gpu.sh RESULTS [PAINTINGS]
#
# RESULTS is the folder, not there yet, for the JSON files. PAINTINGS, <artist>/<any image>, is for
# the training at 224 pixels, which is left out without it. Python is the one on the PATH, with
# painterjax[cuda] and PyTorch for CUDA. A part that fails is listed in RESULTS/failed.txt, and the
# others go on; with any such part the status is 1. In small, as on a CPU to try the script:
#
#     IMAGE_SIZE=32 BATCH_SIZES=1 LARGE_BATCH_SIZES=2 LARGE_IMAGES=16 CHUNK_IMAGES=8 IMAGES=2 \
#         TURN_S=0.2 EPOCHS=1 benchmarks/gpu.sh RESULTS
set -euo pipefail
results=$1 paintings=${2:-}
size=${IMAGE_SIZE:-256} tuned_size=${IMAGE_SIZE:-224} seconds=${TURN_S:-3} epochs=${EPOCHS:-10}
read -ra batch_sizes <<<"${BATCH_SIZES:-8 32 128}"
read -ra large_batch_sizes <<<"${LARGE_BATCH_SIZES:-256 512 1024}"
mkdir "$results"
export XLA_PYTHON_CLIENT_PREALLOCATE=false  # PyTorch shares the card.

trap 'exit 130' INT
part() {
  "$@" || echo "$*" >>"$results/failed.txt"
}

systems=(painterjax pytorch_eager pytorch_compiled)
part python -m benchmarks.speed --recipe finetuned --image-size "$tuned_size" --batch-sizes 64 \
  --dtypes float32 bfloat16 --systems "${systems[@]}" --rounds 3 --seconds "$seconds" \
  --json "$results/gpu-speed-finetuned.json"
part python -m benchmarks.backbones --image-sizes "$tuned_size" --dtype bfloat16 \
  --json "$results/gpu-backbones.json"
for dtype in float32 bfloat16; do
  for batch_size in "${batch_sizes[@]}"; do
    part python -m benchmarks.speed --image-size "$size" --batch-sizes "$batch_size" \
      --dtypes $dtype --systems "${systems[@]}" --rounds 3 --seconds "$seconds" \
      --json "$results/gpu-speed-$dtype-$batch_size.json"
  done
  # What fills the card, each system has for itself.
  part python -m benchmarks.speed --image-size "$size" --batch-sizes "${large_batch_sizes[@]}" \
    --dtypes $dtype --systems "${systems[@]}" --rounds 3 --seconds "$seconds" --alone \
    --json "$results/gpu-speed-$dtype-large.json"
done
part python -m benchmarks.loading --image-size "$size" --json "$results/gpu-loading.json"
part python -m benchmarks.layers --image-size "$size" --images "${IMAGES:-384}" --dtype bfloat16 \
  --json "$results/gpu-layers.json"
part python -m benchmarks.scaling --image-size "$size" --batch-size "${batch_sizes[-1]}" \
  --dtype bfloat16 --json "$results/gpu-scaling.json"

reference=(--config configs/painter_by_numbers.py --image-size "$size")
reference+=(--config.model.dtype=bfloat16)
for batch_size in "${batch_sizes[0]}" "${batch_sizes[-1]}"; do
  for residency in device host; do
    part python -m painterjax.benchmark "${reference[@]}" --config.batch_size="$batch_size" \
      --config.data.residency=$residency --json "$results/gpu-$residency-$batch_size.json"
  done
done
part python -m painterjax.benchmark "${reference[@]}" --config.batch_size="${batch_sizes[0]}" \
  --config.steps_per_dispatch=5 --json "$results/gpu-dispatch-5.json" --profile "$results/gpu-trace"

part python -m benchmarks.batches --images "${LARGE_IMAGES:-8192}" --chunk "${CHUNK_IMAGES:-256}" \
  --backbone conv_blocks --image-size "$size" --dtype bfloat16 --json "$results/gpu-batches.json"
part python -m benchmarks.judging --json "$results/gpu-judging.json"

# What is the same bit for bit, with which flags, and what that costs a step.
for dtype in float32 bfloat16; do
  part python -m benchmarks.determinism --output "$results/determinism-$dtype" \
    --json "$results/gpu-determinism-$dtype.json" --image-size "$size" \
    --config.model.dtype=$dtype --config.num_epochs="$epochs"
done

if [[ -n $paintings ]]; then
  part python -m benchmarks.pretrained --images "$paintings" --data "$results/data" \
    --recipe finetuned --sizes 224 --dtype bfloat16 --systems painterjax \
    --json "$results/gpu-finetuned.json"
fi
if [[ -e $results/failed.txt ]]; then
  echo "failed:"
  cat "$results/failed.txt"
  exit 1
fi
