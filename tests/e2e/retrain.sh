# Counterfactual replay: the logged batches under the same recipe give the logged weights bit for bit, under another one the
# same other weights every time; what would need new trajectories is refused by the key's name.
. tests/e2e/common.bash
run=$DIR/run
small_run "$run" --set trainer.steps=14 --set trainer.staleness.max=3 --set trainer.staleness.hold=max >/dev/null
steps=14
want=$(last_hash "$run")
retrain() { # retrain OUT [OPTION...]: its last line, the summary
    local out=$1
    shift
    "$WEIR" replay "$run" retrain --out "$DIR/$out" --json "$@" >"$DIR/$out.json" || fail "retrain $* failed"
    tail -n 1 "$DIR/$out.json"
}
field() { # field KEY < one JSON object
    sed -E "s|.*\"$1\": \"?([-0-9a-z.+]+).*|\\1|"
}
untimed() { # metrics without what the clock says
    sed -E 's/"(perf|time|idle|relay)\/[^,]*, //g' "$DIR/$1/metrics.jsonl"
}

"$WEIR" replay "$run" verify --all >/dev/null || fail "verify"
same=$(retrain same)
[ "$(field weights_hash <<<"$same")" = "$want" ] || fail "the same recipe: $same, logged $want"
[ "$(field as_logged <<<"$same")" = $steps ] || fail "the same recipe: $same"
cmp "$DIR/same/hf/model.safetensors" "$run/hf/model.safetensors" || fail "the same recipe, another file"
# A bound that nothing exceeds, and resources: the same weights.
[ "$(retrain loose --recipe "$run/recipe.yaml" --set trainer.staleness.max=9 --set rollout.chunk_tokens=9 | field weights_hash)" = "$want" ] ||
    fail "a looser bound changed the weights"

# Another learning rate, packing, alignment: other weights, but always the same ones; the arrivals stay.
other=(--set trainer.optimizer.lr=1.0e-4 --set trainer.prefix=off --set trainer.batch.tokens=100 --set trainer.alignment.mode=on)
one=$(retrain one "${other[@]}") two=$(retrain two "${other[@]}" --eval)
[ "$(field weights_hash <<<"$one")" = "$(field weights_hash <<<"$two")" ] || fail "not deterministic: $one, $two"
[ "$(field weights_hash <<<"$one")" != "$want" ] || fail "another learning rate gave the same weights"
untimed one >"$DIR/one.txt"
untimed two | grep -v '^{"eval/' | cmp - "$DIR/one.txt" || fail "metrics are not deterministic"
grep '^{"step"' "$run/metrics.jsonl" | sed -E 's/.*"reward\/mean":([-0-9.e]+).*"off_policy\/mean":([0-9.e]+).*/\1 \2/' >"$DIR/a"
sed -E 's/.*"reward\/mean": ([-0-9.e]+).*"off_policy\/mean": ([0-9.e]+).*/\1 \2/' "$DIR/one/metrics.jsonl" >"$DIR/b"
cmp "$DIR/a" "$DIR/b" || fail "rewards and staleness must be the logged ones"
grep '^{"eval/version": 14' "$DIR/two/metrics.jsonl" | field eval/accuracy >"$DIR/a"
"$WEIR" eval --model "$DIR/two/hf" --recipe "$DIR/two/recipe.yaml" | field accuracy | cmp - "$DIR/a" || fail "--eval differs from weir eval"

# In a run without staleness every token is of the version that is trained; not so once the weights are others.
small_run "$DIR/sync" --set trainer.steps=4 >/dev/null
"$WEIR" replay "$DIR/sync" retrain --out "$DIR/other" --set trainer.optimizer.lr=1.0e-4 >/dev/null 2>"$DIR/err"
[ "$(grep -c '"rollout_logprob_abs_diff/max/engine": 0,' "$DIR/other/metrics.jsonl")" = 1 ] || fail "step 0 is on the logged weights"
[ "$(grep -c '"rollout_logprob_abs_diff/max/engine": null' "$DIR/other/metrics.jsonl")" = 3 ] ||
    fail "log-probs are compared at versions that name other weights"
[ ! -s "$DIR/err" ] || ! grep disagree "$DIR/err" || fail "a warning about another run's log-probs"

# A tighter bound: whole groups beyond it are left out and counted, as the log says.
tight=$(retrain tight --set 'trainer.staleness={max: 1, late: drop}')
stale=$("$WEIR" replay "$run" export | sed -E 's/.*"group": "(g[0-9]+)",.*"step": ([0-9]+|null),.*"versions": \[([^]]*)\].*/\2 \1 \3/' |
    awk '$1 != "null" { low = 1e9; for (i = 3; i <= NF; i++) if ($i + 0 < low) low = $i + 0; if ($1 - 1 - low > 1) stale[$2] = 1 }
        END { for (g in stale) n++; print n + 0 }')
[ "$stale" -gt 0 ] || fail "nothing is staler than 1: the test shows nothing"
[ "$(field groups_rejected <<<"$tight")" = "$stale" ] || fail "$stale groups are staler than 1: $tight"
[ "$(sed -E 's/.*"off_policy\/dropped": ([0-9]+).*/\1/' "$DIR/tight/metrics.jsonl" | awk '{ n += $1 } END { print n }')" = "$stale" ] ||
    fail "metrics count other groups"
[ "$(grep -c '"gac/action": "empty"' "$DIR/tight/metrics.jsonl")" = "$(field empty_steps <<<"$tight")" ] || fail "empty steps: $tight"

refuses() { # refuses TEXT OPTION...
    local text=$1
    shift
    if "$WEIR" replay "$run" retrain --out "$DIR/no" "$@" >/dev/null 2>"$DIR/err"; then fail "accepted: $*"; fi
    grep -qF -- "$text" "$DIR/err" || fail "$*: \"$(cat "$DIR/err")\" lacks \"$text\""
    [ ! -e "$DIR/no" ] || fail "$*: a directory was left behind"
}
refuses "rollout.group_size: 4 in the run, 8 in the recipe" --set rollout.group_size=8
refuses "rollout.temperature: 1 in the run, 0.5 in the recipe" --set rollout.temperature=0.5
refuses "data.train.limit: 500 in the run" --set data.train.limit=100
refuses "reward[1].weight: 0.5 in the run" --set 'reward[1].weight=1'
refuses "seed: 7 in the run" --set seed=8
refuses "trainer.batch.groups: 4 in the run" --set trainer.batch.groups=2
refuses "trainer.steps: 14 in the run" --set trainer.steps=15
refuses "late: drop to leave such groups out" --set trainer.staleness.max=0
refuses "does not hold the weights" --set model.path="$PWD/tests/golden/models/llama-gqa"
if "$WEIR" run --resume "$DIR/one" 2>"$DIR/err"; then fail "a retraining was resumed as a run"; fi
grep -q "is a retraining" "$DIR/err" || fail "$(cat "$DIR/err")"

# Side by side.
"$WEIR" replay "$run" compare "$DIR/same" "$DIR/tight" --json --metric actor/grad_norm --metric reward/mean >"$DIR/table"
[ "$(wc -l <"$DIR/table")" = $((steps + 1)) ] || fail "compare: $(cat "$DIR/table")"
sed -n 2p "$DIR/table" | grep -qE '^\{"step": 1, "actor/grad_norm": \[([0-9.e-]+), \1, \1\], "reward/mean": \[([-0-9.e]+), \2, \2\]\}$' ||
    fail "step 0 has the same gradient everywhere: $(sed -n 2p "$DIR/table")"
"$WEIR" replay "$run" retrain --set trainer.steps=3 --out "$DIR/three" --compare "$run" "$DIR/one" --every 2 >"$DIR/table"
grep -q "^C  $DIR/one$" "$DIR/table" || fail "$(cat "$DIR/table")"
echo "same weights $want; $stale groups rejected under a bound of 1"
