#!/usr/bin/env bash
# scripts/gpu_bundle.sh OUT WEIR WEIR-TEST WEIR-BENCH PLUGIN...: a folder that runs on a bare machine with a driver, beside a
# checkout (tests and recipes are read from there): the programs, stripped, the plugins beside them, and in lib/ the shared
# libraries they need that such a machine lacks. tests/gpu.sh uses it.
set -eu
out=$1
shift
rm -rf "$out"
mkdir -p "$out/lib"
for file in "$@"; do
    [ -e "$file" ] || continue
    cp "$file" "$out/"
    strip --strip-debug "$out/$(basename "$file")" 2>/dev/null || true
done
# The C and C++ runtimes are the machine's own: a driver's libraries want those.
for file in "$out"/weir "$out"/weir-test "$out"/weir-bench; do
    ldd "$file" | awk '$3 ~ /^\// { print $3 }'
done | sort -u | grep -vE '/(libc|libm|libdl|librt|libpthread|libresolv|libstdc\+\+|libgcc_s|ld-linux[^/]*|lib[at]san|libubsan)\.so' |
    while read -r library; do cp -L "$library" "$out/lib/"; done
git rev-parse HEAD >"$out/COMMIT" 2>/dev/null || echo unknown >"$out/COMMIT"
[ -z "$(git status --porcelain --untracked-files=no 2>/dev/null)" ] || sed -i 's/$/+/' "$out/COMMIT"
du -sm "$out" | awk '{ print "bundle: " $2 ", " $1 " MB" }'
