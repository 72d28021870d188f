#!/usr/bin/env bash
# All that needs a GPU, in under ten minutes, into one folder: benchmarks/gpu_suite.sh [FOLDER]
#
# Checks the GPU graph against the CPU graph, trains each stage in bf16 and fp16 and sees the loss fall, measures
# loaders, batch sizes, precisions, compile modes and the reference way, and writes a trace of the default training (for Perfetto). Each step has
# a log and a time limit; one that fails does not stop the rest. Without a GPU the same steps run small, and what is
# skipped says so.
# PYTHON chooses the interpreter.
set -uo pipefail
cd "$(dirname "$0")/.."
OUT=$(realpath -m "${1:-runs/gpu_suite}")
PYTHON=${PYTHON:-$([ -x .venv/bin/python ] && echo .venv/bin/python || echo python3)}
failed=0
mkdir -p "$OUT/logs"
: >"$OUT/steps.txt"

say() { printf '%-34s %s\n' "$1" "$2" | tee -a "$OUT/steps.txt"; }

# step NAME SECONDS COMMAND...
step() {
  local name=$1 limit=$2 began=$SECONDS status
  shift 2
  timeout "$limit" "$@" >"$OUT/logs/$name.log" 2>&1 && status=0 || status=$?
  case $status in
    0) say "$name" "done, $((SECONDS - began)) s" ;;
    124) say "$name" "FAILED: not done within $limit s" ; failed=1 ;;
    *) say "$name" "FAILED, status $status: $(tail -n 1 "$OUT/logs/$name.log")" ; failed=1 ;;
  esac
  return $status
}

# train STAGE PRECISION: the loss on frames that training does not see must fall
train() {
  local run="$OUT/runs/$1-$2"
  rm -rf "$run"
  step "train-$1-$2" 120 "$PYTHON" engine/train.py --stage "$1" --data.shards "$OUT/shards" --run-dir "$run" \
    --precision "$2" --model.backbone "$BACKBONE" --data.batch-size "$BATCH" --max-steps "$STEPS" --epochs 100000 \
    --validate-every 100000 --log-every 10 --optim.lr 0.0003 || return
  "$PYTHON" - "$run/summary.json" <<'EOF' | tee -a "$OUT/steps.txt" || failed=1
import json, sys
run = json.load(open(sys.argv[1]))
first, last = run["first_validation"]["loss"], run["last_validation"]["loss"]
fell = "" if last < first else ": DID NOT FALL"
print(f"  loss {first:.4g} -> {last:.4g}{fell}, {run['images_per_second']:.0f} images/s")
sys.exit(bool(fell))
EOF
}

if "$PYTHON" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
  GPU=yes FRAMES=128 SIZE=368 BACKBONE=resnet50 BACKBONES="resnet50 resnet101" BATCH=64 BATCHES="64 256" STEPS=150 LENGTH=2
  nvidia-smi >"$OUT/nvidia-smi.txt"
else
  GPU="" FRAMES=8 SIZE=64 BACKBONE=resnet18 BACKBONES=resnet18 BATCH=8 BATCHES=4 STEPS=20 LENGTH=0.2
  say "no GPU" "the same steps, small, on the CPU: their numbers mean nothing"
fi

rm -rf "$OUT/dataset" "$OUT/shards"
step synthesize 120 "$PYTHON" -m tools.synthesize --output "$OUT/dataset" --frames-per-subject "$FRAMES" \
  --eval-frames 8 --train-subjects 4 --test-subjects 1 --modalities rgba json || exit 1
step shard 60 "$PYTHON" -m tools.shard --dataset "$OUT/dataset" --output "$OUT/shards" --components rgba json \
  --image-size "$SIZE" --samples-per-shard 64 || exit 1

if [ "$GPU" ]; then
  step gpu-graph-agrees 120 "$PYTHON" -m pytest -q tests/loaders/test_gpu.py
else
  say gpu-graph-agrees "skipped: no GPU"
fi

for stage in train2d train3d finetune; do
  train "$stage" bf16
  if [ "$GPU" ]; then train "$stage" fp16; else say "train-$stage-fp16" "skipped: no GPU"; fi
done

# rates NAME SECONDS FLAGS...: of training, from shards, from a cached batch, and the reference way
rates() {
  local name=$1 limit=$2
  shift 2
  # shellcheck disable=SC2086  # a list of words
  step "$name" "$limit" "$PYTHON" -m benchmarks.training --shards "$OUT/shards" --backbones $BACKBONES --image-size "$SIZE" \
    --repetitions 1 --seconds "$LENGTH" --warmup "$LENGTH" --steps 3 --output "$OUT/$name" "$@"
}

rates rates 200 --dataset "$OUT/dataset" --batch-size "$((2 * BATCH))" --precisions bf16
for size in $BATCHES; do
  rates "rates-batch-$size" 60 --stages train2d --batch-size "$size" --precisions bf16
done
if [ "$GPU" ]; then
  rates rates-fp16 60 --stages train2d --batch-size "$((2 * BATCH))" --precisions fp16
else
  say rates-fp16 "skipped: no GPU"
fi
rates rates-compile 150 --stages train2d --batch-size "$((2 * BATCH))" --precisions bf16 --compile default
step loaders 120 "$PYTHON" -m benchmarks.loader --shards "$OUT/shards" --dataset "$OUT/dataset" --batch-size "$BATCH" \
  --repetitions 1 --seconds "$LENGTH" --warmup "$LENGTH" --output "$OUT/loaders"
rm -rf "$OUT/runs/profile"
step profile 60 "$PYTHON" engine/train.py --config configs/train2d.yaml --data.shards "$OUT/shards" \
  --run-dir "$OUT/runs/profile" --model.backbone "$BACKBONE" --data.image-size "$SIZE" --data.batch-size "$BATCH" \
  --max-steps 20 --profile

say "total" "$SECONDS s; everything is in $OUT"
exit $failed
