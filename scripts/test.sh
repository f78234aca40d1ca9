#!/usr/bin/env bash
# Sets up, builds with warnings as errors, and runs the tests.
#
#   scripts/test.sh [--all] [ctest options]
#
# --all      the slow tests too (the whole quickstart)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

exclude=(--label-exclude slow)
if [[ ${1:-} == --all ]]; then
  exclude=()
  shift
fi

scripts/setup.sh --cpu
cmake --preset cpu-release -DVLMAMBA_WERROR=ON -DVLMAMBA_TESTS=ON
cmake --build --preset cpu-release
ctest --preset cpu-release "${exclude[@]}" "$@"
