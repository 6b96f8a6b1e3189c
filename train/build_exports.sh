#!/usr/bin/env bash
# Trains every technique with the native recipe on the field corpus and puts the exports that ship into exports/.
# usage: train/build_exports.sh CORPUS [RUN]     under an hour on two cores; run it again to go on where it stopped
set -euo pipefail
corpus=$1
run=${2:-runs/native}
cd "$(dirname "$0")/.."

# What is quoted of them: each image judged by a model of the same kind that never saw its source
genforensic evaluate --leave-out source --data "$corpus" --technique all --set stable=true --seed 0 --robustness \
  --output "$run/left-out"

# What ships is trained on every image
for technique in discriminant weighted baseline adversarial; do
  stable=()
  if [ "$technique" = adversarial ]; then stable=(--set stable=true); fi
  genforensic train --technique "$technique" --recipe native --data "$corpus" --seed 0 "${stable[@]}" \
    --calibrate "$run/left-out" --output "$run/everything" --resume
done

# `finetune` needs images that its start did not see: it adapts to four fifths of these sources' images
unseen=(
  CompVis/taming-transformers@3ba01b2416
  bento170502/stable-diffusion@8cb7a688af
  dakshces/FourierImageDiffuse@dac8cd5649
  emanuelebeozzo/stylegan3-perceptual-test@633c73266a
  jychoi118/ilvr_adm@9b84f264f8
  xinyiff/Project-on-StyleGAN@bf649bed48
)
for technique in baseline finetune; do
  genforensic train --technique "$technique" --recipe native --data "$corpus" --seed 0 \
    "${unseen[@]/#/--holdout=source=}" --calibrate "$run/left-out" --output "$run/adapted" --resume
done

genforensic merge "$run"/everything/exports/native-*.onnx "$run"/adapted/exports/native-finetune.onnx \
  --output exports/native.onnx --force
