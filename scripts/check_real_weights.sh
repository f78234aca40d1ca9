#!/usr/bin/env bash
# Compares published checkpoints in this program with the original Python libraries and prints one table: features,
# logits and continuations, pixels, ids.
#
#   scripts/check_real_weights.sh [--program FILE] [--python FILE] FOLDER…
#
# --program  vlmamba; default that of build/cuda-release or build/cpu-release
# --python   a Python with torch, transformers and pillow; default that of scripts/setup.sh --python
# FOLDER     as the hub has it, downloaded: openai/clip-vit-large-patch14-336, google/siglip-so400m-patch14-384,
#            state-spaces/mamba-2.8b-hf, state-spaces/mamba-2.8b, EleutherAI/pythia-2.8b, …; what lies in it is compared.
#            A language model is held in fp32 twice, one after the other: 12 GB for 2.8 billion parameters.
set -euo pipefail
tree=$(realpath "$(dirname "${BASH_SOURCE[0]}")/..")

program='' python=$tree/.deps/python/bin/python
for build in "$tree"/build/{cuda,cpu}-release; do
  [[ -n $program || ! -x $build/bin/vlmamba ]] || program=$build/bin/vlmamba
done
while [[ ${1:-} == --program || ${1:-} == --python ]]; do
  [[ $# -gt 1 ]] || { echo "check_real_weights: expected a file after $1, got none" >&2; exit 2; }
  if [[ $1 == --program ]]; then program=$2; else python=$2; fi
  shift 2
done
[[ $# -gt 0 && $1 != -* ]] || { sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0" >&2; exit 2; }
for file in "$program" "$python"; do
  [[ -x $file ]] || { echo "check_real_weights: expected a program, got '$file'; scripts/test.sh and scripts/setup.sh --python make both" >&2; exit 2; }
done
exec "$python" "$tree/tests/parity/real_weights.py" "$program" "$@"
