#!/usr/bin/env bash
# Sets up, builds with warnings as errors, and runs the tests. With a CUDA toolkit 13 the GPU kernels are built too;
# their tests skip where there is no GPU, and run on the CPU, emulated, everywhere.
#
#   scripts/test.sh [--cpu] [--all] [ctest options]
#
# --cpu      without CUDA, even if there is a toolkit
# --all      the slow tests too (the whole quickstart)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

setup=() exclude=(--label-exclude slow)
while [[ ${1:-} == --cpu || ${1:-} == --all ]]; do
  if [[ $1 == --cpu ]]; then setup=(--cpu); else exclude=(); fi
  shift
done

# The line that names the mode also names the toolkit, whose compiler need not be on PATH.
said=$(scripts/setup.sh "${setup[@]}" | tee /dev/stderr)
preset=cpu-release
if [[ $said =~ 'mode cuda, CUDA toolkit '(/[^[:space:]]+) ]]; then
  preset=cuda-release
  export CUDACXX=${BASH_REMATCH[1]}/bin/nvcc
fi

cmake --preset "$preset" -DVLMAMBA_WERROR=ON -DVLMAMBA_TESTS=ON
cmake --build --preset "$preset"
ctest --preset "$preset" "${exclude[@]}" "$@"
