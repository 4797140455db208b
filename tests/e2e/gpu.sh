#!/usr/bin/env bash
# tests/gpu.sh, dry: the script that runs everything on a GPU goes through its parts on the simulated device with tiny
# sizes, out of a bundle as it would carry, writes the JSON, and does not take a missing GPU for a success.
. tests/e2e/common.bash
[ -e "$WEIR_SIM" ] || exit 77
built=$(dirname "$WEIR_SIM")
case $built in *release*) ;; *) echo "only in the release build: minutes with sanitizers" && exit 77 ;; esac
scripts/gpu_bundle.sh "$DIR/bundle" "$WEIR" "$built/weir-test" "$built/weir-bench" weir-cuda.so "$WEIR_SIM" >/dev/null
run() { tests/gpu.sh --bundle "$DIR/bundle" --quick "$@"; }

run --device cudasim:0 --out "$DIR/sim.json" ops golden exact quickstart bench >"$DIR/out" 2>&1 || fail "$(cat "$DIR/out")"
[ "$(grep -c '"result": "passed", "seconds"' "$DIR/sim.json")" = 5 ] || fail "not five parts passed: $(cat "$DIR/sim.json")"
for name in "gpu exact" "gpu layer products" "gpu attention" "gpu decode attention" "gpu head" "gpu adamw with control" \
    "gpu publish" "gpu train" "gpu decode" "gpu prefix" "gpu exact cost"; do
    grep -q "\"bench\": \"$name\"" "$DIR/sim.json" || fail "no line of $name"
done
for of in "layer products, forward" "decode attention" "attention, reverse" "train" "decode"; do # exact against fast
    grep -q "\"of\": \"$of,.*\"exact_cost\": [0-9]" "$DIR/sim.json" || fail "no cost of exactness of $of"
done
for name in "gpu train" "gpu decode" "gpu prefix"; do
    grep -q "\"bench\": \"$name\", \"dtype\": \"bf16\"" "$DIR/sim.json" || fail "$name is not bf16"
done
if command -v python3 >/dev/null; then python3 -m json.tool "$DIR/sim.json" >/dev/null || fail "not JSON"; fi

! run --device cudasim:9 --out "$DIR/none.json" ops exact >"$DIR/out" 2>&1 || fail "passed on a device that is not there"
[ "$(grep -c '"result": "failed", "seconds"' "$DIR/none.json")" = 2 ] || fail "$(cat "$DIR/none.json")"
[ "$(grep -c "device 9 asked for" "$DIR/none.json")" = 2 ] || fail "the reason is not in the JSON: $(cat "$DIR/none.json")"
! run --device cudasim:0 --out "$DIR/x.json" nonsense >"$DIR/out" 2>&1 || fail "an unknown part passed"
