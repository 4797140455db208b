#!/usr/bin/env bash
# What is threaded, under the thread sanitizer: tests/tsan.sh WEIR-TEST WEIR. Findings inside ZeroMQ and RocksDB are suppressed.
set -u
cd "$(dirname "$0")/.." || exit 1
export TSAN_OPTIONS="suppressions=$PWD/tests/tsan.supp exitcode=66 ${TSAN_OPTIONS:-}"
dir=$(mktemp -d /tmp/weir-tsan-XXXXXX)
trap 'rm -rf "$dir"' EXIT
failed=0
for filter in workers_test coll_test kv_test net_test relay_test reward_service manager_test rollout_service trainer_service; do
    "$1" --filter "$filter" 2>"$dir/log" || failed=1
    grep -E '^(FAIL|SUMMARY)' "$dir/log"
done
timeout 120 "$2" run tests/e2e/small.yaml --json --out "$dir/run" --set trainer.threads=2 >"$dir/run.json" 2>&1 || failed=1
if grep -h '^SUMMARY: ThreadSanitizer' "$dir/run.json" "$dir/run/weir.log"; then failed=1; fi
tail -n 1 "$dir/run.json"
exit "$failed"
