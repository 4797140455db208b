#!/usr/bin/env bash
# Trainer ranks on devices: rank i of device N is device N + i. The simulated ones stand in for GPUs (0 and 1 order their
# threads differently, so bits that depend on it would show), a double for NCCL.
. tests/e2e/common.bash
[ -e "$WEIR_SIM" ] || exit 77
cp "$WEIR" "$DIR/weir"
cp "$WEIR_SIM" "$DIR/weir-cudasim.so"
WEIR=$DIR/weir
mkdir "$DIR/lib"
cp "$(dirname "$WEIR_SIM")/nccl-double.so" "$DIR/lib/libnccl.so.2"

recipe=$DIR/recipe.yaml
cat >"$recipe" <<'YAML'
rollout: {group_size: 4, max_prompt_tokens: 16, max_new_tokens: 16}
trainer: {device: "cudasim:0", batch: {groups: 4, tokens: 64}, optimizer: {lr: 1.0e-3}}
YAML
step() { # step OUT [--set ...]
    local out=$1
    shift
    "$WEIR" step --model tests/golden/step/model --batch tests/golden/step/b0.jsonl --recipe "$recipe" --out "$out" "$@"
}
value() { sed -nE "s/.*\"$2\": ([^,]*),.*/\1/p" "$1"; }

# The loss of two ranks is that of one; a step repeated is the same; the second rank's device is the next one.
export LD_LIBRARY_PATH=$DIR/lib
for dtype in fp32 bf16; do
    step "$DIR/one" --overwrite --set model.dtype=$dtype >"$DIR/one.json" 2>"$DIR/err" || fail "$(cat "$DIR/err")"
    for again in a b; do
        step "$DIR/$again" --overwrite --set model.dtype=$dtype --set trainer.ranks=2 >"$DIR/$again.json" 2>"$DIR/err" || fail "$(cat "$DIR/err")"
    done
    [ -n "$(value "$DIR/one.json" loss)" ] || fail "no loss"
    [ "$(value "$DIR/one.json" loss)" = "$(value "$DIR/a.json" loss)" ] || fail "$dtype: $(cat "$DIR/one.json" "$DIR/a.json")"
    cmp "$DIR/a.json" "$DIR/b.json" || fail "$dtype: two ranks, twice"
    cmp "$DIR/a/model.safetensors" "$DIR/b/model.safetensors" || fail "$dtype: two ranks, twice: other weights"
done
if step "$DIR/three" --set trainer.device=cudasim:1 --set trainer.ranks=3 >"$DIR/out" 2>&1; then fail "a fourth device"; fi
grep -q 'rank 2 of 3.*device 3 asked for, this machine has 3' "$DIR/out" || fail "$(cat "$DIR/out")"

# A whole run on two devices, with a rank killed; it replays.
cp -r recipes/tiny "$DIR/tiny"
sed -E -i 's/("hidden_size"|"intermediate_size"): [0-9]+/\1: 16/; s/("num_hidden_layers"|"num_key_value_heads"): [0-9]+/\1: 1/
    s/("num_attention_heads"): [0-9]+/\1: 2/; s/("head_dim"): [0-9]+/\1: 8/' "$DIR/tiny/config.json"
small_run "$DIR/run" --set "model.path=$DIR/tiny" --set model.dtype=bf16 --set rollout.device=cudasim:0 \
    --set trainer.device=cudasim:0 --set trainer.ranks=2 --set rollout.workers=1 --set rollout.max_new_tokens=6 \
    --set trainer.steps=4 --set trainer.batch.groups=2 --set trainer.checkpoint.every=1 --set data.eval.limit=2 \
    >"$DIR/json" 2>"$DIR/err" &
pid=$!
until grep -q '"step":1,' "$DIR/run/metrics.jsonl" 2>/dev/null; do
    kill -0 $pid 2>/dev/null || fail "the run ended: $(tail "$DIR/err")"
    sleep 0.05
done
trainer=$(children $pid trainer)
if [ -n "$trainer" ]; then pkill -9 -P "$trainer" || true; fi
wait $pid || fail "run: $(tail "$DIR/err")"
[ "$(grep -c '"rollout_logprob_abs_diff/max":0[,}]' "$DIR/run/metrics.jsonl")" = 4 ] || fail "log-probs differ"
"$WEIR" replay "$DIR/run" verify >"$DIR/out" 2>&1 || fail "replay: $(cat "$DIR/out")"
no_leftovers "$DIR/run"
