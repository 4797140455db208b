#!/usr/bin/env bash
# Unit tests and one whole run under valgrind: tests/valgrind.sh WEIR-TEST WEIR. It sees what the sanitizers do not: uninitialised
# values, also where libraries touch them, and leaks of processes that end in a normal way. Slow, so it is not part of the
# tests; needs the package valgrind. Files that only add time (the op suite, long random runs) are left out.
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
    case $name in groups_test.c | coll_test.c | kv_test.c | manager_test.c) continue ;; esac
    if "${check[@]}" "$1" --slow --filter "$source" >"$dir/log" 2>&1; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAIL $name"
        grep -vE '^(ok|skip) ' "$dir/log" | tail -n 40
    fi
done
if "${check[@]}" --trace-children=yes --log-file="$dir/%p.log" "$2" run tests/e2e/small.yaml --json --out "$dir/run" >"$dir/run.json" &&
    ! grep -l . "$dir"/*.log; then
    passed=$((passed + 1))
else
    failed=$((failed + 1))
    tail -n 3 "$dir/run.json"
    cat "$dir"/*.log
fi
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
