#!/usr/bin/env bash
# bench/run.sh BENCH-BINARY WEIR [NAME...]: runs the benchmarks; JSON lines on stdout.
set -eu
bench=$1
shift 2
exec "$bench" "$@"
