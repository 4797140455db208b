# A service's end is a death whatever signal it was: it is started again before the first step, in the middle and at the end,
# the run is complete only with all its steps and its model, the weights are those of the undisturbed run, and the restarts are
# counted. A frozen service is named, and goes on when it is let.
. tests/e2e/common.bash
steps=40
services="manager relay reward trainer rollout-1 evaluator"

service_pid() { # service_pid SUPERVISOR NAME
    local p
    for p in $(pgrep -P "$1" 2>/dev/null); do
        { tr '\0' ' ' <"/proc/$p/cmdline"; } 2>/dev/null | grep -qE -- "--name $2 $" && echo "$p" && return
    done
    return 0
}
wait_pid() { # wait_pid SUPERVISOR NAME [NOT]: the service's pid, another one than NOT
    local p
    until p=$(service_pid "$1" "$2") && [ -n "$p" ] && [ "$p" != "${3:-}" ]; do
        kill -0 "$1" 2>/dev/null || return 1
        sleep 0.02
    done
    echo "$p"
}
wait_step() { # wait_step RUN SUPERVISOR STEP
    until grep -qs "\"step\":$3," "$1/metrics.jsonl"; do
        kill -0 "$2" 2>/dev/null || return 1
        sleep 0.02
    done
}

small_run "$DIR/whole" --set trainer.steps=$steps >/dev/null
want=$(last_hash "$DIR/whole")
for signal in TERM HUP KILL; do
    run=$DIR/$signal
    "$WEIR" run tests/e2e/small.yaml --json --out "$run" --set trainer.steps=$steps >"$run.json" 2>"$run.err" &
    pid=$!
    sent=0 at=3
    for name in $services; do # before the first step
        kill -$signal "$(wait_pid "$pid" "$name")" 2>/dev/null && sent=$((sent + 1))
    done
    for name in $services; do # in the middle
        wait_step "$run" "$pid" $at || fail "$signal: the run ended before step $at: $(cat "$run.err")"
        kill -$signal "$(wait_pid "$pid" "$name")" 2>/dev/null && sent=$((sent + 1))
        at=$((at + 6))
    done
    wait_step "$run" "$pid" $steps # at the end: the trainer writes its model, the evaluator is at work
    for name in trainer relay evaluator manager; do
        p=$(service_pid "$pid" "$name")
        [ -n "$p" ] && kill -$signal "$p" 2>/dev/null && sent=$((sent + 1))
    done
    wait "$pid" || fail "$signal: exit $?: $(cat "$run.err") $(tail -n 5 "$run/weir.log")"
    [ "$(last_hash "$run")" = "$want" ] || fail "$signal: other weights than undisturbed"
    [ -s "$run/hf/model.safetensors" ] || fail "$signal: complete without a model"
    [ "$(grep -c '"step":' "$run/metrics.jsonl")" = $steps ] || fail "$signal: metrics.jsonl"
    grep -q "\"eval/version\": *$steps," "$run/metrics.jsonl" || fail "$signal: the last version was not evaluated"
    tail -n 1 "$run.json" | grep -q "\"event\": \"complete\", \"step\": $steps, \"steps\": $steps" || fail "$signal: $(tail -n 1 "$run.json")"
    for name in $services; do
        tail -n 1 "$run.json" | grep -q "\"$name\": [1-9]" || fail "$signal: $name is not among the restarts: $(tail -n 1 "$run.json")"
        grep -q "info run deploy service=$name ended=\"signal " "$run/weir.log" || fail "$signal: no word of $name in weir.log"
    done
    no_leftovers "$run"
    echo "SIG$signal: $sent sent, $(tail -n 1 "$run.json")"
done

# Every service frozen once: said, and nothing is lost.
run=$DIR/STOP at=2
"$WEIR" run tests/e2e/small.yaml --out "$run" --set trainer.steps=$steps --set rollout.heartbeat_ms=50 >"$run.out" 2>"$run.err" &
pid=$!
for name in rollout-1 manager relay reward trainer evaluator; do
    wait_step "$run" "$pid" $at || fail "STOP: the run ended before step $at"
    p=$(wait_pid "$pid" "$name")
    kill -STOP "$p"
    until grep -q "service=$name pid=$p frozen=" "$run/weir.log"; do sleep 0.02; done
    if [ "$name" = rollout-1 ]; then # its work goes to the other one, so the run goes on without it
        until grep -q "lost rollout-1: silent" "$run/weir.log"; do
            kill -0 "$pid" || fail "STOP: nothing said of a rollout that is silent"
            sleep 0.02
        done
    fi
    kill -CONT "$p"
    until grep -q "service=$name goes_on_after_s=" "$run/weir.log"; do sleep 0.02; done
    at=$((at + 5))
done
wait "$pid" || fail "STOP: exit $?: $(cat "$run.err")"
[ "$(last_hash "$run")" = "$want" ] || fail "STOP: other weights than undisturbed"
grep -q "manager (pid [0-9]*) was frozen by signal" "$run.out" || fail "STOP: nothing said of the manager: $(cat "$run.out")"
no_leftovers "$run"

# A frozen service does not hold up a stop.
run=$DIR/frozen
"$WEIR" run tests/e2e/small.yaml --out "$run" --set trainer.steps=$steps >"$run.out" 2>"$run.err" &
pid=$!
wait_step "$run" "$pid" 3
kill -STOP "$(wait_pid "$pid" trainer)" "$(wait_pid "$pid" manager)"
kill -TERM "$pid"
rc=0
wait "$pid" || rc=$?
[ "$rc" = 143 ] || fail "frozen: exit $rc"
no_leftovers "$run"

# All services get the signal first, then the supervisor, as from a scheduler: the whole run is interrupted.
run=$DIR/group
"$WEIR" run tests/e2e/small.yaml --json --out "$run" --set trainer.steps=$steps >"$run.json" 2>"$run.err" &
pid=$!
wait_step "$run" "$pid" 3
mapfile -t all < <(pgrep -P "$pid")
kill -TERM "${all[@]}"
kill -TERM "$pid"
rc=0
wait "$pid" || rc=$?
[ "$rc" = 143 ] || fail "group: exit $rc: $(cat "$run.err")"
tail -n 1 "$run.json" | grep -q '"event": "stopped".*"exit": 143, "signal": 15' || fail "group: $(tail -n 1 "$run.json")"
no_leftovers "$run"
"$WEIR" run --resume "$run" --json >"$run.json" || fail "group: resume"
[ "$(last_hash "$run")" = "$want" ] || fail "group: other weights than undisturbed"
