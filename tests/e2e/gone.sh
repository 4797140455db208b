# The run's directory, its log or its sockets, deleted or replaced under a running run: noticed, by name,
# with the code of a disk; never "complete".
. tests/e2e/common.bash

gone() { # gone NAME TEXT COMMAND...: COMMAND is run in the run's directory while it trains
    local run=$DIR/$1 text=$2 pid rc=0 before
    shift 2
    "$WEIR" run tests/e2e/small.yaml --json --set trainer.steps=100000 --out "$run" >"$DIR/out" 2>&1 &
    pid=$!
    until grep -q '"step":2,' "$run/metrics.jsonl" 2>/dev/null; do
        kill -0 "$pid" 2>/dev/null || fail "ended too early: $(cat "$DIR/out")"
        sleep 0.05
    done
    sleep 1
    (cd "$run" && "$@")
    before=$SECONDS
    wait "$pid" || rc=$?
    [ $((SECONDS - before)) -le 120 ] || fail "$*: noticed after $((SECONDS - before)) s"
    [ "$rc" = 74 ] || fail "$*: exit $rc: $(tail -n 2 "$DIR/out")"
    grep -qF -- "$text" "$DIR/out" || fail "$*: not said: $text: $(tail -n 2 "$DIR/out")"
    ! grep -q '"complete"' "$DIR/out" || fail "$*: complete"
    ! pgrep -af -- "--run $run" || fail "$*: processes left behind"
}

gone log "/log was deleted" rm -rf log
gone files "/log/CURRENT was deleted" sh -c 'rm -f log/*'
gone run "/run" sh -c "until rm -rf ../run 2>/dev/null; do :; done" # things may be made there again
gone ipc "/ipc was deleted" rm -rf ipc
gone sockets "/ipc/manager was deleted" sh -c 'rm -f ipc/*'
gone moved "/moved was deleted" sh -c 'mv ../moved ../elsewhere'
gone replaced "/log was replaced" sh -c 'cp -r log new && mv log old && mv new log'
gone wal ".log was deleted" sh -c 'rm -f log/*.log'

# Cut and written on by its owner: seen at once, or at the end, but the run is never complete without its log.
run=$DIR/cut
"$WEIR" run tests/e2e/small.yaml --json --set trainer.steps=60 --out "$run" >"$DIR/out" 2>&1 &
pid=$!
until grep -q '"step":9,' "$run/metrics.jsonl" 2>/dev/null; do sleep 0.02; done
: >"$(find "$run/log" -name '*.log')"
rc=0
wait "$pid" || rc=$?
[ "$rc" = 74 ] || [ "$rc" = 65 ] || fail "a log that was cut: exit $rc: $(tail -n 2 "$DIR/out")"
! grep -q '"complete"' "$DIR/out" || fail "complete with a log that was cut"

# Without its recipe a run could neither be continued nor replayed: it is written again.
run=$DIR/recipe
"$WEIR" run tests/e2e/small.yaml --json --set trainer.steps=60 --out "$run" >"$DIR/out" 2>&1 &
pid=$!
until grep -q '"step":3,' "$run/metrics.jsonl" 2>/dev/null; do sleep 0.02; done
cp "$run/recipe.yaml" "$DIR/recipe.yaml"
rm "$run/recipe.yaml"
until [ -e "$run/recipe.yaml" ] || ! kill -0 "$pid"; do sleep 0.02; done
: >"$run/recipe.yaml"
wait "$pid" || fail "the recipe deleted and emptied: exit $?: $(tail -n 2 "$DIR/out")"
cmp "$run/recipe.yaml" "$DIR/recipe.yaml" || fail "the recipe is not the run's"
grep -q "recipe.yaml was changed or deleted while the run used it" "$run/weir.log" || fail "no word of the recipe"
"$WEIR" replay "$run" verify --all >/dev/null || fail "the run whose recipe was deleted does not verify"
