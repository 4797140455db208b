#!/bin/sh
# Installs the Debian packages that Weir needs, by name, only those that are missing. Root only if something is.
#   deploy/deps.sh         what builds, runs and tests it
#   deploy/deps.sh tools   and what `make lint`, `make fmt` and `make fuzz` use
set -eu
packages="gcc g++ libc6-dev make libzmq3-dev librocksdb-dev libprotobuf-c-dev protobuf-c-compiler
libpcre2-dev libyaml-dev libxxhash-dev libutf8proc-dev procps"
[ "${1:-}" != tools ] ||
    packages="$packages binutils git clang clang-format libclang-rt-dev shellcheck"
if ! command -v dpkg-query >/dev/null 2>&1 || ! command -v apt-get >/dev/null 2>&1; then
    echo "deps: no apt-get here; install what these Debian packages hold, then: make DEPS=0" >&2
    echo "$packages" >&2
    exit 1
fi
missing=""
for p in $packages; do
    dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q 'install ok installed' || missing="$missing $p"
done
[ -n "$missing" ] || exit 0
install="apt-get install -y --no-install-recommends$missing"
sudo=""
if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null 2>&1 || { echo "deps: packages are missing; as root: $install" >&2; exit 1; }
    sudo=sudo
fi
echo "deps: $sudo $install" | tr -s ' ' >&2
export DEBIAN_FRONTEND=noninteractive
# The first try does without the network where the lists of packages are there; the second says what is wrong.
# shellcheck disable=SC2086
$sudo $install >/dev/null 2>&1 || { $sudo apt-get update >/dev/null && $sudo $install >/dev/null; } || {
    echo "deps: that failed; with the packages there under other names: make DEPS=0" >&2
    exit 1
}
