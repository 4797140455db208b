#!/usr/bin/env bash
# Runs fuzzers of one folder from their corpora: tests/fuzz/run.sh FOLDER LIBFUZZER-OPTION... ; NAMES chooses some.
# What is found new goes to FOLDER/corpus/NAME, but not with -runs: those start from the committed corpus alone, so that
# they do the same every time. A crash leaves its input in FOLDER. The last line is the total.
set -u
cd "$(dirname "$0")/../.." || exit 1
dir=$1
shift
passed=0 failed=0
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
for fuzzer in "$dir"/*; do
    name=$(basename "$fuzzer")
    [ -f "tests/fuzz/${name}_fuzz.c" ] || continue
    if [ -n "${NAMES:-}" ] && [[ " $NAMES " != *" $name "* ]]; then continue; fi
    corpus=$dir/corpus/$name
    [[ " $* " == *" -runs="* ]] && corpus=$scratch/$name
    mkdir -p "$corpus"
    seeds=()
    [ -d "tests/fuzz/corpus/$name" ] && seeds=("tests/fuzz/corpus/$name")
    if "$fuzzer" "$@" -timeout=20 -rss_limit_mb=3000 -max_len=65536 -print_final_stats=1 -artifact_prefix="$dir/$name-" \
        "$corpus" "${seeds[@]}" >"$scratch/log" 2>&1; then
        passed=$((passed + 1))
        echo "ok   fuzz $name: $(grep -E 'number_of_executed_units|new_units_added' "$scratch/log" | sed 's/.*:: *//' | tr '\n' ' ')"
    else
        failed=$((failed + 1))
        echo "FAIL fuzz $name"
        tail -n 40 "$scratch/log"
    fi
done
echo "$passed passed, $failed failed, 0 skipped"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
