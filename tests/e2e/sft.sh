# Supervised fine-tuning: rows left out are named first with reasons, lengths of its own, metrics and evaluation loss, and a
# fine-tuning that is interrupted or extended ends with the weights of one that was not.
. tests/e2e/common.bash
for ((i = 0; i < 300; i++)); do
    printf '{"prompt": "%d+%d=", "answer": "%d"}\n' "$i" "$((i % 7))" "$((i + i % 7))"
done >"$DIR/rows.jsonl"
printf '{"prompt": "a question that is far too long for this=", "answer": "1"}\n{"prompt": "1+1=", "answer": "an answer that is far too long"}\n' \
    >>"$DIR/rows.jsonl"
tune() { # tune OUT ARGS...
    local out=$1
    shift
    "$WEIR" sft --recipe recipes/quickstart-sft.yaml --set "data.train.path=$DIR/rows.jsonl" --set data.train.limit=0 \
        --set trainer.batch.groups=16 --set trainer.optimizer.schedule=constant --set trainer.checkpoint.every=20 \
        --set eval.every=20 --set sft.held_out=30 --out "$out" "$@"
}

tune "$DIR/whole" --set trainer.steps=60 --json >"$DIR/whole.json" 2>"$DIR/whole.err" || fail "$(cat "$DIR/whole.err")"
grep -q '^rows       270 of 302 rows of data.train used, 30 held out; 2 left out: 1 with a prompt above rollout.max_prompt_tokens 16, 1 with an answer above rollout.max_new_tokens 8; the first is row 300 with ' \
    "$DIR/whole.err" || fail "$(head -n 2 "$DIR/whole.err")"
[ "$(grep -c '"loss": ' "$DIR/whole.json")" = 60 ] || fail "--json: a line per step"
[ "$(grep -c '^{"eval/version": ' "$DIR/whole.json")" = 4 ] || fail "--json: evaluations at 0, 20, 40, 60"
[ "$(grep -c '^{"step": ' "$DIR/whole/metrics.jsonl")" = 60 ] || fail "metrics.jsonl: a line per step"
losses=$(sed -nE 's/^\{"eval\/version": ([0-9]+), "eval\/loss": ([0-9.]+), "eval\/held_out\/rows": 30,.*/\1 \2/p' "$DIR/whole/metrics.jsonl")
[ "$(cut -d' ' -f1 <<<"$losses" | paste -sd' ')" = "0 20 40 60" ] || fail "evaluations: $losses"
awk 'NR == 1 { first = $2 } END { exit !($2 < first - 1) }' <<<"$losses" || fail "the evaluation loss did not fall: $losses"
grep -q '^sft complete after 60 of 60 steps; loss .* -> .*; evaluation loss .* -> .* tokens$' "$DIR/whole.err" || fail "$(tail -n 2 "$DIR/whole.err")"

# An evaluation loss that rises again is named with its least value.
tune "$DIR/rises" --set trainer.steps=4 --set eval.every=1 --set trainer.optimizer.lr=1 --set trainer.optimizer.warmup=0 2>"$DIR/rises.err" ||
    fail "$(cat "$DIR/rises.err")"
grep -q '; evaluation loss .* -> .* (least [0-9.]* at step [0-3]); [0-9]* tokens$' "$DIR/rises.err" || fail "$(tail -n 2 "$DIR/rises.err")"
if [ ! -s "$DIR/whole/model.safetensors" ] || [ ! -d "$DIR/whole/checkpoints/step-60" ]; then fail "no model, or no checkpoint"; fi
"$WEIR" replay "$DIR/whole" compare "$DIR/whole/." --json | head -n 2 | grep -q 'actor/loss' || fail "compare does not read its metrics"

# Interrupted, killed, extended: the same bits, one line per step.
same() { # same RUN
    cmp "$DIR/whole/model.safetensors" "$1/model.safetensors" || fail "$1: another model"
    [ "$(grep -c '^{"step": ' "$1/metrics.jsonl")" = 60 ] || fail "$1: metrics"
    [ "$(sed 's/, "perf.*//' "$1/metrics.jsonl")" = "$(sed 's/, "perf.*//' "$DIR/whole/metrics.jsonl")" ] || fail "$1: other metrics"
}
for signal in INT KILL; do
    run=$DIR/$signal
    tune "$run" --set trainer.steps=60 2>"$run.err" &
    wait_for=$run/metrics.jsonl
    until grep -q '"step": 24,' "$wait_for" 2>/dev/null; do sleep 0.01; done
    pid=$(pgrep -f -- "sft .*--out $run" | tail -n 1)
    kill -"$signal" "$pid" 2>/dev/null || true
    wait || true
    [ ! -e "$run/model.safetensors" ] || echo "note: $signal came too late" >&2
    "$WEIR" sft --resume "$run" 2>"$run.err" || fail "$(cat "$run.err")"
    same "$run"
done
tune "$DIR/part" --set trainer.steps=25 2>/dev/null
"$WEIR" sft --resume "$DIR/part" --set trainer.steps=60 2>"$DIR/part.err" || fail "$(cat "$DIR/part.err")"
grep -q '^changed    trainer.steps: 25 -> 60' "$DIR/part.err" || fail "does not say what changed"
grep -v '"eval/version": 25' "$DIR/part/metrics.jsonl" >"$DIR/without" && mv "$DIR/without" "$DIR/part/metrics.jsonl"
same "$DIR/part"

refuses() { # refuses TEXT COMMAND...
    local text=$1
    shift
    ! "$@" >/dev/null 2>"$DIR/err" || fail "$* was taken"
    grep -qF -- "$text" "$DIR/err" || fail "$*: $(cat "$DIR/err") lacks $text"
}
refuses "holds a model already" tune "$DIR/whole"
refuses "trainer.optimizer.lr: 0.001 in the run, 0.1 asked for" "$WEIR" sft --resume "$DIR/whole" --set trainer.optimizer.lr=0.1
refuses "trainer.steps: 40 asked for, 60 are done" "$WEIR" sft --resume "$DIR/whole" --set trainer.steps=40
refuses "there is no sft.yaml" "$WEIR" sft --resume "$DIR"
refuses "--resume DIR goes on where it is" "$WEIR" sft --resume "$DIR/whole" --out "$DIR/x"
refuses "sft.held_out: 300 rows, but only 300 rows" tune "$DIR/x" --set sft.held_out=300
"$WEIR" sft --resume "$DIR/whole" 2>"$DIR/err"
grep -q "nothing was left to do" "$DIR/err" || fail "a complete one says nothing"

# A length of its own, prompt and answer together; rollout's limits do not matter then.
tune "$DIR/own" --set trainer.steps=2 --set sft.max_tokens=40 --set rollout.max_prompt_tokens=1 --set rollout.max_new_tokens=1 \
    2>"$DIR/own.err" || fail "$(cat "$DIR/own.err")"
grep -q '271 of 302 rows of data.train used, 30 held out; 1 left out: 1 longer than sft.max_tokens 40; the first is row 300' "$DIR/own.err" ||
    fail "$(head -n 1 "$DIR/own.err")"
[ ! -e "$DIR/x" ] || fail "a refused one left a folder"
