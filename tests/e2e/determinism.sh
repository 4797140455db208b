# I8: with staleness.max 0 the final weights do not depend on the number of rollouts, nor on what was killed on the way.
. tests/e2e/common.bash
small_run "$DIR/one" --set trainer.steps=200 --set rollout.workers=1 >"$DIR/one.json"
want=$(last_hash "$DIR/one")
[ "${#want}" = 32 ] || fail "no hash: $want"
"$WEIR" run tests/e2e/small.yaml --json --out "$DIR/three" --set trainer.steps=200 --set rollout.workers=3 >"$DIR/three.json" &
pid=$!
kills=$(kill_while_running "$pid" "rollout|reward|manager" 0.3)
wait "$pid" || fail "the run with kills failed: $(tail -n 5 "$DIR/three/weir.log")"
got=$(last_hash "$DIR/three")
[ "$want" = "$got" ] || fail "one rollout: $want, three rollouts and $kills kills: $got"
"$WEIR" replay "$DIR/three" verify --all >/dev/null || fail "verify"
no_leftovers "$DIR/three"
[ "$kills" -gt 2 ] || fail "only $kills kills: the test shows nothing"
echo "same hash $want after $kills kills"
