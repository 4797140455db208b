# Evaluation: several sets, pass@k, the same numbers in a run and from `weir eval`, and never in training's way: with the
# evaluator frozen the trainer does all its steps, and after it wakes it goes to the newest version and names what it skipped.
. tests/e2e/common.bash
sets='data.eval=[{name: one, path: "builtin:addition", skip: 500, limit: 20}, {name: many, path: "builtin:addition",
  skip: 500, limit: 20, samples: 16, temperature: 1, k: [1, 4, 16]}]'
small_run "$DIR/plain" --set trainer.steps=30 --set data.eval= >/dev/null
"$WEIR" run tests/e2e/small.yaml --json --out "$DIR/run" --set trainer.steps=30 --set eval.every=2 --set "$sets" >"$DIR/out" &
pid=$!
for ((i = 0; i < 300; i++)); do # the evaluator is at work
    grep -qs '"eval/version"' "$DIR/run/metrics.jsonl" && break
    sleep 0.1
done
evaluator=$(children "$pid" evaluator)
[ -n "$evaluator" ] || fail "no evaluator: $(cat "$DIR/out")"
kill -STOP "$evaluator"
for ((i = 0; i < 600; i++)); do
    grep -qs '"step":30,' "$DIR/run/metrics.jsonl" && break
    sleep 0.1
done
grep -q '"step":30,' "$DIR/run/metrics.jsonl" || fail "training waits for a frozen evaluator"
kill -CONT "$evaluator"
wait "$pid" || fail "the run failed: $(tail -n 5 "$DIR/run/weir.log")"
[ "$(last_hash "$DIR/run")" = "$(last_hash "$DIR/plain")" ] || fail "evaluation changed the weights"
no_leftovers "$DIR/run"

# Each version that was due was evaluated or named as skipped, once, in order; the last one is the end.
grep '"eval/version"' "$DIR/run/metrics.jsonl" |
    sed -E 's|.*"eval/version": ([0-9]+),.*"eval/skipped": ([0-9]+)(, "eval/skipped_first": ([0-9]+), "eval/skipped_last": ([0-9]+))?}.*|\1 \2 \4 \5|' |
    awk '$2 == 0 ? due < $1 && NR > 1 : $3 != due || $4 >= $1 || $2 != ($4 - $3) / 2 + 1 { bad = bad " " $0 ";" }
        { due = int($1 / 2) * 2 + 2; last = $1; skipped += $2 }
        END { print NR " evaluations, " skipped " skipped" bad; exit bad || last != 30 || skipped < 1 }' ||
    fail "$(grep eval/ "$DIR/run/metrics.jsonl")"

field() { # field KEY < one JSON object: the number of a key
    sed -E "s|.*\"$1\": ([-0-9.e+]+).*|\\1|"
}
last=$(grep '"eval/version"' "$DIR/run/metrics.jsonl" | tail -n 1)
"$WEIR" eval --model "$DIR/run/hf" --recipe "$DIR/run/recipe.yaml" --json >"$DIR/eval"
for k in 1 4 16; do
    want=$(field "eval/many/pass@$k" <<<"$last") got=$(field "pass@$k" <"$DIR/eval")
    [ "$want" = "$got" ] || fail "pass@$k in the run $want, weir eval $got"
done
"$WEIR" replay "$DIR/run" stats | grep -q "^eval  *version 30: one .* many .*pass@16" || fail "replay stats"
# Another set before it and another batch change no answer.
"$WEIR" eval --model "$DIR/run/hf" --recipe "$DIR/run/recipe.yaml" --set rollout.chunk_tokens=7 \
    --set 'data.eval=[{name: many, path: "builtin:addition", skip: 500, limit: 20, samples: 16, temperature: 1, k: [4]}]' >"$DIR/again"
[ "$(field "pass@4" <"$DIR/again")" = "$(field "pass@4" <"$DIR/eval")" ] || fail "another batch, other answers"
