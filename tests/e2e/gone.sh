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
