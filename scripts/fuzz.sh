#!/usr/bin/env bash
# Builds the fuzz targets of every parser with clang's sanitizers and runs each of them; a finding ends it with its input.
#
#   scripts/fuzz.sh [SECONDS | --runs N] [TARGET…]
#
# SECONDS    for each target, default 60
# --runs N   N executions of each target from a fixed seed: the same ones each time
# TARGET     config, image, index, pickle, records, safetensors, text, tokenizer, torch_file; default all
#
# What is learnt is kept in build/fuzz/corpus and used the next time; findings are in build/fuzz/findings.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

limits=(-max_total_time="${1:-60}") number=${1:-60}
if [[ $number == --runs ]]; then
  number=${2:-}
  limits=(-runs="$number" -seed=1)
  shift
fi
[[ $number =~ ^[0-9]+$ ]] || { sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0" >&2; exit 2; }
targets=("${@:2}")
[[ ${#targets[@]} -gt 0 ]] || targets=(config image index pickle records safetensors text tokenizer torch_file)

build=build/fuzz
cmake -S tests/fuzz -B "$build" -G Ninja -DCMAKE_CXX_COMPILER=clang++-14 -DCMAKE_CXX_COMPILER_LAUNCHER=ccache >/dev/null
cmake --build "$build"
"$build/bin/fuzz_seeds" "$build/seeds"
mkdir -p "$build/findings"

total=0
for target in "${targets[@]}"; do
  mkdir -p "$build/corpus/$target"
  log=$build/$target.log
  "$build/bin/fuzz_$target" "${limits[@]}" -max_len=4096 -timeout=25 -rss_limit_mb=3000 \
    -artifact_prefix="$build/findings/$target-" -print_final_stats=1 \
    "$build/corpus/$target" "$build/seeds/$target" >"$log" 2>&1 || { tail -40 "$log" >&2; echo "fuzz: $target has a finding, see $log" >&2; exit 1; }
  executed=$(awk '/number_of_executed_units/ {print $2}' "$log")
  printf 'fuzz: %-12s %12d executions\n' "$target" "$executed"
  total=$((total + executed))
done
echo "fuzz: $total executions, no finding"
