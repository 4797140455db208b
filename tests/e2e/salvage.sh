# Damaged logs: `weir replay RUN salvage` keeps what is whole and says what is lost, the original stays, and the run goes on
# from the newest consistent point. What was lost of a log on policy comes again: the run ends with the weights it would have
# had, as long as no finished step was lost.
. tests/e2e/common.bash
small=("$WEIR" run tests/e2e/small.yaml --json --set trainer.steps=240 --set trainer.checkpoint.every=30
    --set trainer.checkpoint.keep=9)
"${small[@]}" --out "$DIR/whole" >/dev/null
want=$(last_hash "$DIR/whole")

# A run that was stopped twice, so that it has tables and a log of writes.
stop_at() { # stop_at STEP COMMAND...
    local step=$1 pid
    shift
    "$@" >/dev/null 2>&1 &
    pid=$!
    until grep -q "\"step\":$step," "$DIR/run/metrics.jsonl" 2>/dev/null; do
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.02
    done
    kill -INT "$pid" 2>/dev/null || true
    wait "$pid" || true
}
stop_at 70 "${small[@]}" --out "$DIR/run"
stop_at 125 "$WEIR" run --resume "$DIR/run" --json
had=$("$WEIR" replay "$DIR/run" list --json | grep -c '"done": true')
[ "$had" -lt 240 ] || fail "the run was over before it could be stopped"

xor() { # xor FILE AT N: flips the bits of N bytes
    local bytes
    bytes=$(dd if="$1" bs=1 skip="$2" count="$3" status=none | od -An -v -tu1)
    for b in $bytes; do printf '%b' "\\x$(printf %02x $((b ^ 255)))"; done |
        dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}

named() { # named NAME: what cannot be opened says what mends it
    local run=$DIR/$1 verb
    for verb in "replay $run stats" "replay $run verify" "run --resume $run" "run --resume $run --set trainer.steps=250"; do
        # shellcheck disable=SC2086 # words on purpose
        "$WEIR" $verb >"$run.out" 2>&1 && fail "$verb: exit 0"
        grep -qF "weir replay $run salvage" "$run.out" || fail "$verb: $(cat "$run.out")"
    done
}

salvage() { # salvage NAME [OPTIONS]: damages are done to $DIR/NAME, the output is $DIR/NAME.out
    local run=$DIR/$1
    shift
    "$WEIR" replay "$run" salvage "$@" >"$run.out" 2>&1 || fail "salvage of $run: $(cat "$run.out")"
}

finish() { # finish NAME [verify]: it runs to its end
    "$WEIR" run --resume "$DIR/$1" --json >"$DIR/$1.json" 2>&1 ||
        fail "$1: resume: $(tail -n 2 "$DIR/$1.json") $(cat "$DIR/$1.out")"
    [ "$("$WEIR" replay "$DIR/$1" list --json | grep -c '"done": true')" = 240 ] || fail "$1: not 240 steps"
    [ -z "${2:-}" ] || "$WEIR" replay "$DIR/$1" verify --all >/dev/null || fail "$1: does not verify"
}

largest() { # largest NAME SUFFIX: of the files of its log
    find "$DIR/$1/log" -name "*.$2" -printf '%s %p\n' | sort -n | tail -n 1 | cut -d' ' -f2-
}

# Nothing is damaged: all is kept, and the copy is a run of its own.
salvage run --out "$DIR/copy"
grep -q "every record is whole" "$DIR/run.out" || fail "whole: $(cat "$DIR/run.out")"
grep -q "^$had of $had finished steps are kept" "$DIR/run.out" || fail "whole: $(cat "$DIR/run.out")"
finish copy verify
[ "$(last_hash "$DIR/copy")" = "$want" ] || fail "a copy of a whole log ends with other weights"

# The list of tables is lost, or which one counts.
for what in MANIFEST CURRENT; do
    cp -r "$DIR/run" "$DIR/$what"
    rm "$DIR/$what"/log/$what*
    named "$what"
    salvage "$what"
    grep -q "^$had of $had finished steps are kept" "$DIR/$what.out" || fail "$what: $(cat "$DIR/$what.out")"
    [ -d "$DIR/$what/log.damaged" ] || fail "$what: the original is gone"
    finish "$what" verify
    [ "$(last_hash "$DIR/$what")" = "$want" ] || fail "$what: other weights at the end"
done

# Bytes of the largest table, at its begin, in its middle and at its end; a table cut in half; the log of writes damaged in its
# middle, and cut.
for at in 0 4 8 cut; do
    cp -r "$DIR/run" "$DIR/table-$at"
    file=$(largest "table-$at" sst)
    size=$(stat -c %s "$file")
    case $at in
    cut) truncate -s $((size / 2)) "$file" ;;
    *) xor "$file" $((size * at / 10 + 40)) 64 ;;
    esac
    salvage "table-$at"
    grep -q "finished steps are kept" "$DIR/table-$at.out" || fail "table-$at: $(cat "$DIR/table-$at.out")"
    finish "table-$at"
done
for at in middle cut; do
    cp -r "$DIR/run" "$DIR/writes-$at"
    file=$(largest "writes-$at" log)
    size=$(stat -c %s "$file")
    [ "$size" -gt 1000 ] || continue
    if [ "$at" = cut ]; then truncate -s $((size / 3)) "$file"; else xor "$file" $((size / 2)) 64; fi
    salvage "writes-$at"
    finish "writes-$at"
done
