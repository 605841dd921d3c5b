#!/usr/bin/env bash
# Checks and timings on a machine with CUDA, in at most nine minutes: benchmarks/gpu.sh [--out FOLDER] [--cpu]
# Writes results.json, results.md and log.txt. Uses the Python in PYTHON (default python3) with its own torch, and what
# benchmarks/pack.sh has packed, if that Python is a 3.12. --cpu runs every line on two cores at the smallest sizes.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-python3}
site=$(mktemp -d)
trap 'rm -rf "$site"' EXIT
if [ "$("$python" -c 'import sys; print(*sys.version_info[:2], sep=".")')" = 3.12 ]; then
  for wheel in "$root"/benchmarks/packed/wheels/*.whl; do
    if [ -e "$wheel" ]; then "$python" -m zipfile -e "$wheel" "$site"; fi  # needs neither pip nor venv
  done
fi
export PYTHONPATH=$root:$site PYTHONDONTWRITEBYTECODE=1 OMP_WAIT_POLICY=PASSIVE GOMP_SPINCOUNT=20000 NO_ALBUMENTATIONS_UPDATE=1
"$python" -c 'import torch, numpy, scipy, cv2, PIL, pandas, pydantic, yaml, albumentations, safetensors, psutil, pytest'
timeout --kill-after=10 $((540 - SECONDS)) "$python" -m benchmarks.gpu "$@"
