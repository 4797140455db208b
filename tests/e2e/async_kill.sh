# eta = 4, every service killed at random, the trainer included: the run finishes, every group is trained at most once, none
# is lost, all staleness is within the bound, and every step can be re-executed to the same weights (I2, I3, I7).
. tests/e2e/common.bash
"$WEIR" run tests/e2e/small.yaml --json --out "$DIR/run" --set trainer.staleness.max=4 --set trainer.steps=200 --set rollout.workers=3 >"$DIR/run.json" &
pid=$!
kills=$(kill_while_running "$pid" "rollout|reward|manager|relay|trainer" 0.3)
wait "$pid" || fail "the run failed: $(tail -n 5 "$DIR/run/weir.log")"
"$WEIR" replay "$DIR/run" verify --all --logprobs >"$DIR/verify" || fail "verify: $(tail -n 3 "$DIR/verify")"
"$WEIR" replay "$DIR/run" list --json >"$DIR/list"
[ "$(grep -c '"done": true' "$DIR/list")" = 200 ] || fail "$(wc -l <"$DIR/list") steps, wanted 200"
! grep -E '"staleness_max": ([5-9]|[0-9]{2})' "$DIR/list" || fail "staleness above the bound"
"$WEIR" replay "$DIR/run" export >"$DIR/all.jsonl"
trained=$(grep -c '"state": "trained", "step": [0-9]' "$DIR/all.jsonl")
[ "$trained" = 3200 ] || fail "$trained trained trajectories, wanted 200 x 16"
unique=$(grep '"step": [0-9]' "$DIR/all.jsonl" | sed -E 's/^\{"trajectory": ([0-9]+),.*/\1/' | sort -u | wc -l)
[ "$unique" = 3200 ] || fail "$unique different trajectories trained, wanted 3200"
"$WEIR" replay "$DIR/run" stats --json | grep -q '"groups_rejected": 0' || fail "groups were rejected"
"$WEIR" replay "$DIR/run" stats --json | grep -qE '"staleness": \{"from_step": 6, "steps": 195, "bound": 4, "mean": [0-9.]+, "max": [0-4],' ||
    fail "stats: $("$WEIR" replay "$DIR/run" stats)"
no_leftovers "$DIR/run"
[ "$kills" -gt 2 ] || fail "only $kills kills: the test shows nothing"
echo "200 steps, $kills kills"
