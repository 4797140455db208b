# Every recipe in recipes/ passes `weir run --dry-run`, on a random model of its family that is tiny, a few rows of
# its data's shape, and the devices that this machine has: keys, values, chat format, rewards and template are the recipe's own.
. tests/e2e/common.bash

# Qwen3's shape and special tokens over the alphabet of bytes of recipes/tiny.
mkdir "$DIR/qwen3"
cat >"$DIR/qwen3/config.json" <<'JSON'
{"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "hidden_size": 64, "intermediate_size": 128,
 "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 263,
 "max_position_embeddings": 40960, "rms_norm_eps": 1e-06, "rope_theta": 1000000, "hidden_act": "silu",
 "tie_word_embeddings": true, "bos_token_id": 258, "eos_token_id": 260}
JSON
added=
id=258
for token in '<|endoftext|>' '<|im_start|>' '<|im_end|>' '<think>' '</think>'; do
    added="$added{\"id\": $id, \"content\": \"$token\", \"single_word\": false, \"lstrip\": false, \"rstrip\": false, \"normalized\": false, \"special\": true},"
    id=$((id + 1))
done
sed "s#^\"added_tokens\": \[#&$added#" recipes/tiny/tokenizer.json >"$DIR/qwen3/tokenizer.json"
echo '{"eos_token": "<|im_end|>", "add_bos_token": false}' >"$DIR/qwen3/tokenizer_config.json"

cp -r recipes/tiny "$DIR/stories"
sed -i 's/"max_position_embeddings": 128/"max_position_embeddings": 512/' "$DIR/stories/config.json"

for ((i = 1; i <= 300; i++)); do
    printf '{"question": "Ann has %d apples and buys %d more. How many has she?", "answer": "%d + %d = %d\\n#### %d"}\n' \
        "$i" "$i" "$i" "$i" $((2 * i)) $((2 * i))
done >"$DIR/gsm8k.jsonl"
for ((i = 1; i <= 300; i++)); do
    echo "{\"prompt\": [{\"role\": \"user\", \"content\": \"What is $i+$i?\"}], \"reward_model\": {\"ground_truth\": \"$((2 * i))\"}}"
done >"$DIR/dapo.jsonl"

stand_ins() { # stand_ins RECIPE: --set arguments, one a line, for what a recipe names and this machine lacks
    printf '%s\n' rollout.device=cpu trainer.device=cpu
    grep -q 'chat: qwen3' "$1" && printf '%s\n' model.path="$DIR/qwen3" model.weights=random
    grep -q 'path: build/quickstart/base' "$1" && printf '%s\n' model.path=recipes/tiny model.weights=random
    grep -q 'path: stories260k' "$1" &&
        printf '%s\n' model.path="$DIR/stories" model.weights=random rollout.max_prompt_tokens=64 # a token is a byte here
    grep -q 'data/gsm8k/train' "$1" && printf '%s\n' data.train.path="$DIR/gsm8k.jsonl"
    grep -q 'data/gsm8k/test' "$1" && printf '%s\n' data.eval.path="$DIR/gsm8k.jsonl"
    grep -q 'data/dapo/' "$1" && printf '%s\n' data.train.path="$DIR/dapo.jsonl"
    return 0
}

n=0
for recipe in recipes/*.yaml; do
    mapfile -t sets < <(stand_ins "$recipe" | sed 's/^/--set=/')
    if grep -q 'weir sft --recipe' "$recipe"; then
        "$WEIR" sft --recipe "$recipe" --out "$DIR/sft" --overwrite "${sets[@]}" --set trainer.steps=1 \
            --set data.train.limit=300 >"$DIR/out" 2>&1 || fail "$recipe: $(cat "$DIR/out")"
    else
        "$WEIR" run "$recipe" --dry-run "${sets[@]}" >"$DIR/out" 2>&1 || fail "$recipe: $(cat "$DIR/out")"
        ! grep -i 'warning' "$DIR/out" || fail "$recipe: warns"
        rc=0
        "$WEIR" run "$recipe" --dry-run --set model.path="$DIR/nowhere" >"$DIR/out" 2>&1 || rc=$?
        [ "$rc" = 64 ] || [ "$rc" = 69 ] || fail "$recipe: without its model exits $rc: $(cat "$DIR/out")"
    fi
    n=$((n + 1))
done
[ "$n" -ge 9 ] || fail "only $n recipes"
