# The table of metrics against what is written: no name without a row, and no row that nobody writes.
. tests/e2e/common.bash

"$WEIR" metrics --json >"$DIR/table"
rows() { # rows MAKER [always]: the names that it writes, or of these those that are always there
    grep -E "\"from\": \[[^]]*\"$1\"" "$DIR/table" | grep -F "\"when\": \"${2:+\", }" | sed -E 's/^\{"name": "([^"]*)".*/\1/'
}

# The names in JSON lines on stdin, with what differs from run to run put back into braces.
names() {
    grep -oE '"[^"]*": ?' | sed -E 's/": ?$//; s/^"//' | sort -u |
        sed -E 's|^eval/held_out/pass@[0-9]+$|eval/{set}/pass@{k}|; s|^eval/held_out|eval/{set}|' | sort -u
}

check() { # check LINES MAKER...: every row that the makers always write is there, and nothing that they do not write
    local lines=$1 maker
    shift
    [ -s "$lines" ] || fail "$lines is empty"
    names <"$lines" >"$DIR/has"
    for maker in "$@"; do rows "$maker" always; done | sort -u >"$DIR/must"
    for maker in "$@"; do rows "$maker"; done | sort -u >"$DIR/may"
    [ -z "$(comm -13 "$DIR/has" "$DIR/must")" ] || fail "$*: never written: $(comm -13 "$DIR/has" "$DIR/must" | tr '\n' ' ')"
    [ -z "$(comm -23 "$DIR/has" "$DIR/may")" ] || fail "$*: without a row: $(comm -23 "$DIR/has" "$DIR/may" | tr '\n' ' ')"
    cat "$DIR/has" >>"$DIR/written"
}

# A run with everything that has rows of its own: a critic, bf16, vade, pass@k.
run=$DIR/run
small_run "$run" --set "data.eval=[{path: 'builtin:addition', skip: 500, limit: 20, name: held_out, samples: 2, temperature: 1, k: [1, 2]}]" \
    --set trainer.steps=4 --set eval.every=2 --set model.dtype=bf16 --set trainer.algorithm.advantage=gae \
    --set rollout.sampling.policy=vade >"$DIR/json" 2>"$DIR/err" || fail "$(tail -n 5 "$DIR/err" "$DIR/json")"
grep '^{"step"' "$run/metrics.jsonl" >"$DIR/steps"
grep '"eval/version"' "$run/metrics.jsonl" >"$DIR/evals"
check "$DIR/steps" trainer manager
check "$DIR/evals" evaluator
while read -r line; do names <<<"$line" | tr '\n' ' ' && echo; done <"$DIR/steps" | sort -u >"$DIR/kinds"
[ "$(wc -l <"$DIR/kinds")" = 1 ] || fail "steps differ in their names: $(cat "$DIR/kinds")"

"$WEIR" replay "$run" retrain --eval --out "$DIR/again" >/dev/null
grep '^{"step"' "$DIR/again/metrics.jsonl" >"$DIR/steps"
check "$DIR/steps" trainer retrain

"$WEIR" sft --recipe recipes/quickstart-sft.yaml --out "$DIR/sft" --set trainer.steps=4 --set eval.every=2 \
    --set sft.held_out=30 >/dev/null 2>&1
grep '^{"step"' "$DIR/sft/metrics.jsonl" >"$DIR/steps"
cp "$DIR/sft/metrics.jsonl" "$DIR/all"
check "$DIR/all" sft

# Nobody's rows: left out are the skipped evaluations, which eval.sh makes, and the status, which manager_test.c looks at.
sort -u "$DIR/written" >"$DIR/has"
for maker in trainer manager evaluator retrain sft; do rows "$maker"; done | grep -vE '^eval/skipped_' | sort -u >"$DIR/may"
[ -z "$(comm -13 "$DIR/has" "$DIR/may")" ] || fail "rows that nobody writes: $(comm -13 "$DIR/has" "$DIR/may" | tr '\n' ' ')"

"$WEIR" metrics off_policy/rho | grep -q '^off_policy/rho$' || fail "weir metrics NAME"
if "$WEIR" metrics reward/men 2>"$DIR/err"; then fail "an unknown name is an error"; fi
grep -q 'the nearest one is reward/mean' "$DIR/err" || fail "$(cat "$DIR/err")"
