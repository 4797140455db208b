# A trainer of two ranks: a rank killed in the middle, then rank 0, then both: the trainer comes back from its checkpoint with
# all its ranks, the final weights are those of the undisturbed run, every step replays, and nothing stays behind.
. tests/e2e/common.bash
small_run "$DIR/whole" --set trainer.ranks=2 --set trainer.steps=120 >/dev/null
want=$(last_hash "$DIR/whole")
"$WEIR" replay "$DIR/whole" verify --all | grep -q '120 steps re-executed, all hashes equal' || fail "verify of the undisturbed run"

seen=
wait_for_step() { # wait_for_step STEP
    until grep -q "\"step\":$1," "$DIR/run/metrics.jsonl" 2>/dev/null; do
        kill -0 "$pid" 2>/dev/null || fail "the run ended: $(tail -n 5 "$DIR/run/weir.log")"
        sleep 0.02
    done
}
find_ranks() { # sets trainer and rank; the trainer may just be starting
    rank=
    until [ -n "$rank" ]; do
        kill -0 "$pid" 2>/dev/null || fail "the run ended: $(tail -n 5 "$DIR/run/weir.log")"
        trainer=$(children "$pid" trainer)
        if [ -n "$trainer" ]; then rank=$(pgrep -P "$trainer") || sleep 0.02; fi
    done
    seen="$seen $rank"
}

"$WEIR" run tests/e2e/small.yaml --json --out "$DIR/run" --set trainer.ranks=2 --set trainer.steps=120 >"$DIR/run.json" &
pid=$!
for step in 5 30; do
    wait_for_step $step
    find_ranks
    kill -9 "$rank" || true
done
wait_for_step 55
find_ranks
kill -9 "$trainer"
wait_for_step 80
find_ranks
kill -9 "$trainer" "$rank" || true
wait "$pid" || fail "the run failed: $(tail -n 5 "$DIR/run/weir.log")"
[ "$(grep -c 'rank 1 of 2 of the trainer was killed by signal 9' "$DIR/run/weir.log")" -ge 2 ] || fail "the killed rank is not named"
got=$(last_hash "$DIR/run")
[ "$want" = "$got" ] || fail "undisturbed $want, with kills $got"
"$WEIR" replay "$DIR/run" verify --all | grep -q '120 steps re-executed, all hashes equal' || fail "verify"
no_leftovers "$DIR/run"
for p in $seen; do
    ! { tr '\0' ' ' <"/proc/$p/cmdline"; } 2>/dev/null | grep -q trainer-rank || fail "rank $p stays behind"
done
! grep -q "weir-coll-$(id -u)-trainer-" /proc/net/unix || fail "a socket stays behind"

# One step by hand: the same bits twice, nothing but JSON on stdout, and the bad rank count is refused.
step() { # step RANKS OUT
    "$WEIR" step --model tests/golden/step/model --batch tests/golden/step/b0.jsonl --recipe tests/e2e/small.yaml \
        --set trainer.device=cpu --set trainer.ranks="$1" --out "$2" 2>/dev/null
}
step 3 "$DIR/a" >"$DIR/a.json"
step 3 "$DIR/b" >"$DIR/b.json"
step 1 "$DIR/c" >"$DIR/c.json"
cmp "$DIR/a.json" "$DIR/b.json"
cmp "$DIR/a/model.safetensors" "$DIR/b/model.safetensors"
[ "$(wc -l <"$DIR/a.json")" = 1 ] || fail "more than one line on stdout"
value() { sed -nE "s/.*\"$2\": ([^,]*),.*/\1/p" "$1"; }
[ "$(value "$DIR/a.json" loss)" = "$(value "$DIR/c.json" loss)" ] || fail "the loss of 3 ranks is not that of 1"
! step 0 "$DIR/d" || fail "0 ranks"
echo "same hash $want after 4 kills"
