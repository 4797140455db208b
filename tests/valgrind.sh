#!/usr/bin/env bash
# Unit tests and single-process verbs under valgrind: tests/valgrind.sh WEIR-TEST WEIR. It sees what the sanitizers do not:
# uninitialised values, also where libraries touch them. Slow, so it is not part of the tests; needs the package valgrind.
# Left out: files that only add time (op suite, engine, long random runs), and services: their processes are started through
# /proc/self/exe, which is valgrind itself here, live under memory limits that it exceeds, or are timed.
set -u
cd "$(dirname "$0")/.." || exit 1
command -v valgrind >/dev/null || { echo "valgrind is not there" >&2 && exit 1; }
dir=$(mktemp -d /tmp/weir-valgrind-XXXXXX)
trap 'rm -rf "$dir"' EXIT
check=(valgrind --quiet --error-exitcode=99 --leak-check=full "--errors-for-leak-kinds=definite,indirect"
    "--show-leak-kinds=definite,indirect" "--suppressions=$PWD/tests/valgrind.supp")
passed=0 failed=0
for source in tests/unit/*_test.c tests/golden/*_test.c; do
    name=${source##*/}
    case $name in
    groups_test.c | engine_test.c | coll_test.c | kv_test.c | manager_test.c) continue ;;
    relay_test.c | worker_pool_test.c | *_service_test.c) continue ;;
    esac
    if "${check[@]}" "$1" --slow --filter "$source" >"$dir/log" 2>&1; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAIL $name"
        grep -vE '^(ok|skip) ' "$dir/log" | tail -n 40
    fi
done
verb() { # verb NAME [OPTIONS...]
    if "${check[@]}" "$weir" "$@" >"$dir/log" 2>&1; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAIL weir $1"
        tail -n 40 "$dir/log"
    fi
}
weir=$2
verb sft --recipe recipes/quickstart-sft.yaml --set trainer.steps=2 --set trainer.batch.groups=8 --out "$dir/sft"
verb eval --model "$dir/sft" --recipe tests/e2e/small.yaml
verb generate --model "$dir/sft" --prompt "1+2=" --raw --max-tokens 8
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
