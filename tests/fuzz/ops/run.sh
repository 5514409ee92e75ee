#!/usr/bin/env bash
# Fuzzes the built-in ops: their attributes, element types, shapes and values, under libFuzzer with the address and
# undefined-behaviour sanitizers. Arguments: seconds (60 by default), folder with cmake and ninja (optional).
# Skips, with the reason, where clang is missing. Findings and their inputs stay in build/fuzz-ops/; the seed is fixed,
# so that a run can be repeated.
set -euo pipefail
cd "$(dirname "$0")/../../.."
seconds=${1:-60}
bin=$(cd "${2:-/nonexistent}" 2>/dev/null && pwd || true)  # cmake calls ninja from a folder of its own
out=build/fuzz-ops
mkdir -p "$out/corpus" "$out/findings"
for version in "" -19 -18 -17 -16 -15; do
  clang=$(command -v "clang++$version" || true)
  if [ -n "$clang" ] && echo 'extern "C" int LLVMFuzzerTestOneInput(const unsigned char*, long) { return 0; }' |
    "$clang" -x c++ -std=c++20 -fsanitize=fuzzer,address - -o "$out/probe" 2>/dev/null; then break; fi
  clang=""
done
if [ -z "$clang" ]; then
  echo "fuzzing of ops skipped: no clang++ with libFuzzer (Debian: clang-16 libclang-rt-16-dev)" >&2
  exit 0
fi
cmake=$(command -v "$bin/cmake" || command -v cmake) || { echo "fuzzing of ops skipped: no cmake" >&2; exit 0; }
ninja=$(command -v "$bin/ninja" || command -v ninja || true)
"$cmake" -S . -B "$out" ${ninja:+-G Ninja "-DCMAKE_MAKE_PROGRAM=$ninja"} "-DCMAKE_CXX_COMPILER=$clang" -DZEROLANE_FUZZ=ON \
  -DZEROLANE_CUDA=OFF "-DZEROLANE_SANITIZE=address,undefined" -DCMAKE_BUILD_TYPE=Release -DCMAKE_UNITY_BUILD=ON >"$out.log" 2>&1 ||
  { cat "$out.log"; exit 1; }
"$cmake" --build "$out" --parallel "$(nproc)" >"$out.log" 2>&1 || { cat "$out.log"; exit 1; }
export ZEROLANE_FUZZ_OPS="$out/cpp/ops/libzerolane_ops.so"
export ASAN_OPTIONS=allocator_may_return_null=1:detect_leaks=1 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
# One process for each instruction set: they have loops of their own.
status=0
pids=()
for isa in baseline avx2 avx512; do
  ZEROLANE_ISA=$isa "$out/tests/fuzz/ops/zerolane_fuzz_ops" "-max_total_time=$seconds" -max_len=512 -seed=1 -timeout=20 \
    -rss_limit_mb=4096 "-artifact_prefix=$out/findings/$isa-" -print_final_stats=1 "$out/corpus" \
    >"$out/$isa.log" 2>&1 &
  pids+=($!)
done
for isa in baseline avx2 avx512; do
  wait "${pids[0]}" || { status=1; echo "fuzzing of ops: a finding ($isa):" >&2; tail -n 60 "$out/$isa.log" >&2; }
  pids=("${pids[@]:1}")
  echo "fuzzing of ops ($isa): $(sed -n 's/.*stat::number_of_executed_units: *//p' "$out/$isa.log") calls" >&2
done
exit $status
