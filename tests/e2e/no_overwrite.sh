# Nothing is written over, nothing is written elsewhere, and a printed command can be pasted into a shell.
. tests/e2e/common.bash
root=$PWD
program=$(realpath "$WEIR")
refuses() { # refuses CODE TEXT COMMAND...
    local code=$1 text=$2 rc=0
    shift 2
    "$@" >"$DIR/out" 2>"$DIR/err" </dev/null || rc=$?
    [ "$rc" = "$code" ] || fail "$*: exit $rc, wanted $code: $(cat "$DIR/err")"
    grep -qF -- "$text" "$DIR/err" || fail "$*: \"$(cat "$DIR/err")\" lacks \"$text\""
}

# A recipe's name is one part of a path.
mkdir "$DIR/work"
for name in ../../escaped a/b /abs . .. .hidden "" $'new\nline' "$(printf 'x%.0s' {1..101})"; do
    printf 'name: "%s"\n' "${name//$'\n'/\\n}" >"$DIR/name.yaml"
    tail -n +3 tests/e2e/small.yaml >>"$DIR/name.yaml"
    (refuses 64 'name: "' "$program" run "$DIR/name.yaml" --dry-run)
    (refuses 64 'name: "' "$program" plan "$DIR/name.yaml")
done

# Two runs that start in the same second get two folders.
cd "$DIR/work" || exit
sed "s|recipes/tiny|$root/recipes/tiny|" "$root/tests/e2e/small.yaml" >small.yaml
pids=()
for i in 1 2 3; do
    "$program" run small.yaml --json --set trainer.steps=1 --set data.eval= >"out$i" 2>&1 &
    pids+=($!)
done
for pid in "${pids[@]}"; do wait "$pid" || fail "one of three runs at once: $(cat out*)"; done
[ "$(find runs -mindepth 1 -maxdepth 1 | wc -l)" = 3 ] || fail "three runs, folders: $(ls runs)"
[ "$(cat runs/*/metrics.jsonl | grep -c '"step":')" = 3 ] || fail "three runs of one step each"

# What is there stays there.
"$program" run small.yaml --json --out "a 'run" --set trainer.steps=2 --set data.eval= >out
tail -n 1 out | grep -qF "\"run\": \"$PWD/a 'run\"" || fail "$(tail -n 1 out)"
refuses 64 "holds a run already; \`weir run --resume 'a '\\''run'\` continues it" "$program" run small.yaml --out "a 'run"
refuses 64 "holds a run already" "$program" run small.yaml --out "a 'run" --dry-run
mkdir -p taken/hf
echo precious >taken/hf/model.safetensors
refuses 64 "taken/hf is there already" "$program" run small.yaml --out taken
grep -q precious taken/hf/model.safetensors
[ "$(ls -A taken)" = hf ] || fail "a refused run left something: $(ls -A taken)"
cd "$root" || exit
sft() { "$WEIR" sft --recipe recipes/quickstart-sft.yaml --set trainer.steps=1 --set trainer.batch.groups=4 "$@"; }
sft --out "$DIR/sft" 2>/dev/null
sum=$(sha256sum <"$DIR/sft/model.safetensors")
refuses 64 "holds a model already" sft --set seed=5 --out "$DIR/sft"
[ "$(sha256sum <"$DIR/sft/model.safetensors")" = "$sum" ] || fail "sft wrote over a model"
sft --set seed=5 --out "$DIR/sft" --overwrite 2>/dev/null
[ "$(sha256sum <"$DIR/sft/model.safetensors")" != "$sum" ] || fail "--overwrite does nothing"
step() {
    "$WEIR" step --model tests/golden/step/model --batch tests/golden/step/b0.jsonl --recipe "$recipe" "$@"
}
recipe=$DIR/recipe.yaml
cat >"$recipe" <<'YAML'
rollout: {group_size: 4, max_prompt_tokens: 16, max_new_tokens: 16}
trainer: {device: cpu, batch: {groups: 4, tokens: 64}, optimizer: {lr: 1.0e-3}}
YAML
for file in config.json model-00001-of-00002.safetensors pytorch_model.bin tokenizer.json; do
    mkdir "$DIR/has-$file"
    echo precious >"$DIR/has-$file/$file"
    refuses 64 "holds a model already ($file)" step --out "$DIR/has-$file"
    grep -q precious "$DIR/has-$file/$file" || fail "step wrote over $file"
done

# Odd names: JSON stays JSON, and the command that is printed works as it is.
odd="$DIR/it's \"odd\" \$HOME"
"$WEIR" run tests/e2e/small.yaml --out "$odd" --set trainer.steps=300 --set data.eval= >"$DIR/odd.out" 2>"$DIR/odd.err" &
pid=$!
until grep -qs '"step":' "$odd/metrics.jsonl"; do kill -0 "$pid" && sleep 0.02; done
kill -TERM "$pid"
wait "$pid" && fail "a stopped run exits 0"
resume=$(tail -n 1 "$DIR/odd.out")
timeout 60 bash -c "${resume/run --resume/run --print-config --resume}" >"$DIR/odd.yaml" || fail "the printed command: $resume"
grep -q "^name: .*small" "$DIR/odd.yaml" || fail "the printed command ran something else"
"$WEIR" run tests/e2e/small.yaml --json --out "$odd 2" --set trainer.steps=1 --set data.eval= >"$DIR/odd.json"
tail -n 1 "$DIR/odd.json" | grep -qF '\"odd\" $''HOME 2"' || fail "not JSON: $(tail -n 1 "$DIR/odd.json")"

# A file that is not there is named by the path that was tried.
refuses 64 "$PWD/no/model is not there" "$WEIR" run tests/e2e/small.yaml --set model.path=no/model --dry-run
refuses 64 "$PWD/no.jsonl" "$WEIR" run tests/e2e/small.yaml --set data.train.path=no.jsonl --dry-run
refuses 64 "$PWD/no.yaml" "$WEIR" run no.yaml
refuses 64 "$PWD/no-run" "$WEIR" run --resume no-run
