#!/usr/bin/env bash
# What every source file must satisfy. Prints each finding as file:line: message; exit 1 if there is one.
# scripts/lint.sh [OBJECT-DIR]: with objects, symbol prefixes are checked too.
set -u
cd "$(dirname "$0")/.." || exit 1
objects=${1:-}
for tool in clang-format shellcheck nm git; do
    command -v "$tool" >/dev/null || { echo "lint: $tool is not there: deploy/deps.sh tools" >&2 && exit 1; }
done
findings=$(mktemp)
trap 'rm -f "$findings"' EXIT
say() { sed "s|\$| ($1)|" >>"$findings"; }

mapfile -t sources < <(git ls-files '*.c' '*.h' '*.cc' '*.cu' '*.cuh')
mapfile -t own < <(git ls-files '*.c' '*.h' '*.cu' | grep -vE '^(tests|bench)/')
mapfile -t scripts < <(git ls-files '*.sh' '.ci/run')

# Formatting and sizes.
clang-format --dry-run -Werror "${sources[@]}" 2>&1 | grep -E 'error:' | sort -u -t: -k1,1 | say "make fmt"
awk 'length > 100 { print FILENAME ":" FNR ": " length " columns, limit 100" }' "${sources[@]}" | say "line length"
for f in "${sources[@]}"; do
    n=$(wc -l <"$f")
    limit=800
    [[ $f == *.h ]] && limit=200
    [ "$f" = kernels/backend.h ] && limit=300 # one table, kept whole
    [ "$n" -le "$limit" ] || echo "$f:1: $n lines, limit $limit"
done | say "file length"
awk 'FNR == 1 { start = 0 }
    /^[a-zA-Z_].*\{$/ && !/^(struct|enum|union|extern|static const|const|typedef)[^(]*\{$/ && !/=/ { start = FNR }
    /^}/ { if (start && FNR - start + 1 > 70) print FILENAME ":" start ": function of " FNR - start + 1 " lines, limit 70"; start = 0 }' \
    "${sources[@]}" | say "function length"

# Layers: an include may only point to a room (a folder) that is named here.
layer() { # layer ROOM ALLOWED-ROOM...
    local room=$1
    local allowed=$1
    shift
    for a in "$@"; do allowed="$allowed|$a"; done
    git ls-files ":(glob)$room/*.[ch]" ":(glob)$room/*.cu" | xargs -r grep -nE '^#include "' /dev/null |
        grep -vE "#include \"(($allowed)/[^/]+|proto/[a-z]+\.pb-c\.h)\"" | say "layer: $room may include $*"
}
model=(base kernels actor actor/text)
words=(base proto proto/metrics proto/recipe)
layer base
layer proto base
layer proto/metrics base
layer proto/recipe base proto/metrics
layer kernels base
layer kernels/ref base kernels
layer kernels/cpu base kernels kernels/ref
layer kernels/cuda base kernels
layer actor/text base
layer actor base kernels actor/text
layer relay base proto
layer reward/math base
layer reward/verify base proto/recipe reward/math
layer reward "${words[@]}" reward/verify
layer rollout/engine proto "${model[@]}"
layer rollout/setup "${model[@]}" proto/recipe rollout/engine
layer rollout/log "${words[@]}"
layer rollout/manager "${words[@]}" actor actor/text rollout/log rollout/setup
layer rollout "${words[@]}" "${model[@]}" relay rollout/engine rollout/setup
layer trainer/ranks base kernels proto/recipe
layer trainer/optim base kernels proto/recipe actor trainer/ranks
layer trainer/batch base proto actor trainer/ranks
layer trainer/checkpoint base actor trainer/optim
layer trainer/learn base actor proto/metrics proto/recipe trainer/ranks trainer/optim trainer/batch trainer/checkpoint
layer trainer "${words[@]}" actor relay trainer/learn trainer/checkpoint

# No circle of includes, neither of modules (a module is x.c, x.h and x_impl.h) nor of rooms.
includes() { # includes ROOMS: "from to" for each include, of rooms if that is 1, else of modules
    grep -E '^#include "[a-z]' "${own[@]}" | grep -v 'pb-c\.h"' | awk -v rooms="$1" -F'[:"]' '
        function unit(path) {
            sub(rooms ? "/[^/]*$" : "(_impl)?\\.[a-z]+$", "", path)
            return path
        }
        unit($1) != unit($3) { print unit($1), unit($3) }' | sort -u
}
for rooms in 0 1; do
    includes "$rooms" | tsort 2>&1 >/dev/null | awk '
        /contains a loop/ { if (line) print line; line = ""; next }
        { line = (line ? line " -> " : "") $NF }
        END { if (line) print line }' | sed 's/\([^ ]*\)/\1:1: \1/'
done | say "circle of includes"
git ls-files | grep -E '\.(c|cu)$' | grep -vE '^(tests|bench)/' | sed 's|/[^/]*$||' | sort | uniq -c |
    awk '$1 > 25 { print $2 ":1: " $1 " units, limit 25" }' | say "a room that is full needs a second one"

# One place for each foreign library and each dangerous call.
only() { # only PATTERN ALLOWED-FILES-REGEX WHY
    grep -nE "$1" "${own[@]}" /dev/null | grep -vE "^($2):" | say "$3"
}
only '#include <zmq' 'base/net\.c' "zmq.h belongs to base/net.c"
only '#include <rocksdb' 'base/kv\.c' "rocksdb belongs to base/kv.c"
only '#include <yaml' 'base/yaml\.c' "libyaml belongs to base/yaml.c"
only '#include <xxhash' 'base/hash\.c' "xxhash belongs to base/hash.c"
only '(^|[^_a-z])(malloc|calloc|realloc|free|aligned_alloc|strdup|strndup)\(' 'base/mem\.c' "memory comes from base/mem.h"
only '(^|[^_a-z])(strcpy|strcat|sprintf|vsprintf|gets|atoi|atol|atof|rand|srand|strtok|gettimeofday|system|popen)\(' \
    'none' "banned call"
only '(^|[^_a-z])getenv\(' 'deploy/cli/main\.c' "the environment is read in deploy/cli/main.c only"
only '(^|[^_a-z])(printf|puts|putchar)\(|fprintf\(stdout' 'deploy/[a-z_/]+\.c' "stdout belongs to deploy/"
only '\\"[a-z_/.]+\\": ?' '(deploy/cli/cmd_(score|step)\.c|rollout/manager/manager_metrics_file\.h)' \
    "JSON is written by base/json_write.h" # but for help texts, and the begin of a stored line
only "\"($(sed -nE 's|^METRIC\(\w+, "([a-z_]+/[a-z_/]+)".*|\1|p' proto/metrics/metrics.def | paste -sd'|'))\"" none \
    "a metric is written and read by its row (proto/metrics/metrics.h)"
# A service has its clock, its sockets and its chance from base/env. Beside it, what measures how long something took or
# waits for processes of its own still reads the clock: kernels' rendezvous, ranks, publishing, what deploy/ shows.
only '(^|[^_a-z])(clock_(wall_)?us|clock_sleep_us|clock_gettime|usleep|nanosleep)\(' \
    '(base/[a-z_]+|kernels/[a-z_/]+|trainer/(publish|ranks/ranks|learn/(logprob_audit|prefix_cost))|reward/worker_pool|deploy/(cli|progress|supervise|replay)/[a-z_]+|deploy/evaluate/evaluate)\.(c|h|cu)' \
    "a service's clock is its env's"
only '(^|[^_a-z])net_open\(' '(base/(net|env)|deploy/cli/cmd_(run|doctor))\.[ch]' "a service's sockets are its env's"
only 'pthread_mutex' '(base/(queue|log|mem)|kernels/(load|cpu/[a-z_0-9]+))\.c' "threads meet in queues"

# A function with the label out ends in return rc.
awk '/^out:/ { label = FNR } /^}/ { if (label && last !~ /^    return rc;$/) print FILENAME ":" label ": ends in \"" last "\""; label = 0 }
    { last = $0 }' "${own[@]}" | say "a function with the label out must end in return rc"

# A return while a local variable owns memory: what came from mem_*, file_join or file_read, or a struct buf that something
# was put into, and is not given on, freed or closed before TRY or return FAIL.
awk 'FNR == 1 || /^}/ { split("", owned); split("", bufs) }
    {
        for (v in owned)
            if ($0 ~ "(free|close|take)[a-z_]*\\(&?" v "[,)]" || ($0 ~ "(return|=) .*[^a-z_]" v "[,;)]" && !/TRY/)) delete owned[v]
        if (/(^|[^A-Z_])TRY\(|return FAIL/)
            for (v in owned) print FILENAME ":" FNR ": returns with " v " of line " owned[v] " in its hands"
        if (match($0, /^ +struct buf [a-z_]+ = \{/)) { split($0, w, " "); bufs[w[3]] = 1 }
        if (match($0, /[ *][a-z_]+ = (mem_(alloc|zalloc|strdup|strndup|printf|array)|file_join|rundir_file)\(/) && !/(->|\.)[a-z_]+ =/) {
            name = substr($0, RSTART + 1); sub(/ .*/, "", name); owned[name] = FNR
        }
        if (match($0, /file_read\(&[a-z_]+,/)) { name = substr($0, RSTART + 11); sub(/,.*/, "", name); owned[name] = FNR }
        for (v in bufs) if ($0 ~ "[(, ]&" v "[,)]" && $0 !~ "buf_close\\(&" v) owned[v] = FNR
    }' "${own[@]}" | say "memory that is lost"

# Section banners (/* --- text --- */) fit on their line, and struct comments beside a field do not tear it apart.
awk '/^ *\/\* -+ / && !/\*\/$/ { print FILENAME ":" FNR ": a banner that does not end on its line" }' "${sources[@]}" | say "torn banner"

# Names.
git ls-files '*.c' | grep -vE '^(kernels/|tests/)' | sed 's|.*/||' | grep -v '^main\.c$' | sort | uniq -d |
    sed 's|$|:1: two files of this name|' | say "basenames are unique"
if [ -n "$objects" ]; then
    for f in $(git ls-files 'base/*.c' 'proto/*.c' 'actor/*.c' 'relay/*.c' 'reward/*.c' 'rollout/*.c' 'trainer/*.c' 'deploy/*.c'); do
        o=$objects/${f%.c}.o
        [ -e "$o" ] || continue
        base=$(basename "$f" .c)
        folder=$(basename "$(dirname "$f")")
        extra=none
        [ "$f" = trainer/checkpoint/ckpt.c ] && extra=step
        nm -g --defined-only "$o" | awk '{ print $3 }' |
            grep -vE "^(${base}[_0-9]|${base%%_*}_|${folder}_|${extra}_|main\$)|^${base}\$|^__|^_" |
            sed "s|^|$f:1: symbol |"
    done | say "the file's name is the prefix"
fi

# A name that is searched for leads to one place: functions of ten lines and more that are called alike in several files. The
# limit is what there is; it only falls.
awk 'FNR == 1 { start = body = 0 }
    !body && /^[a-zA-Z_].*\(/ && !/^(#|struct [a-z_0-9]+ \{|enum|union|extern|typedef|TEST|__)/ && !/=/ {
        line = $0; sub(/^.*(__attribute__|__launch_bounds__)\(+[^)]*\)+ /, "", line)
        match(line, /[a-zA-Z_0-9]+\(/)
        name = substr(line, RSTART, RLENGTH - 1)
        start = FNR
    }
    !body && start && /;$/ { start = 0 }
    !body && start && /\{$/ { body = 1 }
    /^}/ {
        if (body && FNR - start >= 9 && name !~ /^__/ && !seen[name, FILENAME]++) {
            n[name]++
            where[name] = where[name] sprintf("%s:%d: %s\n", FILENAME, start, name)
        }
        body = start = 0
    }
    END {
        for (name in n) if (n[name] > 1) { names++; all = all where[name] }
        if (names > 20) printf "%s", all
    }' "${own[@]}" | say "defined in several files"

# Words that promise instead of doing, machine paths, shell scripts.
git grep -nIE '\b(TODO|FIXME|XXX|HACK)\b' -- . ':!scripts/lint.sh' | say "finish it or say so in the README"
git grep -nIE '(^|[^.a-z])/(work|farm|root)/' -- . ':!scripts/lint.sh' | say "machine path"
shellcheck -s bash -e SC1091 -f gcc "${scripts[@]}" deploy/deps.sh 2>/dev/null | say "shellcheck"

if [ -s "$findings" ]; then
    sort -u "$findings"
    echo "lint: $(sort -u "$findings" | wc -l) findings"
    exit 1
fi
echo "lint: clean (${#sources[@]} sources, ${#scripts[@]} scripts)"
