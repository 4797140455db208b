#!/bin/sh
# Installs the Debian packages that Weir is built with, by name, only those that are missing. Root only if needed.
set -eu
packages="gcc make pkg-config libzmq3-dev librocksdb-dev libprotobuf-c-dev protobuf-c-compiler protobuf-compiler
libpcre2-dev libyaml-dev libxxhash-dev libutf8proc-dev clang clang-format clang-tidy libclang-rt-14-dev shellcheck"
missing=""
for p in $packages; do
    dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q 'install ok installed' || missing="$missing $p"
done
[ -n "$missing" ] || exit 0
if ! command -v apt-get >/dev/null 2>&1; then
    echo "deps: missing:$missing; install them with this system's package manager, then: make DEPS=0" >&2
    exit 1
fi
sudo=""
if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null 2>&1 || { echo "deps: missing:$missing; run as root: apt-get install$missing" >&2; exit 1; }
    sudo=sudo
fi
echo "deps: installing$missing" >&2
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086
$sudo apt-get install -y --no-install-recommends $missing >/dev/null 2>&1 ||
    { $sudo apt-get update >/dev/null && $sudo apt-get install -y --no-install-recommends $missing >/dev/null; }
