# The table of docs/exit-codes.md, verb by verb; what the system does not allow is named before the start.
. tests/e2e/common.bash
exits() { # exits CODE TEXT COMMAND...: ends with CODE and one line on stderr that holds TEXT
    local code=$1 text=$2 rc=0
    shift 2
    "$@" >"$DIR/out" 2>"$DIR/err" </dev/null || rc=$?
    [ "$rc" = "$code" ] || fail "$*: exit $rc, wanted $code: $(tail -n 3 "$DIR/err")"
    [ -z "$text" ] || tail -n 1 "$DIR/err" | grep -qF -- "$text" || fail "$*: \"$(cat "$DIR/err")\" lacks \"$text\""
}
small=tests/e2e/small.yaml run=$DIR/run model=tests/golden/step/model
cat >"$DIR/step.yaml" <<'YAML'
rollout: {group_size: 4, max_prompt_tokens: 16, max_new_tokens: 16}
trainer: {device: cpu, batch: {groups: 4, tokens: 64}, optimizer: {lr: 1.0e-3}}
YAML
small_run "$run" --set trainer.steps=2 --set data.eval= >/dev/null # 0, by set -e

for verb in run sft generate chat eval score step tokenize replay plan bench doctor version; do
    exits 64 "--no-such-option" "$WEIR" "$verb" --no-such-option
    exits 0 "" "$WEIR" "$verb" --help
done
exits 64 "" "$WEIR"
exits 64 "unknown verb" "$WEIR" nothing
# 64: a file that a setting or an argument names and that is not there.
exits 64 none.yaml "$WEIR" run none.yaml
exits 64 none.yaml "$WEIR" plan none.yaml
exits 64 none.yaml "$WEIR" sft --recipe none.yaml --out "$DIR/x"
exits 64 none.yaml "$WEIR" eval --model $model --recipe none.yaml
exits 64 none.yaml "$WEIR" step --model $model --recipe none.yaml --batch none.jsonl --out "$DIR/x"
exits 64 none.jsonl "$WEIR" step --model $model --recipe "$DIR/step.yaml" --batch none.jsonl --out "$DIR/x"
exits 64 none.jsonl "$WEIR" score --model $model --file none.jsonl
exits 64 /none/ "$WEIR" generate --model none --prompt x
exits 64 /none/ "$WEIR" chat --model none
exits 64 /none/ "$WEIR" bench --model none
exits 64 /none/ "$WEIR" tokenize --model none
exits 64 "not a run" "$WEIR" replay none list
exits 64 /none "$WEIR" run --resume none
exits 64 "no finished step 9" "$WEIR" replay "$run" verify --step 9
# 65: data.
mkdir "$DIR/bad"
cp recipes/tiny/*.json "$DIR/bad"
head -c 100 /dev/zero >"$DIR/bad/model.safetensors"
echo '{"prompt": 1' >"$DIR/bad.jsonl"
exits 65 model.safetensors "$WEIR" generate --model "$DIR/bad" --prompt x
exits 65 model.safetensors "$WEIR" score --model "$DIR/bad" --file "$DIR/bad.jsonl"
exits 65 "bad.jsonl line 1" "$WEIR" step --model $model --recipe "$DIR/step.yaml" --batch "$DIR/bad.jsonl" --out "$DIR/x"
exits 65 "bad.jsonl line 1" "$WEIR" run $small --set data.train.path="$DIR/bad.jsonl" --dry-run
echo '{"model_type": "gpt2"}' >"$DIR/bad/config.json"
exits 65 gpt2 "$WEIR" run $small --set model.path="$DIR/bad" --dry-run
# 69: a device that is not there, a run that another process holds.
exits 69 "rollout.device: " "$WEIR" run $small --set rollout.device=cuda:77 --dry-run
exits 69 "cuda" "$WEIR" generate --model "$run/hf" --prompt x --device cuda:77
"$WEIR" run $small --json --out "$DIR/held" --set trainer.steps=2000 --set data.eval= >/dev/null 2>&1 &
pid=$!
until grep -qs '"step":1,' "$DIR/held/metrics.jsonl"; do kill -0 "$pid" && sleep 0.02; done
exits 69 "is in use by another weir run" "$WEIR" run --resume "$DIR/held"
kill -TERM "$pid"
wait "$pid" || true
# 71: descriptors, address space.
exits 71 "ulimit -n" bash -c "ulimit -n 48; exec \"\$0\" run $small --out '$DIR/few'" "$WEIR"
# A sanitizer takes terabytes of address space, so its build cannot be asked.
grep -qE "__(asan|tsan)_init" "$WEIR" || exits 71 "ulimit -v" bash -c "ulimit -v 200000; exec \"\$0\" run $small --out '$DIR/few'" "$WEIR"
[ ! -e "$DIR/few" ] || fail "a run that is refused leaves a folder"
# 74: a disk or a stream that takes nothing.
if [ -w /dev/full ]; then
    exits 74 "standard output" bash -c "exec \"\$0\" plan $small >/dev/full" "$WEIR"
    exits 74 "standard output" bash -c "exec \"\$0\" version >/dev/full" "$WEIR"
fi
# 76: hashes that differ.
cp -r "$run" "$DIR/other"
sed -i 's/0\.001/0.002/' "$DIR/other/recipe.yaml"
exits 76 "gave other weights" "$WEIR" replay "$DIR/other" verify
exits 76 "another recipe" "$WEIR" run --resume "$DIR/other"
# The final failure of a service is the run's: its model is gone, or is damaged, when it is to go on.
cp -r recipes/tiny "$DIR/model"
"$WEIR" run $small --json --out "$DIR/broken" --set model.path="$DIR/model" --set trainer.steps=2000 --set data.eval= >"$DIR/json" 2>"$DIR/err" &
pid=$!
until grep -qs '"step":1,' "$DIR/broken/metrics.jsonl"; do kill -0 "$pid" && sleep 0.02; done
echo '{"model_type": "gpt2"}' >"$DIR/model/config.json"
kill -KILL "$(children "$pid" rollout | head -n 1)"
rc=0
wait "$pid" || rc=$?
[ "$rc" = 65 ] || fail "a service that ends with 65: the run ends with $rc: $(cat "$DIR/err")"
tail -n 1 "$DIR/json" | grep -q '"event": "failed".*"exit": 65, "error": ".*gpt2' || fail "$(tail -n 1 "$DIR/json")"
no_leftovers "$DIR/broken"
# Signals: 128 + n, and the command that goes on.
for signal in INT:130 TERM:143 HUP:129 QUIT:131 USR1:138 USR2:140 XCPU:152; do
    out=$DIR/${signal%:*}
    "$WEIR" run $small --out "$out" --set trainer.steps=2000 --set data.eval= >"$out.txt" 2>"$out.err" &
    pid=$!
    until grep -qs '"step":1,' "$out/metrics.jsonl"; do kill -0 "$pid" && sleep 0.02; done
    kill -"${signal%:*}" "$pid"
    rc=0
    wait "$pid" || rc=$?
    [ "$rc" = "${signal#*:}" ] || fail "$signal: exit $rc: $(cat "$out.err")"
    [ "$(tail -n 1 "$out.txt")" = "  $WEIR run --resume $out" ] || fail "$signal: last line: $(tail -n 1 "$out.txt")"
    grep -q "to continue: $WEIR run --resume $out" "$out.err" || fail "$signal: $(cat "$out.err")"
    no_leftovers "$out"
done
# Nobody reads the output any more.
rc=0
"$WEIR" run $small --out "$DIR/pipe" --set trainer.steps=2000 --set data.eval= 2>/dev/null > >(head -n 3 >/dev/null) || rc=$?
[ "$rc" = 141 ] || fail "a closed standard output: exit $rc"
no_leftovers "$DIR/pipe"
# nohup: SIGHUP is not for this run.
(
    trap '' HUP
    exec "$WEIR" run $small --json --out "$DIR/nohup" --set trainer.steps=100 --set data.eval=
) >"$DIR/nohup.json" 2>&1 &
pid=$!
until grep -qs '"step":1,' "$DIR/nohup/metrics.jsonl"; do kill -0 "$pid" && sleep 0.02; done
kill -HUP "$pid"
wait "$pid" || fail "SIGHUP under nohup: exit $?"
