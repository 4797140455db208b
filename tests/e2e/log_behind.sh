# What a run's directory holds must belong together: a log that is older than the checkpoint is an error with its remedies,
# which work; and when all checkpoints are damaged, the run is rebuilt from its log, bit for bit.
. tests/e2e/common.bash
run=$DIR/run
resume_fails() { # resume_fails CODES TEXT
    local rc=0
    timeout 60 "$WEIR" run --resume "$run" --json >"$DIR/out" 2>&1 || rc=$?
    [[ $rc =~ ^($1)$ ]] || fail "exit $rc, wanted $1: $(tail -n 3 "$DIR/out")"
    grep -qF -- "$2" "$DIR/out" || fail "not said: $2: $(tail -n 3 "$DIR/out")"
    no_leftovers "$run"
}

"$WEIR" run tests/e2e/small.yaml --json --set trainer.steps=90 --set trainer.checkpoint.every=10 \
    --set trainer.checkpoint.keep=9 --out "$run" \
    >/dev/null &
pid=$!
until grep -q '"step":24,' "$run/metrics.jsonl" 2>/dev/null; do
    kill -0 "$pid" 2>/dev/null || break
    sleep 0.02
done
kill -INT "$pid"
wait "$pid" || true
old=$("$WEIR" replay "$run" list --json | grep -c '"done": true')
[ "$old" -lt 90 ] || fail "the run was over before it could be stopped"
cp -r "$run/log" "$DIR/old"
"$WEIR" run --resume "$run" --json >/dev/null
want=$(last_hash "$run")

mv "$run/log" "$DIR/newer"
resume_fails 65 "checkpoint is step 90, but there is no log in"
cp -r "$DIR/old" "$run/log"
resume_fails 65 "checkpoint is step 90, the log ends at $old"
fits=$((old / 10 * 10))
grep -qF "rebuilds the run from the log and checkpoint step-$fits" "$DIR/out" || fail "which checkpoint fits: $(cat "$DIR/out")"

# The remedies: the log that was there, or no newer checkpoints. On policy the run ends as it did.
rm -rf "$run/log"
cp -r "$DIR/newer" "$run/log"
"$WEIR" run --resume "$run" --json >/dev/null || fail "with the newer log: $(tail -n 3 "$run/weir.log")"
rm -rf "$run/log"
cp -r "$DIR/old" "$run/log"
for c in "$run"/checkpoints/step-*; do
    [ "${c##*-}" -le "$old" ] || rm -rf "$c"
done
"$WEIR" run --resume "$run" --json >/dev/null || fail "without newer checkpoints: $(tail -n 3 "$run/weir.log")"
[ "$(last_hash "$run")" = "$want" ] || fail "rebuilt from an older log: $(last_hash "$run"), wanted $want"

# All checkpoints damaged.
for c in "$run"/checkpoints/step-*; do
    printf x >>"$c/adam_m.bin"
done
resume_fails "65|75" "checkpoints in $run/checkpoints is whole (the newest: "
grep -qF "delete them and resume: the run is rebuilt from its log" "$DIR/out" || fail "the remedy is not said: $(cat "$DIR/out")"
rm -rf "$run/checkpoints"
"$WEIR" run --resume "$run" --json >/dev/null || fail "without checkpoints: $(tail -n 3 "$run/weir.log")"
[ "$(last_hash "$run")" = "$want" ] || fail "rebuilt from the log alone: $(last_hash "$run"), wanted $want"
"$WEIR" replay "$run" verify --all >/dev/null || fail "the rebuilt run does not verify"

# A recipe that was changed by hand or emptied is refused before anything of the run is touched.
cp "$run/recipe.yaml" "$DIR/recipe.yaml"
sed -i 's/lr: 0.001/lr: 0.002/' "$run/recipe.yaml"
cp "$run/recipe.yaml" "$DIR/changed.yaml"
resume_fails 76 "was made with another recipe: recipe.yaml beside it was changed by hand"
rc=0
"$WEIR" run --resume "$run" --set trainer.steps=120 >"$DIR/out" 2>&1 || rc=$?
[ "$rc" = 76 ] || fail "extending a run with a changed recipe: exit $rc"
[ -d "$run/hf" ] || fail "a run that was refused lost its model"
cmp "$run/recipe.yaml" "$DIR/changed.yaml" || fail "a run that was refused has another recipe"
: >"$run/recipe.yaml"
resume_fails 65 "recipe.yaml: model.path is missing"
for verb in verify list; do
    rc=0
    "$WEIR" replay "$run" $verb >"$DIR/out" 2>&1 || rc=$?
    [ "$rc" = 65 ] || fail "$verb with an emptied recipe: exit $rc: $(cat "$DIR/out")"
done
cp "$DIR/recipe.yaml" "$run/recipe.yaml"

# weir.log must be a file; a part of the log that is not there is damage, with its remedy.
mv "$run/weir.log" "$DIR/weir.log"
mkfifo "$run/weir.log"
resume_fails 74 "cannot open $run/weir.log"
mv "$DIR/weir.log" "$run/weir.log"
rm "$run"/log/MANIFEST-*
resume_fails 65 "salvage\` keeps what is whole"
rc=0
"$WEIR" replay "$run" list >"$DIR/out" 2>&1 || rc=$?
[ "$rc" = 65 ] || fail "list of a damaged log: exit $rc: $(cat "$DIR/out")"
grep -q salvage "$DIR/out" || fail "list of a damaged log: no remedy: $(cat "$DIR/out")"
