#!/usr/bin/env bash
# From nothing to an answered question: sets up, builds, makes digit scenes from real handwriting, trains a small
# VL-Mamba in stages, evaluates it on scenes of unseen digits, and asks it about one picture.
#
#   scripts/quickstart.sh [--seed N] [--run FOLDER]
#
# Needs about 10 minutes on 2 cores after the build. FOLDER (default runs/quickstart) must not exist yet.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

seed=1 run=runs/quickstart
while [[ $# -gt 0 ]]; do
  case $1 in
    --seed) seed=$2; shift 2 ;;
    --run) run=$2; shift 2 ;;
    *) sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0" >&2; exit 2 ;;
  esac
done

if [[ -e $run ]]; then
  echo "quickstart: $run exists already: choose another with --run, or continue it with vlmamba train --resume $run" >&2
  exit 2
fi
scripts/setup.sh --cpu
cmake --preset cpu-release -DVLMAMBA_TESTS=OFF
cmake --build --preset cpu-release
bin=build/cpu-release/bin
start=$SECONDS

$bin/make_digit_scenes --digits .deps/digits/digits.csv --output "$run.data" --seed "$seed"
$bin/teach_encoder --digits .deps/digits/digits.csv --config configs/quickstart.json \
  --output "$run.encoder.safetensors" --seed "$seed"
$bin/vlmamba train --config configs/quickstart.json --set seed="$seed" --set output_dir="$run" \
  --set data_root="$run.data" --set model.vision_encoder.pretrained="$run.encoder.safetensors"
$bin/vlmamba evaluate --checkpoint "$run"
picture=$run.data/evaluation/images/00000.png
$bin/vlmamba generate --checkpoint "$run" --image "$picture" --show --prompt 'what is in the center?'
echo "quickstart: $((SECONDS - start)) s after the build; the run is in $run"
