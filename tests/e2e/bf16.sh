#!/usr/bin/env bash
# model.dtype: bf16. The engine samples what the trainer recomputes (I6), steps repeat (I7), a run survives its trainer,
# the reward rises, versions take half the bytes; the same on two trainer ranks.
. tests/e2e/common.bash
models=tests/golden/models

# score: both engines, however cut, on cpu and on ref; near fp32, and not it.
cat >"$DIR/lines" <<'JSON'
{"prompt_ids": [1, 4, 5, 9, 3], "response_ids": [2, 7, 8, 9, 11, 3, 1]}
{"prompt_ids": [3], "response_ids": [2, 9, 30, 31]}
{"prompt_ids": [7, 7, 7, 2, 2, 2, 1, 1], "response_ids": [5]}
JSON
score() { "$WEIR" score --model "$models/$model" --file "$DIR/lines" "$@"; }
for model in llama-gqa mistral-window qwen2-tied qwen3-norm; do
    for device in cpu ref; do
        score --dtype bf16 --device $device --engine trainer >"$DIR/want"
        for options in "--engine rollout --chunk 1" "--engine rollout --chunk 3 --batch 2 --page 1" "--engine trainer --batch 1"; do
            # shellcheck disable=SC2086
            score --dtype bf16 --device $device $options | cmp - "$DIR/want" || fail "$model on $device: $options"
        done
    done
    score --dtype fp32 --device cpu >"$DIR/fp32"
    ! cmp -s "$DIR/fp32" "$DIR/want" || fail "$model: bf16 has the digits of fp32"
    paste "$DIR/fp32" "$DIR/want" | tr -d '[]{}",a-z:\t' | awk '{
        for (i = 1; i <= NF / 2; i++) { d = $i - $(i + NF / 2); if (d < -0.3 || d > 0.3) exit 1 } }' ||
        fail "$model: far from fp32: $(paste "$DIR/fp32" "$DIR/want")"
done
if "$WEIR" score --model "$models/llama-gqa" --dtype fp8 --file "$DIR/lines" 2>"$DIR/err"; then fail "took --dtype fp8"; fi
grep -q "allowed are fp32 and bf16" "$DIR/err" || fail "$(cat "$DIR/err")"

# A run: equal log-probs in every step, a rising reward; killed trainers change nothing; replay agrees.
bf16_run() { small_run "$@" --set model.dtype=bf16 --set trainer.steps=24 --set trainer.batch.groups=8; }
bf16_run "$DIR/a" >"$DIR/json" 2>"$DIR/err" || fail "$(tail "$DIR/err")"
[ "$(grep -c '"rollout_logprob_abs_diff/max":0[,}]' "$DIR/json")" = 24 ] || fail "log-probs differ"
grep -o '"reward/mean":[^,]*' "$DIR/json" | cut -d: -f2 | awk '
    NR <= 6 { a += $1 } NR > 18 { b += $1 } END { exit !(b / 6 > a / 6 + 0.15) }' || fail "the reward does not rise"
"$WEIR" replay "$DIR/a" verify >"$DIR/out" 2>&1 || fail "replay: $(cat "$DIR/out")"
bf16_run "$DIR/b" >/dev/null 2>&1 &
kill_while_running $! trainer 0.4 >"$DIR/kills"
wait $! || fail "the run with killed trainers failed"
[ "$(last_hash "$DIR/a")" = "$(last_hash "$DIR/b")" ] || fail "killed $(cat "$DIR/kills") times: other weights"
no_leftovers "$DIR/a"
no_leftovers "$DIR/b"

# Two ranks: a step's loss is the same, its update to rounding.
recipe=$DIR/recipe.yaml
cat >"$recipe" <<'YAML'
model: {dtype: bf16}
rollout: {group_size: 4, max_prompt_tokens: 16, max_new_tokens: 16}
trainer: {device: cpu, batch: {groups: 4, tokens: 64}, optimizer: {lr: 1.0e-3}}
YAML
for ranks in 1 2; do
    "$WEIR" step --model tests/golden/step/model --recipe "$recipe" --set trainer.ranks=$ranks --out "$DIR/o$ranks" \
        --batch tests/golden/step/b0.jsonl 2>/dev/null | grep -o '"loss": [-0-9.e]*' >"$DIR/loss$ranks"
done
[ -s "$DIR/loss1" ] || fail "no step"
cmp "$DIR/loss1" "$DIR/loss2" || fail "two ranks: $(cat "$DIR/loss1" "$DIR/loss2")"

# Half the bytes of a version, as the plan says.
bytes() { "$WEIR" plan tests/e2e/small.yaml --json --set model.dtype="$1" | grep -oE '"relay": ?[0-9]+' | grep -oE '[0-9]+'; }
[ "$(bytes fp32)" = "$((2 * $(bytes bf16)))" ] || fail "relay: $(bytes fp32) bytes in fp32, $(bytes bf16) in bf16"
