# What a run refuses, `weir run --dry-run` and `weir plan` refuse in the same words, before anything is started; what it warns
# about, all three say.
. tests/e2e/common.bash
cat >"$DIR/r.yaml" <<'YAML'
name: preflight
model: {path: recipes/tiny, weights: random, chat: plain}
data: {train: {path: rows.jsonl}}
rollout: {group_size: 2, max_prompt_tokens: 64, max_new_tokens: 4, concurrency: 8}
reward: [{type: gsm8k}]
trainer: {steps: 1, batch: {groups: 4, tokens: 256}, staleness: {max: 0}}
YAML
verb() { # verb HOW ARGS...: the recipe as a dry run, a plan or a real run
    local how=$1
    shift
    set -- "$DIR/r.yaml" --set data.train.path="$DIR/rows.jsonl" "$@"
    case $how in
    dry-run) "$WEIR" run "$@" --dry-run ;;
    json) "$WEIR" run "$@" --dry-run --json ;;
    plan) "$WEIR" plan "$@" ;;
    run) "$WEIR" run "$@" --out "$DIR/run" ;;
    esac
}
check() { # check TEXT ARGS...: all three refuse with one line that holds TEXT, and leave nothing behind
    local text=$1 rc said=
    shift
    for how in dry-run plan run; do
        rc=0
        verb $how "$@" >"$DIR/out" 2>"$DIR/err" </dev/null || rc=$?
        [ "$rc" = 64 ] || [ "$rc" = 65 ] || fail "$how $* exits $rc: $(cat "$DIR/err")"
        grep -qF -- "$text" "$DIR/err" || fail "$how $*: \"$(cat "$DIR/err")\" lacks \"$text\""
        [ "$(cat "$DIR/out" "$DIR/err" | wc -l)" = 1 ] || fail "$how $*: more than a line: $(cat "$DIR/out" "$DIR/err")"
        [ ! -e "$DIR/run" ] || fail "$how $*: the run was started"
        [ -z "$said" ] || [ "$rc" = "$said" ] || fail "$how $*: exits $rc, others $said"
        said=$rc
    done
}
warns() { # warns TEXT ARGS...: the start says TEXT, whoever asks
    local text=$1
    shift
    for how in dry-run plan json; do
        verb $how "$@" >"$DIR/out" 2>&1 || fail "$how $*: $(cat "$DIR/out")"
        grep -qF -- "$text" "$DIR/out" || fail "$how $*: no \"$text\" in $(cat "$DIR/out")"
    done
}
rows() { # rows N [LINE ROW]...: N good rows, some lines replaced
    local n=$1
    shift
    for ((i = 1; i <= n; i++)); do echo "{\"prompt\": \"$i+$i=\", \"answer\": \"$((2 * i))\"}"; done >"$DIR/rows.jsonl"
    while [ $# -gt 0 ]; do
        printf '%s\n' "$2" >"$DIR/row"
        sed -i -e "$1r $DIR/row" -e "$1d" "$DIR/rows.jsonl"
        shift 2
    done
}
long=$(printf 'x%.0s' $(seq 89))

# A folder that is not there, also where it would not be used.
rows 8
check "nowhere" --set "trainer.algorithm.kl.reference=$DIR/nowhere"

# Rows.
rows 3
check "3 rows, trainer.batch.groups is 4: a batch takes a row once"
rows 49 41 "{\"prompt\": \"$long\", \"answer\": \"1\"}"
check "1 of 49 rows is longer than rollout.max_prompt_tokens 64: line 41 has 90 tokens; rollout.max_prompt_tokens: 90 takes all"
warns "warning: data.train: left out when drawn (bad_rows: skip): 1 of 49 rows is longer" --set data.train.bad_rows=skip
warns "preflight" --set rollout.max_prompt_tokens=90
rows 20 3 '{"prompt": "1", "answer": ""}' 7 '{"prompt": "1"}' 9 '{"prompt": "1", "answer": null}' 12 '{"prompt": "1", "answer": "  "}'
check "4 of 20 rows have no reference answer, which the reward needs: lines 3, 7, 9, ..."
warns "preflight" --set 'reward=[{type: finished}]'
rows 20 2 '{"prompt": "1", "answer": "two"}' 20 '{"prompt": "1", "answer": "2 or 3"}'
check '2 of 20 rows have a reference answer that the reward cannot read: lines 2 (gsm8k: the reference answer "two" does not'
rows 20
check "4 rows, trainer.batch.groups is 5" --set data.train.limit=4 --set trainer.batch.groups=5
rows 4 1 "{\"prompt\": \"$long\", \"answer\": \"1\"}"
check "3 rows that can be used, trainer.batch.groups is 4" --set data.train.bad_rows=skip
rows 5 2 '{"prompt": "1", "answer": "1", "prompt": "2"}'
check 'rows.jsonl line 2 column 32: the key "prompt" is there twice'
rows 5 5 '{"prompt": "a\u0000b", "answer": "1"}'
check 'rows.jsonl line 5 column 20: \u0000'
rows 8 4 '{"prompt": [{"role": "User", "content": "1"}], "answer": "1"}'
check '1 of 8 rows cannot be made a prompt in the chat format plain: line 4 (message 0 has the role "User"'
rows 8
check 'no row has the key "solution" (data answer key); the first has "prompt", "answer"' --set data.train.answer=solution
check 'has no {prompt}: every prompt would be this same text' --set 'data.train.template=Solve it.'
check "data.eval[0]" --set "data.eval=[{path: $DIR/rows.jsonl, answer: prompt}]"

# Prompts made of other tokens than meant.
rows 8 2 '{"prompt": "<s>1+1=", "answer": "2"}' 5 '{"prompt": "what is </s>?", "answer": "2"}' \
    6 '{"prompt": [{"role": "user", "content": "1"}, {"role": "assistant", "content": "2"}], "answer": "2"}'
warns "1 of 8 rows begins with the token that begins every prompt, so it is there twice: line 2"
warns "2 of 8 rows spell special tokens in the text, which become those tokens (data.train.special: text or error): lines 2 (<s>), 5 (</s>)"
warns "1 of 8 rows ends with a message of the assistant: the answer is in the prompt: line 6"
check "lines 2 (the text holds the special token <s> (special: error)), 5" --set data.train.special=error
verb plan --set data.train.special=text >"$DIR/out"
! grep -q "special\|twice" "$DIR/out" || fail "special: text still warns: $(cat "$DIR/out")"
"$WEIR" sft --recipe "$DIR/r.yaml" --out "$DIR/sft" --set data.train.path="$DIR/rows.jsonl" >"$DIR/out" 2>&1 || fail "sft: $(cat "$DIR/out")"
grep -q "2 of 8 rows spell special tokens" "$DIR/out" || fail "sft says nothing: $(cat "$DIR/out")"
rows 8
rc=0
verb dry-run --set model.chat=llama3 >"$DIR/out" 2>&1 || rc=$?
[ "$rc" = 64 ] || fail "a chat format without its tokens exits $rc"
grep -q "the chat format llama3 needs the token <|start_header_id|>" "$DIR/out" || fail "$(cat "$DIR/out")"
check "enable_thinking is no argument of the chat format plain" --set model.chat_template_kwargs.enable_thinking=false
check "chat_template_kwargs.thinking" --set model.chat_template_kwargs.thinking=false

# Settings.
check 'unknown type "mathh"; the nearest known one is "math"' --set 'reward=[{type: mathh}]'
check "must not be above max_tokens 4" --set 'reward=[{type: length, buffer_tokens: 12}]'
check "what fits is for example rollout.max_prompt_tokens: 64 with rollout.max_new_tokens: 64" --set rollout.max_new_tokens=100
check "eval.max_new_tokens 128 leaves no prompt any room" --set eval.max_new_tokens=128 --set data.eval.path=builtin:addition
check "rollout.stop[0] has 0 bytes" --set 'rollout.stop=[""]'
check "trajectories in flight, at most" --set trainer.staleness.max=1024 --set rollout.group_size=1024 --set rollout.concurrency=1024

# And what is accepted runs: the rows that cannot be used are left out.
rows 12 3 "{\"prompt\": \"$long\", \"answer\": \"1\"}"
verb run --set data.train.bad_rows=skip >"$DIR/out" || fail "$(tail -n 3 "$DIR/run/weir.log")"
no_leftovers "$DIR/run"
