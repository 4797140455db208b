# A finished run goes on with more steps: the weights are those of a run that had them from the start, every step replays, and
# the model of the steps before is kept. What done steps depend on is refused by name.
. tests/e2e/common.bash
small_run "$DIR/whole" --set trainer.steps=20 >/dev/null
small_run "$DIR/run" --set trainer.steps=8 >/dev/null
before=$(sha256sum <"$DIR/run/hf/model.safetensors")
"$WEIR" run --resume "$DIR/run" --json --set trainer.steps=20 --set trainer.checkpoint.every=4 --set rollout.workers=1 \
    --set eval.every=5 >"$DIR/json" || fail "$(tail -n 3 "$DIR/run/weir.log")"
grep -q '"event": "changed", "text": "rollout.workers: 2 -> 1\\n.*trainer.steps: 8 -> 20' "$DIR/json" || fail "does not say what changed"
[ "$(last_hash "$DIR/whole")" = "$(last_hash "$DIR/run")" ] || fail "20 steps at once $(last_hash "$DIR/whole"), in two parts $(last_hash "$DIR/run")"
cmp "$DIR/whole/hf/model.safetensors" "$DIR/run/hf/model.safetensors" || fail "another final model"
[ "$(sha256sum <"$DIR/run/hf-8/model.safetensors")" = "$before" ] || fail "the model of step 8 is not kept"
[ "$(grep -c '"step":' "$DIR/run/metrics.jsonl")" = 20 ] || fail "metrics.jsonl must have one line per step"
grep -q '^{"eval/version": 20,' "$DIR/run/metrics.jsonl" || fail "the last version was not evaluated"
"$WEIR" replay "$DIR/run" verify --all >"$DIR/verify" || fail "replay after an extension: $(tail -n 1 "$DIR/verify")"
grep -q '^20 steps re-executed, all hashes equal' "$DIR/verify" || fail "$(tail -n 1 "$DIR/verify")"

refuses() { # refuses TEXT --set ...: one line with TEXT, and nothing changed
    local text=$1
    shift
    cp "$DIR/run/recipe.yaml" "$DIR/recipe.before"
    ! "$WEIR" run --resume "$DIR/run" "$@" >"$DIR/out" 2>"$DIR/err" || fail "$* was taken"
    grep -qF -- "$text" "$DIR/err" || fail "$*: $(cat "$DIR/err") lacks $text"
    [ "$(wc -l <"$DIR/err")" = 1 ] || fail "$*: $(cat "$DIR/err")"
    cmp -s "$DIR/run/recipe.yaml" "$DIR/recipe.before" || fail "$* changed the recipe"
    [ -e "$DIR/run/hf/model.safetensors" ] || fail "$* took the model away"
}
refuses "trainer.optimizer.lr: 0.001 in the run, 0.01 asked for" --set trainer.optimizer.lr=0.01
refuses "rollout.temperature: 1 in the run, 0.5 asked for" --set trainer.steps=30 --set rollout.temperature=0.5
refuses "seed: 7 in the run, 8 asked for" --set seed=8
refuses "trainer.steps: 19 asked for, but step 20 was begun" --set trainer.steps=19
refuses "must be a whole number" --set trainer.steps=many
"$WEIR" run --resume "$DIR/run" --set trainer.steps=30 --dry-run >/dev/null
grep -q 'steps: 20$' "$DIR/run/recipe.yaml" || fail "--dry-run changed the recipe"

small_run "$DIR/cosine" --set trainer.steps=4 --set trainer.optimizer.schedule=cosine >/dev/null
if "$WEIR" run --resume "$DIR/cosine" --set trainer.steps=6 2>"$DIR/err"; then fail "a cosine was extended"; fi
grep -q "trainer.optimizer.schedule: cosine spans trainer.steps" "$DIR/err" || fail "$(cat "$DIR/err")"

# Asynchronous, stopped in the middle and extended at once.
"$WEIR" run tests/e2e/small.yaml --json --out "$DIR/async" --set trainer.steps=60 --set trainer.staleness.max=2 >/dev/null &
pid=$!
until grep -q '"step":10,' "$DIR/async/metrics.jsonl" 2>/dev/null; do sleep 0.05; done
kill -INT "$pid"
wait "$pid" || true
"$WEIR" run --resume "$DIR/async" --json --set trainer.steps=70 >/dev/null || fail "$(tail -n 3 "$DIR/async/weir.log")"
"$WEIR" replay "$DIR/async" verify --all | grep -q '^70 steps re-executed, all hashes equal' || fail "asynchronous: no replay"
no_leftovers "$DIR/async"
