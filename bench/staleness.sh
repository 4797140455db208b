#!/bin/bash
# Staleness at several settings of a recipe: measured, its two parts, predicted. Prints the rows of docs/staleness.md.
#   bench/staleness.sh WEIR OUT RECIPE [--set key=value]...
set -eu
weir=$1 out=$2 recipe=$3
shift 3
number() { # number KEY: of the staleness section of stats --json on stdin
    sed -E "s/.*\"staleness\": \{[^}]*\"$1\": (-?[0-9.e-]+).*/\1/"
}
echo "| late | rollouts | bound | concurrency | measured | in flight | in queue | rho | predicted | difference | dropped |"
echo "|---|---|---|---|---|---|---|---|---|---|---|"
for late in wait drop; do
    for workers in 1 2; do
        for concurrency in 4 64; do
            for bound in 0 1 2 4 8; do
                rm -rf "$out"
                "$weir" run "$recipe" --json --out "$out" --set "trainer.staleness.max=$bound" --set "trainer.staleness.late=$late" --set trainer.staleness.hold=max \
                    --set "rollout.workers=$workers" --set "rollout.concurrency=$concurrency" "$@" >"$out.json" 2>"$out.err" ||
                    { cat "$out.err" >&2 && exit 1; }
                stats=$("$weir" replay "$out" stats --json)
                row=""
                for key in mean in_flight in_queue rho predicted difference; do
                    row+=$(printf ' %.2f |' "$(number "$key" <<<"$stats")")
                done
                echo "| $late | $workers | $bound | $concurrency |$row $(number dropped <<<"$stats") |"
            done
        done
    done
done
