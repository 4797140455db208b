#!/usr/bin/env bash
# bench/run.sh BENCH-BINARY WEIR [NAME...]: runs the benchmarks; JSON lines on stdout. PyTorch is compared with where
# BENCH_PYTHON, or else python3, has torch and transformers.
set -eu
bench=$(realpath "$1")
weir=$(realpath "$2")
shift 2
cd "$(dirname "$0")/.."
python=${BENCH_PYTHON:-python3}
if "$python" -c 'import torch, transformers' >/dev/null 2>&1; then
    exec "$bench" --weir "$weir" --python "$python" "$@"
fi
echo "bench: $python has no torch and transformers: no comparison with PyTorch" >&2
exec "$bench" --weir "$weir" "$@"
