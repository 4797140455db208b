#!/usr/bin/env bash
# Rollout and trainer run on a device by changing `device`: every command on the simulated CUDA device whose memory the
# host cannot reach (tests/cudasim; device 2), so an access by address instead of a copy is a crash here.
. tests/e2e/common.bash
[ -e "$WEIR_SIM" ] || exit 77
# The plugin is looked up beside the executable.
cp "$WEIR" "$DIR/weir"
cp "$WEIR_SIM" "$DIR/weir-cudasim.so"
WEIR=$DIR/weir device=cudasim:2 models=tests/golden/models

# score: both engines print the same digits however lines are batched and chunked (I6).
cat >"$DIR/lines" <<'JSON'
{"prompt_ids": [1, 4, 5, 9, 3], "response_ids": [2, 7, 8, 9, 11, 3, 1]}
{"prompt_ids": [3], "response_ids": [2, 9, 30, 31]}
{"prompt_ids": [7, 7, 7, 2, 2, 2, 1, 1], "response_ids": [5]}
JSON
score() { "$WEIR" score --model "$models/$model" --device $device --file "$DIR/lines" "$@"; }
for model in llama-gqa qwen3-norm mistral-window; do
    score --engine trainer >"$DIR/want"
    for options in "--engine rollout --chunk 1" "--engine rollout --chunk 3 --batch 2 --page 1" "--engine trainer --batch 1"; do
        # shellcheck disable=SC2086
        score $options | cmp - "$DIR/want" || fail "$model: $options prints other digits"
    done
done

# The same in bf16.
model=qwen3-norm
score --dtype bf16 --engine trainer >"$DIR/bf16"
! cmp -s "$DIR/bf16" "$DIR/want" || fail "bf16 has the digits of fp32"
score --dtype bf16 --engine rollout --chunk 2 | cmp - "$DIR/bf16" || fail "bf16: the engines differ"

# step: the numbers of ref, but for the fifth digit's rounding.
recipe=$DIR/recipe.yaml
cat >"$recipe" <<'YAML'
rollout: {group_size: 4, max_prompt_tokens: 16, max_new_tokens: 16}
trainer: {batch: {groups: 4, tokens: 64}, optimizer: {lr: 1.0e-3}}
YAML
for d in $device ref; do
    "$WEIR" step --model tests/golden/step/model --recipe "$recipe" --set "trainer.device=$d" --out "$DIR/$d" \
        --batch tests/golden/step/b0.jsonl --batch tests/golden/step/b1.jsonl 2>/dev/null |
        sed -E 's/.*"loss": ([-0-9.e]{7}).*"grad_norm": ([0-9.e]{6}).*"gac.cosine": ([-0-9.nul]{4,7}).*/\1 \2 \3/' \
            >"$DIR/numbers-$d"
done
[ "$(wc -l <"$DIR/numbers-ref")" = 2 ] || fail "no two steps: $(cat "$DIR/numbers-ref")"
paste -d ' ' "$DIR/numbers-ref" "$DIR/numbers-$device" |
    awk '{ for (i = 1; i <= 3; i++) { d = $i - $(i + 3); if (d > 2e-5 || d < -2e-5 || ($i == "null") != ($(i + 3) == "null")) exit 1 } }
         NF != 6 { exit 1 }' || fail "$(paste "$DIR/numbers-ref" "$DIR/numbers-$device")"

# A whole run of a very small model: weights through the relay, a checkpoint, an evaluation, the written model.
cp -r recipes/tiny "$DIR/tiny"
sed -E -i 's/("hidden_size"|"intermediate_size"): [0-9]+/\1: 16/; s/("num_hidden_layers"|"num_key_value_heads"): [0-9]+/\1: 1/
    s/("num_attention_heads"): [0-9]+/\1: 2/; s/("head_dim"): [0-9]+/\1: 8/' "$DIR/tiny/config.json"
small_run "$DIR/run" --set "model.path=$DIR/tiny" --set rollout.device=$device --set trainer.device=$device \
    --set rollout.workers=1 --set rollout.max_new_tokens=6 --set trainer.steps=2 --set trainer.batch.groups=2 \
    --set trainer.checkpoint.every=1 --set data.eval.limit=2 >"$DIR/json" 2>"$DIR/err" || fail "run: $(tail "$DIR/err")"
[ "$(grep -c '"rollout_logprob_abs_diff/max":0[,}]' "$DIR/json")" = 2 ] || fail "log-probs differ: $(cat "$DIR/json")"
# The rollout copied the versions within the device, unless that has no memory to share (under the address sanitizer).
if ! grep -q 'no hand-over on the device' "$DIR/run/weir.log"; then
    [ "$(grep -c ' from=device' "$DIR/run/weir.log")" -ge 2 ] || fail "no hand-over: $(grep taken_ms "$DIR/run/weir.log")"
    ! grep -qE ' from=host|through host memory' "$DIR/run/weir.log" || fail "through the host: $(grep host "$DIR/run/weir.log")"
fi
small_run "$DIR/bf16-run" --set model.dtype=bf16 --set "model.path=$DIR/tiny" --set rollout.device=$device \
    --set trainer.device=$device --set rollout.workers=1 --set rollout.max_new_tokens=6 --set trainer.steps=2 \
    --set trainer.batch.groups=2 --set data.eval.limit=2 --set relay.device_handover=off >"$DIR/json" 2>"$DIR/err" ||
    fail "bf16 run: $(tail "$DIR/err")"
[ "$(grep -c '"rollout_logprob_abs_diff/max":0[,}]' "$DIR/json")" = 2 ] || fail "bf16 log-probs differ: $(cat "$DIR/json")"
! grep -q ' from=device' "$DIR/bf16-run/weir.log" || fail "handed over although off"
"$WEIR" replay "$DIR/run" verify >"$DIR/out" 2>&1 || fail "replay: $(cat "$DIR/out")"

# Not exact: said at the start, measured in every step, and a step repeated still has the same bits.
small_run "$DIR/fast" --set model.exact=false --set model.dtype=bf16 --set "model.path=$DIR/tiny" --set rollout.device=$device \
    --set trainer.device=$device --set rollout.workers=1 --set rollout.max_new_tokens=6 --set trainer.steps=2 \
    --set trainer.batch.groups=2 --set data.eval.limit=2 >"$DIR/json" 2>"$DIR/err" || fail "exact: false: $(tail "$DIR/err")"
grep -q 'model.exact: false: on cuda each batch' "$DIR/json" || fail "not said at the start: $(head -n 1 "$DIR/json")"
[ "$(grep -c '"rollout_logprob_abs_diff/max/engine":[0-9]' "$DIR/json")" = 2 ] || fail "not measured: $(cat "$DIR/json")"
! grep -q 'disagree at equal weights' "$DIR/fast/weir.log" || fail "exact: false is warned about"
"$WEIR" replay "$DIR/fast" verify --logprobs >"$DIR/out" 2>&1 || fail "replay of exact: false: $(cat "$DIR/out")"
grep -q 'all hashes equal' "$DIR/out" || fail "$(cat "$DIR/out")"
"$WEIR" generate --model "$DIR/run/hf" --device $device --prompt 1+2= --max-tokens 4 --temperature 0 --raw >"$DIR/text" 2>"$DIR/err" ||
    fail "generate: $(cat "$DIR/err")"
no_leftovers "$DIR/run"
