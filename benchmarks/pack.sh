#!/usr/bin/env bash
# Packs wheels and images for benchmarks/gpu.sh into benchmarks/packed/, at most 60 MB:
# benchmarks/pack.sh <raw folder of HC18> <raw folder of LGG>. Uses the Python in PYTHON (default: that of .venv).
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
PYTHONPATH=$root exec "${PYTHON:-$root/.venv/bin/python}" -m benchmarks.packing "$@"
