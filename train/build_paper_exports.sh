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

# One fold of three holds out whole sources. Of its images a fifth calibrates (val), three fifths are for `finetune` to adapt
# to, a fifth is tested on, and nothing that shares a group is on two sides
mkdir -p "$run"
python - "$corpus" "$run/manifest.csv" << 'EOF'
import sys
from dataclasses import replace
from pathlib import Path

from forensic_train.leave_out import fold_splits
from forensic_train.manifest import components, read_manifest, with_hashes, write_rows

rows = with_hashes(read_manifest(Path(sys.argv[1])))
parts = components(rows)
order = {part: i for i, part in enumerate(sorted(set(parts)))}
split = fold_splits(rows, "source", 3, adapting=True)[0]
held = [row.split == "adapt" and order[part] % 5 == 1 for row, part in zip(split, parts, strict=True)]
write_rows(Path(sys.argv[2]), [replace(row, split="val") if h else row for row, h in zip(split, held, strict=True)])
EOF
genforensic train --data "$run/manifest.csv" --technique all --recipe paper --seed 0 \
  "${settings[@]}" --set baseline.epochs=10 --set weighted.epochs=5 --set adversarial.epochs=3 \
  --set adversarial.stable=true --set discriminant.epochs=1 --output "$run/trained" --resume

# Exit code 4: some are refused, because int8 changes what they say
genforensic export "$run/trained" --int8 --output "$run/int8" || [ $? = 4 ]

# `finetune` has the baseline's encoder: one file holds it once for both
genforensic merge "$run"/int8/paper-{baseline,finetune}.onnx --output exports/paper-baseline-finetune.onnx --force
