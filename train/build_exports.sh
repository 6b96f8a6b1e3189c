#!/usr/bin/env bash
# Trains the four techniques with the native recipe on the field corpus and puts the exports that ship into exports/.
# usage: train/build_exports.sh CORPUS [RUN]     about an hour on two cores; run it again to go on where it stopped
set -euo pipefail
corpus=$1
run=${2:-runs/native}
cd "$(dirname "$0")/.."

# About one source of each generator stays unseen; taming_transformers has one source only and gives a fifth of its
# groups. `finetune` adapts to four fifths of these unseen images and is tested, as all are, on the last fifth.
unseen=(
  CompVis/taming-transformers@3ba01b2416
  bento170502/stable-diffusion@8cb7a688af
  dakshces/FourierImageDiffuse@dac8cd5649
  emanuelebeozzo/stylegan3-perceptual-test@633c73266a
  jychoi118/ilvr_adm@9b84f264f8
  xinyiff/Project-on-StyleGAN@bf649bed48
)
genforensic train --technique all --recipe native --data "$corpus" --seed 0 --set stable=true \
  "${unseen[@]/#/--holdout=source=}" --output "$run" --resume
mkdir -p exports
cp "$run"/exports/native-*.onnx "$run"/exports/native-*.md exports/
