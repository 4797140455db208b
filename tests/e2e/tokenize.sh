#!/usr/bin/env bash
# `weir tokenize` by its pipes: answers per line, special tokens, errors that name the line.
set -eu
model=$DIR/model
mkdir "$model"
cp tests/golden/tokenizers/llama3.json "$model/tokenizer.json"
same() { [ "$1" = "$2" ] || { printf 'got  %s\nwant %s\n' "$1" "$2"; exit 1; }; }

ids=$("$WEIR" tokenize --model "$model" <<<'"the cat\u0000 <bos>\ud83d\ude00"')
same "$("$WEIR" tokenize --model "$model" --decode <<<"$ids")" '"the cat\u0000 <bos>😀"'
same "$("$WEIR" tokenize --model "$model" --decode --skip-special <<<"$ids")" '"the cat\u0000 😀"'
bos=$("$WEIR" tokenize --model "$model" <<<'"<bos>"') eos=$("$WEIR" tokenize --model "$model" <<<'"<eos>"')
framed=$("$WEIR" tokenize --model "$model" --special <<<'""')
same "$framed" "[${bos//[][]/}, ${eos//[][]/}]"
same "$("$WEIR" tokenize --model "$model" </dev/null)" ""

refuses() { # refuses EXIT TEXT INPUT ARGS...
    local rc=0 err exit=$1 text=$2 input=$3
    shift 3
    err=$(printf '%s\n' "$input" | "$WEIR" tokenize "$@" 2>&1 >/dev/null) || rc=$?
    if [ "$rc" != "$exit" ] || [[ $err != *"$text"* ]]; then
        echo "exit $rc: $err; wanted $exit: $text"
        exit 1
    fi
}
refuses 65 'stdin line 2: must be a JSON string, it is a number' $'"a"\n7' --model "$model"
refuses 65 'stdin line 1: JSON: line 1 column' '"a' --model "$model"
refuses 65 'stdin line 1: element 1 is no token id' '[1, -1]' --model "$model" --decode
refuses 64 'stdin line 3: token id 99999' $'[]\n[1]\n[99999]' --model "$model" --decode
refuses 64 'tokenizer.json' '' --model "$DIR/nowhere"
refuses 64 '--model DIR is missing' ''
printf '{"model": {"type": "WordPiece"}}' >"$model/tokenizer.json"
refuses 65 'WordPiece' '' --model "$model"
