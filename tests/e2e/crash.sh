# A service that dies by a fault leaves a report with its name, in the log and in a file of its own; the run goes on as after
# any death, with the same weights. WEIR_LOG=debug shows the messages of every service.
. tests/e2e/common.bash

small_run "$DIR/whole" >/dev/null
for name in rollout-1 trainer manager; do
    run=$DIR/$name
    WEIR_LOG=debug "$WEIR" run tests/e2e/small.yaml --json --out "$run" >"$run.json" 2>"$run.err" &
    pid=$!
    until grep -qs '"step":3,' "$run/metrics.jsonl"; do
        kill -0 "$pid" 2>/dev/null || fail "$name: the run ended before step 3: $(cat "$run.err")"
        sleep 0.02
    done
    for victim in $(children "$pid" ".*"); do
        tr '\0' ' ' <"/proc/$victim/cmdline" | grep -q -- "--name $name " && break
    done
    kill -SEGV "$victim"
    wait "$pid" || fail "$name: exit $?: $(cat "$run.err") $(tail -n 5 "$run/weir.log")"
    report=$run/crash-$name-$victim.txt
    [ -s "$report" ] || fail "$name: no report among $(ls "$run")"
    grep -q "^--- crash of $name$" "$report" || fail "$name: not its name: $(cat "$report")"
    grep -q "^signal: SIGSEGV sent by process $$" "$report" || fail "$name: not the signal: $(cat "$report")"
    grep -q "^step: [0-9]" "$report" || fail "$name: not its step: $(cat "$report")"
    grep -q " debug $name net received=" "$report" || fail "$name: not its log: $(cat "$report")"
    grep -q "(+0x[0-9a-f]*)" "$report" || fail "$name: no stack: $(cat "$report")"
    grep -q "^--- crash of $name$" "$run/weir.log" || fail "$name: no report in weir.log"
    grep -q "service=$name ended=\"signal 11 " "$run/weir.log" || fail "$name: its death is not in weir.log"
    [ "$(last_hash "$run")" = "$(last_hash "$DIR/whole")" ] || fail "$name: other weights than undisturbed"
    no_leftovers "$run"
done
cat "$report"

# A word that is no level is said, not guessed at.
WEIR_LOG=loud "$WEIR" version 2>&1 | grep -q "WEIR_LOG=loud: known are error, warn, info, debug" || fail "WEIR_LOG=loud"
