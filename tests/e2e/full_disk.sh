# A full disk stops the run with one clear error and loses nothing: with space made, --resume goes on to the weights of the
# undisturbed run. Needs root for a small tmpfs.
. tests/e2e/common.bash
disk=$DIR/disk
mkdir "$disk"
mount -t tmpfs -o size=14m tmpfs "$disk" 2>/dev/null || {
    echo "cannot mount a tmpfs here"
    exit 77
}
trap 'umount -l "$disk"' EXIT
small_run "$DIR/whole" --set trainer.steps=60 >/dev/null
want=$(last_hash "$DIR/whole")
rc=0
small_run "$disk/run" --set trainer.steps=60 >"$DIR/out" 2>"$DIR/err" || rc=$?
[ "$rc" != 0 ] || fail "a run on a full disk exits 0"
grep -q "No space left on device" "$DIR/err" || fail "no word of the full disk: $(cat "$DIR/err")"
mount -o remount,size=200m "$disk"
"$WEIR" run --resume "$disk/run" --json >/dev/null || fail "resume: $(tail -n 3 "$disk/run/weir.log")"
got=$(last_hash "$disk/run")
[ "$want" = "$got" ] || fail "undisturbed $want, after a full disk $got"
no_leftovers "$disk/run"
