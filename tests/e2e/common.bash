# common.bash - shared by the end-to-end scripts: $WEIR is the binary, $DIR an empty directory that the runner removes.
set -eu

fail() {
    echo "FAIL: $*" >&2
    exit 1
}

# A small run on the random tiny model: quick, every service real.
small_run() { # small_run OUT [--set ...]
    local out=$1
    shift
    "$WEIR" run tests/e2e/small.yaml --json --out "$out" "$@"
}

last_hash() { # hash of the weights after the last finished step of a run
    "$WEIR" replay "$1" list --json | grep '"done": true' | tail -n 1 |
        sed -E 's/.*"weights_hash": "([0-9a-f]{32})".*/\1/'
}

children() { # pids of the services of supervisor $1 whose command line matches $2
    local p
    for p in $(pgrep -P "$1" 2>/dev/null); do
        { tr '\0' ' ' <"/proc/$p/cmdline"; } 2>/dev/null | grep -qE -- "^weir ($2) " && echo "$p"
    done
    return 0
}

# Kills a random service among those that match, again and again, while the supervisor lives. Prints how many.
kill_while_running() { # kill_while_running SUPERVISOR-PID PATTERN EVERY-SECONDS
    local n=0 victims
    while kill -0 "$1" 2>/dev/null; do
        sleep "$3"
        mapfile -t victims < <(children "$1" "$2")
        [ "${#victims[@]}" -gt 0 ] || continue
        kill -9 "${victims[RANDOM % ${#victims[@]}]}" 2>/dev/null && n=$((n + 1))
    done
    echo "$n"
}

# Nothing of a run may stay behind: no process with its directory on the command line, no socket.
no_leftovers() { # no_leftovers RUN
    local i
    for ((i = 0; i < 20; i++)); do
        pgrep -f -- "--run $1" >/dev/null || break
        sleep 0.5
    done
    ! pgrep -af -- "--run $1" || fail "processes left behind"
    [ ! -e "$1/ipc" ] || fail "sockets left behind in $1/ipc"
}
