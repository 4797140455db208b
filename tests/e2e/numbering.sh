# One numbering of steps: step n makes version n, in the terminal, metrics.jsonl, the log and every replay verb; a log whose
# texts count from 0 is brought to it; a step that differs in several ways is one step.
. tests/e2e/common.bash
run=$DIR/run
"$WEIR" run tests/e2e/small.yaml --out "$run" --set trainer.steps=3 >"$DIR/out"
want="1 2 3 "
seen() { sed -nE "$1" | tr '\n' ' '; }
[ "$(grep -oE '^step [0-9]+/3' "$DIR/out" | tail -n 1)" = "step 3/3" ] || fail "terminal: $(cat "$DIR/out")"
[ "$(seen 's/^\{"step":([0-9]+),.*/\1/p' <"$run/metrics.jsonl")" = "$want" ] || fail "metrics.jsonl"
[ "$(seen 's/.* trainer trainer step=([0-9]+) reward.*/\1/p' <"$run/weir.log")" = "$want" ] || fail "weir.log"
[ "$("$WEIR" replay "$run" list | seen 's/^step +([0-9]+) .*/\1/p')" = "$want" ] || fail "list"
[ "$("$WEIR" replay "$run" list --json | seen 's/^\{"step": ([0-9]+),.*/\1/p')" = "$want" ] || fail "list --json"
[ "$("$WEIR" replay "$run" export | sed -nE 's/.*"state": "trained", "step": ([0-9]+),.*/\1/p' | sort -nu | tr '\n' ' ')" = "$want" ] || fail "export"
[ "$("$WEIR" replay "$run" verify | seen 's/^step +([0-9]+) .*/\1/p')" = "$want" ] || fail "verify"
[ "$("$WEIR" replay "$run" verify --step 3 | seen 's/^step +([0-9]+) .*/\1/p')" = "3 " ] || fail "verify --step 3"
[ "$("$WEIR" replay "$run" export --step 1 | grep -c '"step": 1,')" = 16 ] || fail "export --step 1"
"$WEIR" replay "$run" show --trajectory 0 | grep -q "trained by step 1[: ]" || fail "show"
[ "$("$WEIR" replay "$run" retrain --out "$DIR/again" --json | seen 's/^\{"step": ?([0-9]+),.*/\1/p')" = "$want" ] || fail "retrain"
[ "$("$WEIR" replay "$run" compare "$DIR/again" --metric actor/loss --json | seen 's/^\{"step": ([0-9]+),.*/\1/p')" = "$want" ] || fail "compare"
grep -q '"eval/version": *3,' "$run/metrics.jsonl" || fail "evaluation of the last version"
[ -d "$run/checkpoints/step-3" ] || fail "checkpoints: $(ls "$run/checkpoints")"
for n in 0 4; do ! "$WEIR" replay "$run" verify --step $n >/dev/null 2>&1 || fail "there is a step $n"; done

# The metrics come back from the log as they were.
sort "$run/metrics.jsonl" >"$DIR/before"
"$WEIR" run --resume "$run" --json >"$DIR/resumed"
sort "$run/metrics.jsonl" | cmp - "$DIR/before" || fail "metrics.jsonl is another after --resume"
tail -n 1 "$DIR/resumed" | grep -q '"event": "complete", "step": 3, "steps": 3' || fail "$(tail -n 1 "$DIR/resumed")"

# Weights that differ from the trainer's and from the rollouts' hash are counted by steps.
sed -i 's/0\.001/0.002/' "$run/recipe.yaml"
rc=0
"$WEIR" replay "$run" verify >"$DIR/verify" 2>"$DIR/err" || rc=$?
[ "$rc" = 76 ] || fail "verify under another learning rate: exit $rc"
grep -q "3 of 3 steps gave other weights" "$DIR/err" || fail "$(cat "$DIR/err")"
