#!/usr/bin/env bash
# Runs every tests/fuzz/*_fuzz.c under libFuzzer with the address and undefined sanitizers:
#   tests/fuzz/run.sh SECONDS [NAME...]
# Starts from tests/fuzz/corpus/NAME; what is found new goes to build/fuzz/corpus/NAME. A crash leaves its
# input in build/fuzz and ends with status 1. The sources go into one archive, so a fuzzer links what it uses.
set -eu
cd "$(dirname "$0")/../.."
seconds=${1:-60}
shift || true
dir=build/fuzz
flags=(-std=c11 -D_GNU_SOURCE -O1 -g -fno-omit-frame-pointer -ffp-contract=off -I. -Ibuild/gen
    "-fsanitize=fuzzer-no-link,address,undefined" -fno-sanitize-recover=undefined)
mkdir -p "$dir/obj"
make -s build/release/weir-test # the generated protobuf sources
compile() { # compile SOURCE: skipped when the object is newer than every source and header
    local o
    o=$dir/obj/$(echo "$1" | tr / _).o
    [ -e "$o" ] && [ -z "$(find base proto kernels actor reward trainer "$1" -newer "$o" -name '*.[ch]' -print -quit)" ] && return
    clang "${flags[@]}" -c -o "$o" "$1"
}
export -f compile
sources=(base/*.c proto/*.c build/gen/*/*.c actor/*.c reward/*.c kernels/*.c kernels/ref/*.c trainer/batch/batch.c)
for s in "${sources[@]}"; do
    [ -e "$s" ] || continue
    compile "$s" &
    while [ "$(jobs -rp | wc -l)" -ge 2 ]; do wait -n; done
done
wait
rm -f "$dir/all.a"
ar rcs "$dir/all.a" "$dir"/obj/*.o
failed=0
for f in tests/fuzz/*_fuzz.c; do
    name=$(basename "$f" _fuzz.c)
    if [ $# -gt 0 ] && [[ " $* " != *" $name "* ]]; then continue; fi
    clang "${flags[@]}" -fsanitize=fuzzer -o "$dir/$name" "$f" "$dir/all.a" -Wl,--as-needed \
        -lzmq -lrocksdb -lprotobuf-c -lpcre2-8 -lyaml -lxxhash -lutf8proc -ldl -lpthread -lm
    mkdir -p "$dir/corpus/$name"
    seeds=()
    [ -d "tests/fuzz/corpus/$name" ] && seeds=("tests/fuzz/corpus/$name")
    echo "fuzz: $name, $seconds s"
    "$dir/$name" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=3000 -max_len=65536 -print_final_stats=1 \
        -artifact_prefix="$dir/$name-" "$dir/corpus/$name" "${seeds[@]}" >"$dir/$name.log" 2>&1 || {
        failed=1
        tail -40 "$dir/$name.log"
    }
    grep -E 'number_of_executed_units|new_units_added' "$dir/$name.log" || true
done
exit "$failed"
