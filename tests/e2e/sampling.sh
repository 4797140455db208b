# Sampling policies with real services. With staleness.max 0 the groups that are trained, and so the final weights, do not depend
# on the number of rollouts or on what was killed, the manager included (I8); every step re-executes to the same weights (I7).
. tests/e2e/common.bash
trained() { # the groups of each step with their rows
    "$WEIR" replay "$1" export | grep '"state": "trained"' |
        sed -E 's/.*"group": "g([0-9]+)",.*"step": ([0-9]+), "row": ([0-9]+),.*/\2 \1 \3/' | sort -u -k1,1n -k2,2n -k3,3n
}
for policy in dapo vade; do
    set -- --set rollout.sampling.policy=$policy --set trainer.steps=60 --set eval.every=0
    small_run "$DIR/$policy-one" "$@" --set rollout.workers=1 >"$DIR/one.json" || fail "$policy: $(tail -n 5 "$DIR/$policy-one/weir.log")"
    "$WEIR" run tests/e2e/small.yaml --json --out "$DIR/$policy-three" "$@" --set rollout.workers=3 >"$DIR/three.json" &
    pid=$!
    kills=$(kill_while_running "$pid" "rollout|reward|manager" 0.2)
    wait "$pid" || fail "$policy with kills: $(tail -n 5 "$DIR/$policy-three/weir.log")"
    want=$(last_hash "$DIR/$policy-one")
    [ "${#want}" = 32 ] || fail "$policy: no hash: $want"
    [ "$(last_hash "$DIR/$policy-three")" = "$want" ] || fail "$policy: $kills kills gave other weights"
    trained "$DIR/$policy-one" >"$DIR/one.groups"
    trained "$DIR/$policy-three" >"$DIR/three.groups"
    [ "$(wc -l <"$DIR/one.groups")" = 240 ] || fail "$policy: $(wc -l <"$DIR/one.groups") groups trained, wanted 240"
    cmp "$DIR/one.groups" "$DIR/three.groups" || fail "$policy: other groups or rows were trained"
    "$WEIR" replay "$DIR/$policy-three" verify --all >/dev/null || fail "$policy: verify"
    no_leftovers "$DIR/$policy-three"
    [ "$kills" -gt 1 ] || fail "only $kills kills: the test shows nothing"
    echo "$policy: same hash $want after $kills kills"
done

# dapo trains nothing without a signal and says what that cost; vade chooses other rows than plain does.
! grep -q '"batch/zero_groups":[1-9]' "$DIR/dapo-one/metrics.jsonl" || fail "a group without a signal was trained"
rejected=$(grep -o '"sampling/rejected_groups":[0-9]*' "$DIR/dapo-one/metrics.jsonl" | awk -F: '{n += $2} END {print n}')
"$WEIR" replay "$DIR/dapo-one" stats | grep -q "^  rejected *$rejected zero$" || fail "metrics say $rejected were rejected"
[ "$rejected" -gt 20 ] || fail "only $rejected groups were rejected: the test shows nothing"
grep -q '"sampling/lost_tokens":[1-9]' "$DIR/dapo-one/metrics.jsonl" || fail "no tokens were counted as lost"
! cut -d' ' -f3 "$DIR/one.groups" | cmp -s - <(seq 0 239) || fail "vade took the rows in order"
grep -q '"sampling/right_rate":0\.' "$DIR/vade-one/metrics.jsonl" || fail "vade says nothing of its rows"

# Asynchronous: the rows that were chosen are in the log, and the steps can be re-executed.
small_run "$DIR/async" --set rollout.sampling.policy=vade --set trainer.steps=30 --set trainer.staleness.max=3 >/dev/null
"$WEIR" replay "$DIR/async" verify --all >/dev/null || fail "vade with staleness: verify"
small_run "$DIR/late" --set rollout.sampling.policy=dapo --set trainer.steps=30 --set trainer.staleness.max=3 --set trainer.staleness.late=drop >/dev/null
"$WEIR" replay "$DIR/late" verify --all >/dev/null || fail "dapo with late: drop: verify"

# Nothing to learn from: the run ends and says why.
if small_run "$DIR/flat" --set rollout.sampling.policy=dapo --set 'reward=[{type: regex, pattern: "no such thing"}]' >/dev/null 2>"$DIR/err"; then
    fail "a run without any signal did not end with an error"
fi
grep -q "40 groups were rejected before batch 0 because the rewards of a group were all equal" "$DIR/err" "$DIR/flat/weir.log" ||
    fail "no word of why: $(tail -n 3 "$DIR/err")"
no_leftovers "$DIR/flat"
if small_run "$DIR/few" --set rollout.sampling.policy=vade --set rollout.sampling.candidates=200 >/dev/null 2>"$DIR/err"; then
    fail "200 candidates of 500 rows for 4 groups were accepted"
fi
grep -q "rollout.sampling.candidates is 200, at most 125" "$DIR/err" "$DIR/few/weir.log" || fail "$(tail -n 3 "$DIR/err")"
