#!/usr/bin/env bash
# Trains the paper's recipe (ResNet-50 on whole images) on two thirds of the field corpus' sources and puts its exports,
# in int8, into exports/.
# usage: train/build_paper_exports.sh CORPUS [RUN]     minutes on a GPU, about an hour and a half on two cores with bfloat16;
# run it again to go on where it stopped
set -euo pipefail
corpus=$1
run=${2:-runs/paper}
cd "$(dirname "$0")/.."

# Few epochs, so updates that settle in few: larger batches and one cycle of the rate in place of the paper's constant one
settings=()
for technique in baseline weighted adversarial; do
  settings+=(--set "$technique.batch_size=8" --set "$technique.schedule=onecycle" --set "$technique.clip_norm=2")
done
genforensic evaluate --leave-out source --folds 3 --fold 0 --data "$corpus" --technique all --recipe paper --seed 0 \
  "${settings[@]}" --set baseline.epochs=10 --set weighted.epochs=5 --set adversarial.epochs=3 \
  --set adversarial.stable=true --set discriminant.epochs=1 --output "$run"

# Exit code 4: some are refused, because int8 changes what they say
genforensic export "$run/fold-0" --calibrate "$run/fold-0" --int8 --output "$run/int8" || [ $? = 4 ]

# `finetune` has the baseline's encoder: one file holds it once for both
genforensic merge "$run"/int8/paper-{baseline,finetune}.onnx --output exports/paper-baseline-finetune.onnx --force
