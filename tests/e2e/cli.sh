# The command line: one clear line on stderr naming what is wrong, a non-zero exit, nothing else.
. tests/e2e/common.bash
refuses() { # refuses TEXT COMMAND...: fails with one line that holds TEXT
    local text=$1 rc=0
    shift
    "$@" >"$DIR/out" 2>"$DIR/err" </dev/null || rc=$?
    [ "$rc" != 0 ] || fail "$* exits 0"
    [ "$rc" -lt 128 ] || fail "$* died by a signal: $rc"
    [ "$(wc -l <"$DIR/err")" = 1 ] || fail "$*: wanted one line, got: $(cat "$DIR/err")"
    grep -qF -- "$text" "$DIR/err" || fail "$*: \"$(cat "$DIR/err")\" lacks \"$text\""
    [ ! -s "$DIR/out" ] || fail "$* wrote to stdout"
}
"$WEIR" --help | grep -q generate || fail "--help lists no verbs"
for verb in run sft generate chat eval score step tokenize replay plan bench doctor version; do
    "$WEIR" "$verb" --help >"$DIR/help" || fail "$verb --help"
    grep -q "usage: weir $verb" "$DIR/help" || fail "$verb --help: $(head -n 1 "$DIR/help")"
done
refuses 'known are: bench, ' "$WEIR" train
refuses 'unknown verb "evla"; the nearest is eval' "$WEIR" evla
refuses 'the nearest is replay' "$WEIR" repaly RUN list
refuses "unknown option --outt" "$WEIR" run --outt x
refuses "unknown option -x" "$WEIR" run -x
refuses "a setting goes as --set trainer.steps=5" "$WEIR" run tests/e2e/small.yaml trainer.steps=5
printf 'model: {path: recipes/tiny}\nrollout: {num_generations: 4}\n' >"$DIR/peer.yaml"
refuses "in Weir this is rollout.group_size" "$WEIR" run "$DIR/peer.yaml"
printf 'model: {path: recipes/tiny}\ntrainer: {stpes: 4}\n' >"$DIR/typo.yaml"
refuses "the nearest known one is trainer.steps" "$WEIR" run "$DIR/typo.yaml"
refuses "must be a whole number" "$WEIR" run tests/e2e/small.yaml --set trainer.steps=many --dry-run
refuses "missing.jsonl" "$WEIR" run tests/e2e/small.yaml --set data.train.path="$DIR/missing.jsonl" --dry-run
refuses "unknown" "$WEIR" run tests/e2e/small.yaml --set "reward=[{type: mathh}]" --dry-run
refuses "nowhere" "$WEIR" run tests/e2e/small.yaml --set model.path=nowhere --dry-run
refuses "cannot open" "$WEIR" run "$DIR/no-such-recipe.yaml"
# A GPU's plugin is looked up beside the executable. Without it, or without a driver, one line says what is missing.
cp "$WEIR" "$DIR/weir"
refuses "trainer.device: cuda: $DIR/weir-cuda.so: cannot open shared object file" \
    "$DIR/weir" run tests/e2e/small.yaml --set trainer.device=cuda:0 --dry-run
plugin=$(dirname "$WEIR")/weir-cuda.so
[ ! -e "$plugin" ] || cp "$plugin" "$DIR/weir-cuda.so"
if [ -e "$plugin" ] && [ ! -e /dev/nvidiactl ]; then
    refuses "rollout.device: cuda: " "$DIR/weir" run tests/e2e/small.yaml --set rollout.device=cuda:0 --dry-run
    grep -q "driver\|CUDA-capable" "$DIR/err" || fail "not the driver's message: $(cat "$DIR/err")"
fi
rm -f "$DIR/weir" "$DIR/weir-cuda.so"
env -u MAKEFLAGS -u MAKELEVEL make -n NVCC= DEPS=0 all >"$DIR/make" 2>/dev/null
grep -q "nvcc is not here: weir is built for the CPU only" "$DIR/make" || fail "no notice without nvcc"
! grep -q "weir-cuda" "$DIR/make" || fail "the plugin is built without nvcc"
refuses "context" "$WEIR" run tests/e2e/small.yaml --set rollout.max_new_tokens=4000 --dry-run
refuses "is not a run" "$WEIR" replay "$DIR" list
mkdir "$DIR/hostile"
cp recipes/tiny/*.json "$DIR/hostile"
head -c 100 /dev/urandom >"$DIR/hostile/model.safetensors"
refuses "model.safetensors" "$WEIR" generate --model "$DIR/hostile" --prompt x
"$WEIR" run tests/e2e/small.yaml --dry-run | grep -q "16 trajectories per step" || fail "no batch arithmetic"
"$WEIR" run tests/e2e/small.yaml --print-config >"$DIR/effective.yaml"
"$WEIR" run "$DIR/effective.yaml" --print-config | cmp - "$DIR/effective.yaml" || fail "--print-config does not read back"
