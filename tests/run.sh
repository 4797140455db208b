#!/usr/bin/env bash
# All tests: the test binary, then each end-to-end script with real processes. tests/run.sh WEIR-TEST WEIR
# A script exits 0 (passed), 77 (skipped) or anything else (failed). The last line is the total.
set -u
cd "$(dirname "$0")/.." || exit 1
bin=$1
export WEIR=$2 WEIR_SIM
WEIR_SIM=$(dirname "$1")/weir-cudasim.so
passed=0 failed=0 skipped=0
out=$("$bin" | tail -n 1)
read -r p f s <<<"$(printf '%s\n' "$out" | sed -nE 's/^([0-9]+) passed, ([0-9]+) failed, ([0-9]+) skipped$/\1 \2 \3/p')"
if [ -z "${p:-}" ]; then
    echo "FAIL $bin printed no result" >&2
    failed=1
else
    passed=$p failed=$f skipped=$s
fi
for script in tests/e2e/*.sh; do
    [ -e "$script" ] || continue
    dir=$(mktemp -d /tmp/weir-e2e-XXXXXX)
    start=$SECONDS
    DIR=$dir timeout --kill-after=10 600 bash "$script" >"$dir/out" 2>&1 </dev/null
    rc=$?
    took=$((SECONDS - start))
    case $rc in
    0) passed=$((passed + 1)) && echo "ok   $script ($took s)" >&2 ;;
    77) skipped=$((skipped + 1)) && echo "skip $script: $(tail -n 1 "$dir/out")" >&2 ;;
    *)
        failed=$((failed + 1))
        echo "FAIL $script ($took s, exit $rc)" >&2
        tail -n 40 "$dir/out" | sed 's/^/    /' >&2
        ;;
    esac
    rm -rf "$dir"
done
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
