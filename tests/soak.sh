#!/usr/bin/env bash
# A long asynchronous run of the small recipe: tests/soak.sh [SECONDS = 1800] [WEIR = ./weir]. The first half is undisturbed: no
# service may grow from a quarter of that time on. In the second half services are killed at random. At the end the run is
# stopped, continued by one step, its log complete, and its newest step repeats bit for bit.
set -u
cd "$(dirname "$0")/.." || exit 1
seconds=${1:-1800}
export WEIR=${2:-./weir} DIR
DIR=$(mktemp -d /tmp/weir-soak-XXXXXX)
. tests/e2e/common.bash
pid=
finish() {
    [ -n "$pid" ] && kill -9 "$pid" 2>/dev/null
    rm -rf "$DIR"
}
trap finish EXIT
run=$DIR/run

memory() { # "NAME KIB" of each service
    local p
    for p in $(pgrep -P "$pid"); do
        echo "$(tr '\0' ' ' <"/proc/$p/cmdline" | sed -nE 's/.*--name ([^ ]+) $/\1/p') $(ps -o rss= -p "$p")"
    done | sort
}

"$WEIR" run tests/e2e/small.yaml --out "$run" --set trainer.steps=10000000 --set trainer.staleness.max=4 \
    --set trainer.checkpoint.every=50 --set rollout.workers=3 >"$DIR/out" 2>&1 &
pid=$!
sleep $((seconds / 8))
memory >"$DIR/early"
sleep $((seconds * 3 / 8))
memory >"$DIR/late"
join "$DIR/early" "$DIR/late" | awk '{ print $1 ": " $2 " KiB, later " $3 " KiB" } $3 > $2 * 1.3 + 8192 { grown = 1 } END { exit grown }' ||
    fail "a service grows"
kill_while_running "$pid" "rollout|relay|reward|trainer|manager" 3 >"$DIR/kills" &
sleep $((seconds / 2))
kill "$pid"
wait
steps=$("$WEIR" replay "$run" list --json | grep -c '"done": true')
echo "$(cat "$DIR/kills") kills, $steps steps"
"$WEIR" run --resume "$run" --set trainer.steps=$((steps + 1)) >"$DIR/out" 2>&1 || fail "resume: $(tail -n 5 "$DIR/out")"
[ "$(sort -u <(grep -o '"step":[0-9]*,' "$run/metrics.jsonl") | wc -l)" -ge "$steps" ] || fail "metrics.jsonl lacks steps"
"$WEIR" replay "$run" verify --step $((steps + 1)) || fail "its newest step does not repeat"
no_leftovers "$run"
