# The commands of docs/tutorial.md (its blocks of sh), run as they are written, in a folder that looks like a checkout.
. tests/e2e/common.bash
awk '/^```/ { on = $0 == "```sh"; next } on' docs/tutorial.md >"$DIR/commands.sh"
[ "$(grep -c '^\./weir' "$DIR/commands.sh")" -ge 10 ] || fail "no commands in the tutorial"
ln -s "$PWD/recipes" "$DIR/recipes"
ln -s "$(realpath "$WEIR")" "$DIR/weir"
(cd "$DIR" && bash -eu -o pipefail commands.sh >said 2>&1) || fail "$(tail -n 20 "$DIR/said")"
for line in 'complete after 100 of 100 steps' '100 steps re-executed, all hashes equal' '100 steps, 51200 trajectories' \
    'complete after 120 of 120 steps'; do
    grep -qF "$line" "$DIR/said" || fail "nothing says: $line"
done
right=$(sed -nE 's/^eval at version 100: test ([0-9.]+) .*/\1/p' "$DIR/said" | tail -n 1)
awk -v r="${right:-0}" 'BEGIN { exit !(r > 0.8) }' || fail "accuracy ${right:-unknown} after 100 steps"
no_leftovers "$DIR/build/sort/run"
