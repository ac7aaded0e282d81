#!/bin/sh
# Installs the greeting below MUSTER_ROOT (by default `/`).
set -eu
bin="${MUSTER_ROOT%/}/usr/local/bin"
mkdir -p "$bin"
cp greeting.sh "$bin/muster-hello.new"
chmod 755 "$bin/muster-hello.new"
mv "$bin/muster-hello.new" "$bin/muster-hello"
[ "${1:-}" = --quiet ] || echo "installed $bin/muster-hello"
