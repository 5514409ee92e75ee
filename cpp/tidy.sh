#!/usr/bin/env bash
# clang-tidy over the C++ sources, with the compile commands of a fresh configuration.
# Argument: folder of the python, cmake and pybind11 to use.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=$1
mkdir -p build
cmake=$(command -v "$bin/cmake" || command -v cmake)
"$cmake" -S . -B build/tidy -DCMAKE_EXPORT_COMPILE_COMMANDS=ON -DCMAKE_UNITY_BUILD=ON -DCMAKE_UNITY_BUILD_BATCH_SIZE=12 -DPython_EXECUTABLE="$bin/python" \
  -Dpybind11_DIR="$("$bin/python" -m pybind11 --cmakedir)" >build/tidy.log || { cat build/tidy.log; exit 1; }
# Several sources are read as one. A vector source is compiled for each instruction set; reading it once is enough.
"$bin/python" - >build/tidy/files <<'EOF'
import json
path = "build/tidy/compile_commands.json"
once = {entry["file"]: entry for entry in json.load(open(path))}
json.dump(list(once.values()), open(path, "w"))
print(*sorted(once, key=lambda file: "unity" not in file), sep="\n")  # the long ones first
EOF
# Its own count of suppressed warnings goes to stderr, findings to stdout.
xargs -d '\n' -n 1 -P "$(nproc)" clang-tidy -quiet -p build/tidy <build/tidy/files 2>/dev/null
