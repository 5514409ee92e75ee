#!/bin/sh
# Builds zerolane on an offline machine with a GPU, tests it there and measures it: see bench/gpu/README.md.
set -eu
cd "$(dirname "$0")/../.."
exec "${PYTHON:-python3}" -m bench.gpu.run "$@"
