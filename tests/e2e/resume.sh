# Stopped by Ctrl-C, or everything killed at once: --resume continues, and in synchronous mode the final weights are those of
# the uninterrupted run.
. tests/e2e/common.bash
small_run "$DIR/whole" --set trainer.steps=100 >/dev/null
want=$(last_hash "$DIR/whole")

wait_for_step() { # wait_for_step RUN PID STEP
    until grep -q "\"step\":$3," "$1/metrics.jsonl" 2>/dev/null; do
        kill -0 "$2" 2>/dev/null || break
        sleep 0.1
    done
}

"$WEIR" run tests/e2e/small.yaml --json --set trainer.steps=100 --out "$DIR/stopped" >"$DIR/stopped.json" &
pid=$!
wait_for_step "$DIR/stopped" "$pid" 4
kill -INT "$pid"
rc=0
wait "$pid" || rc=$?
[ "$rc" = 130 ] || fail "a run stopped by SIGINT exits with $rc"
grep -q '"event": "stopped"' "$DIR/stopped.json" || fail "did not say that it was stopped"
no_leftovers "$DIR/stopped"
"$WEIR" run --resume "$DIR/stopped" --json >"$DIR/resumed.json" || fail "resume: $(tail -n 3 "$DIR/stopped/weir.log")"
got=$(last_hash "$DIR/stopped")
[ "$want" = "$got" ] || fail "uninterrupted $want, stopped and resumed $got"

"$WEIR" run tests/e2e/small.yaml --json --set trainer.steps=100 --out "$DIR/killed" >/dev/null &
pid=$!
wait_for_step "$DIR/killed" "$pid" 5
mapfile -t all < <(pgrep -P "$pid")
kill -9 "$pid" "${all[@]}" 2>/dev/null || true
wait "$pid" || true
"$WEIR" run --resume "$DIR/killed" --json >/dev/null || fail "resume after kill -9: $(tail -n 3 "$DIR/killed/weir.log")"
got=$(last_hash "$DIR/killed")
[ "$want" = "$got" ] || fail "uninterrupted $want, killed and resumed $got"
[ "$(grep -c '"step":' "$DIR/killed/metrics.jsonl")" = 100 ] || fail "metrics.jsonl must have one line per step"
no_leftovers "$DIR/killed"
