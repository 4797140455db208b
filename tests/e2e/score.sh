#!/usr/bin/env bash
# weir score: both engines print the same digits however the lines are batched (I6), and a bad line
# is refused with a message that names line, field and limit.
set -eu
models=tests/golden/models
fail() {
    echo "$*"
    exit 1
}

awk -v lines=64 -f tests/score_lines.awk >"$DIR/lines"

for model in llama-gqa mistral-window qwen2-tied qwen3-norm; do
    score() { "$WEIR" score --model "$models/$model" "$@"; }
    score --file "$DIR/lines" >"$DIR/want"
    [ "$(wc -l <"$DIR/want")" = 64 ] || fail "$model: 64 lines in, $(wc -l <"$DIR/want") out"
    for options in "--chunk 1" "--chunk 3 --batch 2" "--chunk 40 --page 1" "--chunk 7 --threads 1 --page 5" \
        "--batch 8 --pages 26 --page 1"; do
        for engine in rollout trainer; do
            # shellcheck disable=SC2086
            score --engine "$engine" $options <"$DIR/lines" >"$DIR/got"
            cmp -s "$DIR/want" "$DIR/got" || fail "$model: --engine $engine $options prints other digits"
        done
    done
    score --device ref --engine trainer <"$DIR/lines" >"$DIR/ref" # another backend: bits of its own
    score --device ref --engine rollout --batch 5 <"$DIR/lines" | cmp -s "$DIR/ref" - ||
        fail "$model: the engines differ on ref"
    sed -n 7p "$DIR/lines" | score --engine rollout >"$DIR/got"
    [ "$(cat "$DIR/got")" = "$(sed -n 7p "$DIR/want")" ] || fail "$model: line 7 alone prints other digits"
done

refused() { # refused LINE PART...
    local line=$1
    shift
    if printf '{"prompt_ids": [1], "response_ids": [2]}\n%s\n' "$line" |
        "$WEIR" score --model "$models/llama-gqa" --engine rollout >"$DIR/out" 2>"$DIR/err"; then
        fail "accepted: $line"
    fi
    [ "$(wc -l <"$DIR/err")" = 1 ] || fail "more than one line: $(cat "$DIR/err")"
    for part in "line 2" "$@"; do
        grep -qF "$part" "$DIR/err" || fail "$line: the message lacks \"$part\": $(cat "$DIR/err")"
    done
}
refused '{"prompt_ids": [], "response_ids": [1]}' prompt_ids empty
refused '{"response_ids": [1]}' prompt_ids missing
refused '{"prompt_ids": [1]}' response_ids missing
refused '{"prompt_ids": 3, "response_ids": [1]}' prompt_ids array
refused '{"prompt_ids": [1, 9999999], "response_ids": [1]}' 'prompt_ids[1]' 'from 0 to'
refused '{"prompt_ids": [1], "response_ids": [-1]}' 'response_ids[0]' 'from 0 to'
refused '{"prompt_ids": [1], "response_ids": [1.5]}' 'response_ids[0]'
refused '{"prompt_ids": [1], "response_ids": ["a"]}' 'response_ids[0]'
refused '{"prompt_ids": [1], "response_ids": [99999999999999999999]}' 'response_ids[0]'
refused '[1, 2]' object
refused '{"prompt_ids": [1' "line 2"
long=$(printf '1, %.0s' $(seq 300))1
refused "{\"prompt_ids\": [$long], \"response_ids\": [1]}" context
# Weights that are not numbers are an error, not a null.
cp -r "$models/llama-gqa" "$DIR/nan"
size=$(stat -c %s "$DIR/nan/model.safetensors")
printf '\377\377\377\177' | dd of="$DIR/nan/model.safetensors" bs=1 seek=$((size - 4)) conv=notrunc status=none
for engine in trainer rollout; do
    if printf '{"prompt_ids": [1], "response_ids": [2]}\n' |
        "$WEIR" score --model "$DIR/nan" --engine "$engine" >"$DIR/out" 2>"$DIR/err"; then
        fail "$engine: scored with weights that are not numbers"
    fi
    grep -q "finite" "$DIR/err" || fail "$engine: $(cat "$DIR/err")"
    [ ! -s "$DIR/out" ] || fail "$engine: wrote $(cat "$DIR/out")"
done
