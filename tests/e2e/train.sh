#!/usr/bin/env bash
# weir step and weir sft from the command line: output, written model, repetition, refusals.
set -eu
model=tests/golden/step/model
recipe=$DIR/recipe.yaml
cat >"$recipe" <<'YAML'
rollout: {group_size: 4, max_prompt_tokens: 16, max_new_tokens: 16}
trainer: {device: cpu, batch: {groups: 4, tokens: 64}, optimizer: {lr: 1.0e-3}}
YAML
step() {
    "$WEIR" step --model $model --recipe "$recipe" "$@"
}
must_fail() { # must_fail EXIT TEXT COMMAND...
    local want=$1 text=$2 got=0
    shift 2
    "$@" >"$DIR/fail" 2>&1 || got=$?
    if [ "$got" != "$want" ] || ! grep -qF -- "$text" "$DIR/fail"; then
        echo "exit $got, wanted $want with: $text"
        cat "$DIR/fail"
        exit 1
    fi
}

# Two steps: two objects with the promised keys, versions 0 and 1, the same bits again.
b0=tests/golden/step/b0.jsonl b1=tests/golden/step/b1.jsonl
step --batch $b0 --batch $b1 --out "$DIR/a" >"$DIR/a.json" 2>/dev/null
step --batch $b0 --batch $b1 --out "$DIR/b" >"$DIR/b.json" 2>/dev/null
cmp "$DIR/a.json" "$DIR/b.json"
cmp "$DIR/a/model.safetensors" "$DIR/b/model.safetensors"
[ "$(wc -l <"$DIR/a.json")" = 2 ]
for key in step loss grad_norm gac.cosine gac.action clip_fraction entropy kl staleness.max weights_hash; do
    [ "$(grep -c "\"$key\": " "$DIR/a.json")" = 2 ] || { echo "no $key" && exit 1; }
done
grep -q '"step": 1' "$DIR/a.json" && grep -q '"step": 2' "$DIR/a.json"
grep -q '"gac.cosine": null' "$DIR/a.json"
[ -s "$DIR/a/config.json" ]

# The written model is where the next invocation starts: other weights, other numbers.
"$WEIR" step --model "$DIR/a" --recipe "$recipe" --batch $b1 --out "$DIR/c" >"$DIR/c.json" 2>/dev/null
grep -q '"step": 2' "$DIR/c.json"
if cmp -s "$DIR/a/model.safetensors" "$DIR/c/model.safetensors"; then exit 1; fi

# Refusals: one line, a named place, nothing written.
must_fail 65 "staler than trainer.staleness.max 4" step --batch $b0 --version 9 --out "$DIR/d"
must_fail 76 "version 1, but the weights are version 0" step --batch $b1 --version 0 --out "$DIR/d"
sed 's/"reward": 1.0/"reward": "x"/' $b0 >"$DIR/bad.jsonl"
must_fail 65 "bad.jsonl line" step --batch "$DIR/bad.jsonl" --out "$DIR/d"
must_fail 64 "none.jsonl" step --batch "$DIR/none.jsonl" --out "$DIR/d"
must_fail 64 "--batch" step --out "$DIR/d"
must_fail 64 "trainer.clip" step --batch $b0 --out "$DIR/d" --set trainer.clip=1
[ ! -e "$DIR/d" ]
"$WEIR" step --help | grep -q prompt_ids

# Supervised: the loss falls.
"$WEIR" sft --recipe recipes/quickstart-sft.yaml --set trainer.steps=12 --set trainer.batch.groups=16 \
    --set trainer.device=cpu --out "$DIR/sft" --json >"$DIR/sft.json" 2>"$DIR/sft.err"
[ "$(wc -l <"$DIR/sft.json")" = 12 ]
[ -s "$DIR/sft/model.safetensors" ] && [ -s "$DIR/sft/tokenizer.json" ]
loss() { sed -nE "$1s/.*\"loss\": ([0-9.]+),.*/\1/p" "$DIR/sft.json"; }
awk -v a="$(loss 1)" -v b="$(loss 12)" 'BEGIN { exit !(b < a - 0.5) }'
must_fail 64 "no row fits" "$WEIR" sft --recipe recipes/quickstart-sft.yaml --set rollout.max_new_tokens=1 --out "$DIR/d"
must_fail 64 "--out DIR is missing" "$WEIR" sft --recipe recipes/quickstart-sft.yaml
