#!/usr/bin/env bash
# weir generate and weir chat on a released model of 0.26 M parameters, where it is present.
set -eu
model=${WEIR_SHARED:-../shared}/models/stories260k
[ -e "$model/model.safetensors" ] || {
    echo "no $model"
    exit 77
}
fail() {
    echo "$*"
    exit 1
}
generate() { "$WEIR" generate --model "$model" --raw "$@"; }

want=", there was a little girl named Lily. She loved to play outside in the park. One day, she saw a big, red ball."
got=$(generate --prompt "Once upon a time" --temperature 0 --max-tokens 64)
[ "${got#"$want"}" != "$got" ] || fail "greedy completion is: $got"

# A sample depends on seed and number only: alone, in a batch, with other threads.
generate --prompt "Lily and" --n 5 --seed 3 --max-tokens 40 --json >"$DIR/five"
generate --prompt "Lily and" --n 70 --seed 3 --max-tokens 40 --json --threads 1 >"$DIR/many"
generate --prompt "Lily and" --seed 3 --max-tokens 40 --json >"$DIR/one"
head -n 5 "$DIR/many" | cmp - "$DIR/five" || fail "samples depend on the batch"
head -n 1 "$DIR/many" | cmp - "$DIR/one" || fail "the first sample depends on the others"
[ "$(wc -l <"$DIR/many")" = 70 ] || fail "70 samples wanted"
[ "$(generate --prompt "Lily and" --seed 3 --max-tokens 40 --n 5 | grep -c '^---$')" = 4 ] || fail "separators"

# A stop string may lie across tokens; the text ends with it.
got=$(generate --prompt "Once upon a time" --temperature 0 --stop "le gi" --max-tokens 64)
[[ $got == *"le gi"* && $got != *"girl"* ]] || fail "stop string: $got"

# Hot sampling makes stray bytes; what is written is always whole code points.
generate --prompt "Once" --temperature 5 --n 16 --max-tokens 200 >"$DIR/hot"
iconv -f UTF-8 -t UTF-8 "$DIR/hot" >/dev/null || fail "half a code point was written"

# On a terminal the shell's prompt gets a line of its own; a pipe gets the completion and nothing else.
if command -v script >/dev/null; then
    printf -v line '%q ' "$WEIR" generate --model "$model" --raw --prompt "Once" --temperature 0 --max-tokens 3
    script -qec "$line" /dev/null >"$DIR/terminal" </dev/null
    generate --prompt "Once" --temperature 0 --max-tokens 3 >"$DIR/pipe"
    [ "$(tail -c 1 "$DIR/pipe")" != "" ] || fail "a line end in a pipe"
    tr -d '\r' <"$DIR/terminal" | cmp - <(cat "$DIR/pipe" && echo) || fail "on a terminal: $(cat "$DIR/terminal")"
fi

# Limits.
if generate --prompt "Once" --max-tokens 100000 2>"$DIR/err"; then fail "100000 tokens accepted"; fi
grep -q "context of 512" "$DIR/err" || fail "$(cat "$DIR/err")"

# A conversation: one answer per line, then the end.
printf 'Once upon a time\n/clear\n\nThere was\n' |
    "$WEIR" chat --model "$model" --chat plain --max-tokens 10 --temperature 0 >"$DIR/chat"
[ -s "$DIR/chat" ] || fail "chat said nothing"
