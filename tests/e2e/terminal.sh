# On a terminal of 80 columns and 24 lines: the start text fits it, the live line fits it and always has its time left, a
# resumed run shows the pace of its own steps; and a run whose reward never pays says so and does not end like a success.
. tests/e2e/common.bash
command -v script >/dev/null || { echo "skip: script(1) is not here" && exit 0; }

on_terminal() { # on_terminal FILE ARGS...: what weir ARGS writes to a terminal of 80x24; its exit code
    local file=$1 line
    shift
    printf -v line '%q ' "$WEIR" "$@"
    script -qec "stty rows 24 cols 80; exec $line" /dev/null >"$file.raw" 2>&1 </dev/null
    local rc=$?
    tr '\r' '\n' <"$file.raw" | sed "s,\x1b\[K,,g" | grep -v '^$' >"$file" || true
    return "$rc"
}

check_screen() { # check_screen FILE
    local start
    start=$(sed '/^step /,$d; /^eval /,$d; /^warning: /,$d' "$1")
    [ "$(wc -l <<<"$start")" -le 22 ] || fail "$1: a start text of $(wc -l <<<"$start") lines"
    ! grep -E '.{81}' <<<"$start" || fail "$1: a start text wider than 80 columns"
    grep -q '^step ' "$1" || fail "$1: no live line"
    ! grep '^step ' "$1" | grep -E '.{80}' || fail "$1: a live line of 80 columns or more"
    ! grep '^step ' "$1" | grep -v ' ETA ' || fail "$1: a live line without its time left"
    ! grep '^step ' "$1" | grep -E 'gen (0|-) ' || fail "$1: 0 tokens a second in between"
}

# A reward that never pays; several warnings at the start.
never=$DIR/never
on_terminal "$DIR/never.txt" run tests/e2e/small.yaml --out "$never" --set trainer.steps=30 --set 'reward[0].pattern=zzzz' \
    --set 'reward[1].weight=0' --set trainer.algorithm.loss=gspo --set model.dtype=bf16 ||
    fail "$(tail -n 3 "$DIR/never.txt")"
check_screen "$DIR/never.txt"
grep -q '^warning: all groups scored equal (reward 0) for [0-9]* steps: no gradient; look at' "$DIR/never.txt" ||
    fail "no warning: $(tail -n 12 "$DIR/never.txt")"
grep -q "show --step 30" "$DIR/never.txt" || fail "the summary does not say what to look at"
grep -q '^step .* ! no gradient' "$DIR/never.txt" || fail "the live line does not say it"
grep -q '^all 30 steps are done, but nothing was learnt' "$DIR/never.txt" || fail "$(tail -n 9 "$DIR/never.txt")"
! grep -qi '^complete' "$DIR/never.txt" || fail "it ended like a success"
grep -q 'bf16 on a CPU' "$DIR/never.txt" || fail "bf16 on a CPU without a warning"
[ "$(grep -c '^warning: all groups' "$DIR/never.txt")" = 2 ] || fail "the warning must stand once while it runs, and at the end"

# The same for machines: one event when it arises, findings at the end.
small_run "$DIR/json" --set trainer.steps=10 --set 'reward[0].pattern=zzzz' --set 'reward[1].weight=0' >"$DIR/json.txt"
[ "$(grep -c '"event": "warning", "kind": "equal", "since": 1' "$DIR/json.txt")" = 1 ] || fail "no warning event"
tail -n 1 "$DIR/json.txt" | grep -q '"event": "complete".*"findings": \[{"kind": "equal", "warning": true' || fail "no findings"

# Stopped and resumed: the old steps are not shown again, and the time left is not that of reading a file.
run=$DIR/run
"$WEIR" run tests/e2e/small.yaml --out "$run" --set trainer.steps=150 --set eval.every=0 >"$DIR/stopped.txt" 2>&1 &
pid=$!
until grep -q '"step":20,' "$run/metrics.jsonl" 2>/dev/null; do sleep 0.05; done
kill -INT "$pid"
wait "$pid" || true
grep -q '^stopped by signal 2' "$DIR/stopped.txt" || fail "$(tail -n 9 "$DIR/stopped.txt")"
! grep -q 'eval accuracy .* -> ' "$DIR/stopped.txt" || fail "one evaluation is told as if it were two"
on_terminal "$DIR/resumed.txt" run --resume "$run" || fail "$(tail -n 3 "$DIR/resumed.txt")"
check_screen "$DIR/resumed.txt"
[ "$(grep -c '^step [0-9]*/150 ETA 0:0' "$DIR/resumed.txt")" -gt 0 ] || fail "no time left in $(grep -c ^step "$DIR/resumed.txt") lines"
grep -q '^resumes after step [0-9]* of 150$' "$DIR/resumed.txt" || fail "does not say where it resumes"
! grep -q '^eval at version 0:' "$DIR/resumed.txt" || fail "an evaluation of the session before is shown again"
grep '^step ' "$DIR/resumed.txt" | head -n 1 | grep -q 'ETA - ' || fail "a time left before a step was measured"
grep -q '^complete after 150 of 150 steps' "$DIR/resumed.txt" || fail "$(tail -n 9 "$DIR/resumed.txt")"
no_leftovers "$run"
