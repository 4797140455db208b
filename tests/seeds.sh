#!/usr/bin/env bash
# Random inputs beyond the fixed ones of `make test`: every test whose file draws from test_seed(), under N seeds.
#   tests/seeds.sh [N = 20] [FIRST = now] [WEIR_TEST = build/release/weir-test]
# Prints each failure with the seed that repeats it; exits 1 when there was one.
set -u
cd "$(dirname "$0")/.." || exit 1
n=${1:-20} first=${2:-$(date +%s)} bin=${3:-build/release/weir-test} rc=0
mapfile -t files < <(grep -rlE 'test_seed|op_execute|op_check' tests --include='*_test.c' | sort)
for ((s = first; s < first + n; s++)); do
    for f in "${files[@]}"; do
        out=$("$bin" --filter "$f" --seed "$s" 2>&1) || {
            rc=1
            echo "seed $s:"
            grep -B2 '^FAIL' <<<"$out"
        }
    done
done
echo "$n seeds from $first over ${#files[@]} files: exit $rc"
exit $rc
