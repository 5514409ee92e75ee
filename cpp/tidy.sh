#!/usr/bin/env bash
# clang-tidy over the C++ sources, with the compile commands of a fresh configuration. Argument: folder of python.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=$1
build=build/tidy
pybind=$("$bin/python" -m pybind11 --cmakedir 2>/dev/null) || {
  echo "pybind11 is not installed: the bindings are skipped by clang-tidy" >&2
  pybind=""
}
cmake=$(command -v "$bin/cmake" || command -v cmake)
"$cmake" -S . -B "$build" -DCMAKE_EXPORT_COMPILE_COMMANDS=ON -DPython_EXECUTABLE="$bin/python" \
  ${pybind:+-Dpybind11_DIR="$pybind"} ${pybind:--DZEROLANE_TESTS=OFF} >/dev/null
find cpp -name '*.cpp' ${pybind:+-print0} | xargs -0 -n 1 -P "$(nproc)" clang-tidy -quiet -p "$build" 2>/dev/null
