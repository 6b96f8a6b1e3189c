#!/usr/bin/env bash
# Trains every technique with the native recipe on a corpus and writes the exports that ship to exports/.
# usage: train/build_exports.sh MANIFEST [RUN]     about two hours on two cores; run it again to continue
#
# MANIFEST: that of `genforensic corpus train/sources.tsv`, with the rows of train/make_graphics.py added.
set -euo pipefail
manifest=$1
run=${2:-runs/native}
cd "$(dirname "$0")/.."
settings=(--recipe native --seed 0 --set adversarial.stable=true --signals "$run")

# Cross-fitting, for thresholds and figures: each image is judged by a model that never saw its source
genforensic evaluate --leave-out source --folds 4 --data "$manifest" --technique all "${settings[@]}" \
  --output "$run/left-out"

# The shipped models are trained on every image
for technique in discriminant weighted baseline adversarial; do
  set=()
  if [ "$technique" = adversarial ]; then set=(--set stable=true); fi
  genforensic train --technique "$technique" --recipe native --data "$manifest" --seed 0 "${set[@]}" \
    --calibrate "$run/left-out" --signals "$run" --output "$run/everything" --resume
done

# `finetune` needs images that its baseline did not see, so the shipped one is that of the first fold, adapted to half of
# the sources that the fold held out
genforensic export "$run/left-out/fold-0" --technique finetune --calibrate "$run/left-out" --output "$run/adapted"

genforensic merge "$run"/everything/exports/native-*.onnx "$run/adapted/native-finetune.onnx" \
  --output exports/native.onnx --force
