#!/usr/bin/env bash
# On a machine with an NVIDIA GPU: builds with CUDA, tests the kernels against the CPU and under compute-sanitizer,
# measures them beside the official ones, trains the quickstart's first steps beside the CPU and the paper's model with
# random weights (80 GB), and writes one page into docs/results/.
#
#   scripts/gpu_check.sh [--mamba FOLDER] [--causal-conv1d FOLDER] [--vmamba FOLDER] [--torch FOLDER] [--quick]
#
# --mamba, --causal-conv1d, --vmamba   checkouts of the official projects with their extensions built, to measure
#                                      beside; without them, what is installed in this Python is taken
# --torch    LibTorch to build with: a folder with include/ and lib/ (default: .deps/torch, else python3's torch)
# --quick    a tenth of a second for each measurement, and no compute-sanitizer
#
# Needs nvcc 13, cmake, ninja and g++. The other libraries come from the system, or from .bundle/ where it was carried
# along (scripts/setup.sh --bundle makes it). Without a GPU it only says so.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

torch='' seconds=1 quick=no peers=()
arguments="$*"
while [[ $# -gt 0 ]]; do
  case $1 in
    --mamba | --causal-conv1d | --vmamba) peers+=("$1" "$2"); shift 2 ;;
    --torch) torch=$2; shift 2 ;;
    --quick) quick=yes seconds=0.1; shift ;;
    *) sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0" >&2; exit 2 ;;
  esac
done

if ! nvidia-smi >/dev/null 2>&1; then
  echo "gpu_check: no NVIDIA GPU here (nvidia-smi does not answer). scripts/test.sh tests the same CUDA kernels, emulated." >&2
  exit 2
fi

command -v nvcc >/dev/null || export PATH=/usr/local/cuda/bin:$PATH

# --- build ---------------------------------------------------------------------------------------
python=python3
[[ ! -x .deps/python/bin/python ]] || python=.deps/python/bin/python
if [[ -z $torch ]]; then
  torch=$PWD/.deps/torch
  [[ -e $torch/lib/libtorch_cuda.so ]] || torch=$($python -c 'import os, torch; print(os.path.dirname(torch.__file__))')
fi
options=(-DVLMAMBA_TORCH_ROOT="$torch" -DVLMAMBA_TESTS=ON -DVLMAMBA_EXAMPLES=OFF)
[[ ! -d .bundle ]] || options+=(-DCMAKE_PREFIX_PATH="$PWD/.bundle/usr")
command -v ccache >/dev/null || options+=(-DCMAKE_CXX_COMPILER_LAUNCHER= -DCMAKE_CUDA_COMPILER_LAUNCHER=)
command -v mold >/dev/null || options+=(-DCMAKE_EXE_LINKER_FLAGS= -DCMAKE_SHARED_LINKER_FLAGS=)
cmake --preset cuda-release "${options[@]}"
cmake --build --preset cuda-release
bin=build/cuda-release/bin

# --- correct, then fast --------------------------------------------------------------------------
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
status=0
run() {  # title command...: its output goes to the page as well
  local title=$1 rc=0
  shift
  echo "gpu_check: $title"
  "$@" 2>&1 | tee "$work/output.txt" || rc=$?
  { printf '\n## %s\n\n    %s\n\n```\n' "$title" "$*"; cat "$work/output.txt"; printf '```\n'; } >>"$work/page.md"
  return "$rc"
}

device=$(nvidia-smi --query-gpu=name --format=csv,noheader | head -1)
page=docs/results/gpu_$(tr -cs 'a-zA-Z0-9' _ <<<"$device" | sed 's/_*$//' | tr '[:upper:]' '[:lower:]').md
{
  echo "# Kernels and training on one $device"
  echo
  echo "Made by \`scripts/gpu_check.sh $arguments\`, $(date -u +%Y-%m-%d), commit $(git rev-parse --short HEAD 2>/dev/null || echo unknown):"
  echo "driver $(nvidia-smi --query-gpu=driver_version --format=csv,noheader | head -1), $(nvcc --version | tail -2 | head -1)," \
    "$("$bin/vlmamba" --version)."
} >"$work/page.md"

run 'Correct: the kernels against the CPU' ctest --preset cuda-release -L gpu --output-on-failure || status=1
run 'Correct: random calls against fp64' "$bin/oracle_grid" --device cuda --cases 500 || status=1
if [[ $quick == no ]] && command -v compute-sanitizer >/dev/null; then
  # Each tensor by an allocation of its own, else what is read beyond its end is another's; graphs need the cache.
  sanitized=(--error-exitcode 1 "$bin/gpu_test" --gtest_filter=-StreamTest.*)
  export PYTORCH_NO_CUDA_MEMORY_CACHING=1
  for tool in memcheck racecheck synccheck; do
    run "Correct: under compute-sanitizer, $tool" compute-sanitizer --tool "$tool" "${sanitized[@]}" || status=1
  done
  unset PYTORCH_NO_CUDA_MEMORY_CACHING
fi
for shapes in lm decode connector vmamba vss; do
  run "Fast: $shapes, bf16" "$bin/vlmamba" bench --device cuda --dtype bf16 --shapes "$shapes" --seconds "$seconds" || status=1
done
run 'Fast: beside the official kernels, bf16, the same run' \
  "$python" bench/peers.py build/cuda-release/lib/libvlmamba_ops.so --seconds "$seconds" "${peers[@]}" || status=1
run 'Training: first steps beside the CPU, and the real size in bf16' \
  "$python" bench/gpu_training.py "$bin/vlmamba" || status=1

mkdir -p docs/results
cp "$work/page.md" "$page"
echo "gpu_check: wrote $page"
exit "$status"
