#!/usr/bin/env bash
# What is threaded, under the thread sanitizer: tests/tsan.sh WEIR-TEST WEIR. Findings inside ZeroMQ and RocksDB are suppressed.
# Tests that fork a service from a process that has threads already are not here: the sanitizer refuses such children
# ("dup thread with used id"). The services run as real processes instead, in two whole runs.
set -u
cd "$(dirname "$0")/.." || exit 1
export TSAN_OPTIONS="suppressions=$PWD/tests/tsan.supp exitcode=66 die_after_fork=0 ${TSAN_OPTIONS:-}"
dir=$(mktemp -d /tmp/weir-tsan-XXXXXX)
trap 'rm -rf "$dir"' EXIT
passed=0 failed=0
# The sanitizer (of GCC 12) now and then does not come back from looking for the racing address in a free() of ZeroMQ's own
# thread: what ran out of time and reported nothing is tried again.
for filter in tests/op worker_pool_test publish_test queue_test coll_test kv_test net_test runlog_writer_test manager_outbox_test saver_writes saver_full manager_test; do
    for _ in 1 2 3; do
        rc=0
        "$1" --filter "$filter" >"$dir/log" 2>&1 || rc=$?
        grep -E '^(FAIL|SUMMARY)' "$dir/log"
        if [ "$rc" = 0 ] || grep -q '^SUMMARY' "$dir/log" || ! grep -q 'Alarm clock' "$dir/log"; then break; fi
    done
    if grep -q '^0 passed, 0 failed' "$dir/log"; then rc=1 && echo "FAIL no test is called $filter"; fi
    if [ "$rc" = 0 ]; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
done
whole_run() { # whole_run NAME [--set ...]
    local run=$dir/$1
    shift
    if timeout 200 "$2" run tests/e2e/small.yaml --json --out "$run" "${@:3}" >"$run.json" 2>&1 &&
        ! grep -h '^SUMMARY: ThreadSanitizer' "$run.json" "$run/weir.log"; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        tail -n 3 "$run.json"
    fi
}
whole_run synchronous "$1" "$2" --set trainer.threads=2
whole_run asynchronous "$1" "$2" --set trainer.threads=2 --set trainer.staleness.max=4 --set rollout.workers=3 --set trainer.steps=30
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
