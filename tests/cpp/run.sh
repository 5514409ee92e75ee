#!/usr/bin/env bash
# Builds and runs the C++ tests under address+undefined, then under the thread sanitizer. As it ships, optimized and
# without sanitizers, the same code is tested from Python; PLAIN=1 tests it in C++ too.
# Argument: folder with cmake and ninja (optional). Skips, with the reason, where doctest is missing.
set -euo pipefail
cd "$(dirname "$0")/../.."
bin=$(cd "${1:-/nonexistent}" 2>/dev/null && pwd || true)
cmake=$(command -v "$bin/cmake" || command -v cmake) || { echo "C++ tests skipped: no cmake" >&2; exit 0; }
ninja=$(command -v "$bin/ninja" || command -v ninja || true)
if ! echo '#include <doctest/doctest.h>' | "${CXX:-g++}" -x c++ -fsyntax-only - 2>/dev/null; then
  echo "C++ tests skipped: doctest is not installed (Debian: doctest-dev)" >&2
  exit 0
fi
mkdir -p build
for sanitize in ${PLAIN:+""} address,undefined thread; do
  build=build/tests-${sanitize:-plain}
  echo "C++ tests (${sanitize:-plain})" >&2
  "$cmake" -S . -B "$build" ${ninja:+-G Ninja "-DCMAKE_MAKE_PROGRAM=$ninja"} -DZEROLANE_TESTS=ON \
    -DZEROLANE_SANITIZE="$sanitize" -DCMAKE_BUILD_TYPE=Release -DCMAKE_UNITY_BUILD=ON >"$build.log" 2>&1 || { cat "$build.log"; exit 1; }
  "$cmake" --build "$build" --parallel "$(nproc)" >"$build.log" 2>&1 || { cat "$build.log"; exit 1; }
  ASAN_OPTIONS=allocator_may_return_null=1 TSAN_OPTIONS=allocator_may_return_null=1 \
    timeout -s ABRT 900 "$build/tests/cpp/zerolane_tests"  # a hang names its test
done
