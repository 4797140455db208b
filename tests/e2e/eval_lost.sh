# The relay dies after the trainer's end, before the evaluator had the last version: nobody offers it again, so the evaluation
# reads the folder that the trainer wrote, and gives the numbers of an undisturbed run.
. tests/e2e/common.bash
last_eval() { # last_eval RUN: version, accuracy and reward of the evaluation of the last version
    sed -nE 's|.*("eval/version": *12, .*"eval/reward": *[^,]*).*|\1|p' "$1/metrics.jsonl"
}
small_run "$DIR/whole" >/dev/null
want=$(last_eval "$DIR/whole")
[ -n "$want" ] || fail "the undisturbed run has no evaluation of its last version"

"$WEIR" run tests/e2e/small.yaml --json --out "$DIR/lost" >"$DIR/lost.json" &
pid=$!
until evaluator=$(children "$pid" evaluator) && [ -n "$evaluator" ]; do
    kill -0 "$pid" || fail "the run ended early"
    sleep 0.02
done
kill -STOP "$evaluator"
until [ -e "$DIR/lost/hf/model.safetensors" ] && [ -z "$(children "$pid" trainer)" ]; do
    kill -0 "$pid" || fail "the run ended without its evaluator"
    sleep 0.05
done
kill -9 "$(children "$pid" relay)"
kill -CONT "$evaluator"
wait "$pid" || fail "the run failed: $(tail -n 5 "$DIR/lost/weir.log")"
got=$(last_eval "$DIR/lost")
[ "$want" = "$got" ] || fail "undisturbed: $want; with the relay lost: $got"
grep -q "does not have the last version" "$DIR/lost/weir.log" || fail "the relay still had it: the test shows nothing"
no_leftovers "$DIR/lost"
