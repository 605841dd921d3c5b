"""Checks and timings on a GPU in one call of at most nine minutes: benchmarks/gpu.sh."""
